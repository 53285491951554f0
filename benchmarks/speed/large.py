"""Large networks in ParaView's real window: how soon they are seen, how well they can be turned.

The window is on a screen that nobody sees, drawn without a graphics card. It needs Xvfb and
xdotool.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.speed.rows import Row, main
from tensorview.run_lock import RunLock
from tensorview.steering import send
from tests.doubles import free_port, wait_until
from tests.gui.desk import PAGE, Desk, page, quarters

TRAINING = Path(__file__).parent / "large_training.py"
HANG_SECONDS = 180.0
LEAST_INK = 0.02
"""Share of a view's pixels that are not paper where there is a picture."""
WEIGHTS_TAB = (486, 189)
TURN_FROM, TURN_TO = (800, 500), (1000, 600)
MOVES = 60
COUNT = """
import sys
sys.drawn = 0
def count(*_):
    sys.drawn += 1
window.tabs._displays["weights"][0].view.GetRenderWindow().AddObserver("EndEvent", count)
found = 0
"""
DRAWN = "import sys; found = sys.drawn"


def measure(*, quick: bool) -> Iterator[Row]:
    """First picture, and pictures a second while a view is turned, of ResNet-50 and VGG16."""
    networks = {"ResNet20": 32} if quick else {"ResNet50": 224, "vgg16": 224}
    for name, side in networks.items():
        with beside(name, side=side) as seen:
            yield from looked_at(seen, seconds=1.0 if quick else 5.0)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A network in training, and the window on it.

    Attributes:
        network: its name, and the side of its images.
        desk: with the window.
        run: directory of the training.
        captured_at: when the first capture was taken, by the monotonic clock.
        empty: memory of ParaView before there was anything to see, in MiB.
    """

    network: str
    desk: Desk
    run: Path
    captured_at: float
    empty: float


@contextlib.contextmanager
def beside(name: str, *, side: int) -> Iterator[Seen]:
    """Train the network of that name on images of *side* x *side* beside a window."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Desk(Path(folder), "--port", port := free_port()) as desk,
    ):
        desk.wait_until_ready(seconds=HANG_SECONDS)
        empty = desk.memory()
        run = Path(folder) / "run"
        with training(name, side, run, port) as captured_at:
            network = f"{name} at {side} x {side}"
            yield Seen(network=network, desk=desk, run=run, captured_at=captured_at, empty=empty)


def looked_at(seen: Seen, *, seconds: float) -> Iterator[Row]:
    """Wait for a picture of all four views, pause, and turn the weights for so long."""
    desk = seen.desk
    wait_until(
        lambda: min(map(ink, quarters(desk.shot()))) > LEAST_INK,
        seconds=HANG_SECONDS,
        what="four views with a picture",
    )
    first = time.monotonic() - seen.captured_at
    send(seen.run, "pause", origin="benchmark")
    clicked = time.monotonic()
    desk.click(*WEIGHTS_TAB)
    wait_until(
        lambda: ink(desk.shot()[page(desk.shot())]) > LEAST_INK,
        seconds=HANG_SECONDS,
        what="the tab of weights",
    )
    tab = time.monotonic() - clicked
    time.sleep(seconds)  # until the training pauses
    desk.ask(COUNT)
    turned = turn(desk, seconds=seconds)
    drawn = desk.ask(DRAWN)
    name = seen.network.split()[0]
    yield Row(
        number=f"15 {name}",
        work=f"{seen.network}, trained beside the window: "
        "first capture to the first picture of four views",
        value=first,
        unit="s",
        target=5.0,
        figures={
            "another tab, first time [s]": tab,
            "ParaView before [MiB]": seen.empty,
            "ParaView [MiB]": desk.memory(),
        },
    )
    yield Row(
        number=f"15 {name}, turning",
        work=f"{name}, training paused: pictures a second while its weights are turned",
        value=drawn / turned,
        unit="/s",
        target=5.0,
        at_least=True,
    )


@contextlib.contextmanager
def training(name: str, side: int, run: Path, port: int) -> Iterator[float]:
    """Train until the end of the block; yield when the first capture had been taken."""
    command = [sys.executable, TRAINING, name, side, run, port]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield float(process.stdout.readline())
        finally:
            process.kill()
            process.wait()
            RunLock(run).close()  # once its file worker has written what it held


def ink(area: np.ndarray) -> float:
    """Share of pixels that are not paper."""
    return float((np.abs(area.astype(int) - PAGE).max(axis=2) > 30).mean())


def turn(desk: Desk, *, seconds: float) -> float:
    """Drag over the view; return how long that took."""
    began = time.monotonic()
    desk.xdotool("mousemove", *TURN_FROM, "mousedown", 1)
    for move in range(1, MOVES + 1):
        place = np.array(TURN_FROM) + move / MOVES * np.subtract(TURN_TO, TURN_FROM)
        desk.xdotool("mousemove", *place.astype(int))
        time.sleep(max(0.0, began + move * seconds / MOVES - time.monotonic()))
    elapsed = time.monotonic() - began
    desk.xdotool("mouseup", 1)
    return elapsed


if __name__ == "__main__":
    main(measure)
