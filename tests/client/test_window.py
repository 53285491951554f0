"""The whole window in ParaView, without its frame: live, replayed, and one after another."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from tensorview.client.paraview import find_paraview
from tensorview.launch import BOOTSTRAP
from tensorview.run import Run
from tensorview.worker.datasets import arrays
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tests.doubles import free_port, open_live, virtual_display, wait_until
from tests.snapshots import make_layer, make_snapshot

pytestmark = pytest.mark.paraview

SCRIPT = Path(__file__).with_name("window_in_paraview.py")
STEPS = (50, 100, 150)


class OpenWindow:
    """A window that prints what it shows. A context manager.

    Args:
        folder: for its log.
        options: of `tensorview.client.window.window.open_window`, and ``steps`` to go to.
    """

    def __init__(self, folder, *, port=0, run_dir="", steps=()):
        self._stack = contextlib.ExitStack()
        self._path = folder / "window.txt"
        self._options = {
            "port": port,
            "run_dir": str(run_dir),
            "steps": list(steps),
            "log_path": str(folder / "faults.log"),
        }
        self.faults = folder / "faults.log"

    def __enter__(self):
        display = self._stack.enter_context(virtual_display())
        out = self._stack.enter_context(self._path.open("wb"))
        self.process = subprocess.Popen(
            [find_paraview().pvpython, SCRIPT, BOOTSTRAP, json.dumps(self._options)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DISPLAY": display},
        )
        self._stack.callback(self._end)
        try:
            wait_until(
                lambda: "listening" in self._path.read_text(), seconds=60, what=self._path.read_text
            )
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _end(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _said(self):
        lines = self._path.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def frames(self):
        """What was shown so far, in order."""
        return [message for message in self._said() if message.get("step", -1) >= 0]

    def status(self):
        """What is said of the connection, empty while all is as it should be."""
        return next((said["status"] for said in reversed(self._said()) if "status" in said), "")

    def wait_for(self, step):
        """Wait until *step* is shown; return what was shown of it."""
        wait_until(
            lambda: any(frame["step"] == step for frame in self.frames()),
            seconds=60,
            what=lambda: f"step {step}; shown: {[frame['step'] for frame in self.frames()]}",
        )
        return next(frame for frame in self.frames() if frame["step"] == step)


def snapshots(*, steps=STEPS):
    """Two layers, the first of which loses two of its six filters in the end."""
    rng = np.random.default_rng(0)
    first, second = (make_layer(rng, name=name) for name in ("conv1", "conv2"))
    pruned = make_layer(rng, name="conv1", filters=4, removed=2)
    layers = [(first, second), (first, second), (pruned, second)]
    return [
        make_snapshot(rng, layers=shown, step=step)
        for shown, step in zip(layers, steps, strict=True)
    ]


def expected(frame):
    """Checksums of the cell and point arrays that the views of a frame hold."""
    found = {}
    for channel, dataset in frame.datasets.items():
        if dataset.IsA("vtkMultiBlockDataSet"):
            continue
        for attributes in (dataset.GetCellData(), dataset.GetPointData()):
            for name, values in arrays(attributes).items():
                found[f"{channel} 0 {name}"] = zlib.crc32(values.tobytes())
    return found


def without_frames(values):
    """Leave out the maps, whose frames the window shows apart."""
    return {name: value for name, value in values.items() if not name.startswith("maps ")}


@contextlib.contextmanager
def training(folder, *, port):
    """Yield the outputs of a training that has a live viewer."""
    outputs = open_live(folder, port=port)
    try:
        yield outputs
    finally:
        outputs.close()


@pytest.fixture(scope="module")
def listening(tmp_path_factory):
    """Yield a window that waits for trainings, and its port.

    Each test has steps of its own: what was shown is not forgotten.
    """
    port = free_port()
    with OpenWindow(tmp_path_factory.mktemp("listening"), port=port) as window:
        yield window, port


def test_live_and_replay_show_what_was_made(tmp_path, listening):
    """At each step every view holds the arrays of memory bit for bit, live and from files."""
    run = Run.create(tmp_path / "run", settings={}).path
    frames = {frame.step: frame for frame in map(make_frame, snapshots())}
    sink = FileSink(run, formats=("vtp",))
    for frame in frames.values():
        sink.write(frame)
    sink.close()
    window, port = listening
    with training(tmp_path, port=port) as outputs:
        for snapshot in snapshots():
            outputs.publish(snapshot)
            window.wait_for(snapshot.step)
    live = {frame["step"]: frame["values"] for frame in window.frames()}
    assert not window.faults.exists(), window.faults.read_text()
    with OpenWindow(tmp_path, run_dir=run, steps=STEPS) as replaying:
        for step in STEPS:
            replaying.wait_for(step)
        replayed = {frame["step"]: frame["values"] for frame in replaying.frames()}
        assert not replaying.faults.exists(), replaying.faults.read_text()

    for step in STEPS:
        assert without_frames(live[step]) == without_frames(expected(frames[step]))
        assert replayed[step] == live[step]


def test_one_training_after_another_reaches_the_same_window(tmp_path, listening):
    """Also after a worker that was killed in the middle of a run."""
    window, port = listening
    first, second, third = snapshots(steps=(1050, 1100, 1150))
    with training(tmp_path, port=port) as outputs:
        outputs.publish(first)
        window.wait_for(first.step)
        os.kill(outputs.workers["live"].pid, signal.SIGKILL)
        outputs.publish(second)
    with training(tmp_path, port=port) as outputs:
        outputs.publish(third)
        window.wait_for(third.step)

    assert not window.faults.exists(), window.faults.read_text()


def test_a_port_that_somebody_took_between_two_trainings_is_named(tmp_path, listening):
    """The window says so instead of waiting in silence, and listens again once it is free."""
    window, port = listening
    before, after = (dataclasses.replace(snapshots()[0], step=step) for step in (2050, 2100))
    with training(tmp_path, port=port) as outputs:
        outputs.publish(before)
        window.wait_for(before.step)
        # While a training is connected, nobody listens on the port.
        taken = socket.create_server(("", port))
    with taken:
        wait_until(
            lambda: window.status() == f"Cannot listen on port {port}: Address already in use.",
            seconds=60,
            what=lambda: f"the sentence; said: {window.status()}",
        )
    wait_until(
        lambda: window.status() == f"waiting for a training on port {port}",
        seconds=60,
        what=lambda: f"the window to wait; said: {window.status()}",
    )
    with training(tmp_path, port=port) as outputs:
        outputs.publish(after)
        window.wait_for(after.step)

    assert not window.faults.exists(), window.faults.read_text()
