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
from pathlib import Path

import numpy as np

from benchmarks.speed.rows import Row, main
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
IS_READY = "found = window is not None"
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
    networks = {"ResNet50": 32 if quick else 224} | ({} if quick else {"vgg16": 224})
    for name, side in networks.items():
        yield from in_window(name, side=side, seconds=1.0 if quick else 5.0)


def in_window(name: str, *, side: int, seconds: float) -> Iterator[Row]:
    """Train the network of that name on images of *side* x *side*; turn its weights."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Desk(Path(folder), "--port", port := free_port()) as desk,
    ):
        wait_until(lambda: desk.ask(IS_READY), seconds=HANG_SECONDS, what="the window")
        empty = desk.memory()
        with training(name, side, Path(folder) / "run", port) as captured_at:
            wait_until(
                lambda: min(map(ink, quarters(desk.shot()))) > LEAST_INK,
                seconds=HANG_SECONDS,
                what="four views with a picture",
            )
            first = time.monotonic() - captured_at
            send(Path(folder) / "run", "pause", origin="benchmark")
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
            memory = desk.memory()
    work = f"{name} at {side} x {side}, trained beside the window"
    yield Row(
        number=f"15 {name}",
        work=f"{work}: first capture to the first picture of four views",
        value=first,
        unit="s",
        target=5.0,
        figures={
            "another tab, first time [s]": tab,
            "ParaView before [MiB]": empty,
            "ParaView [MiB]": memory,
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
