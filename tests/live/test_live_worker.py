"""The live worker, real ParaView on both ends: whatever the viewer does, publishing never waits."""

import contextlib
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.doubles import Listener, SlowWire, Viewer, free_port, open_live, wait_until
from tests.snapshots import make_layer, make_snapshot

pytestmark = pytest.mark.paraview


def snapshot(index):
    return make_snapshot(np.random.default_rng(index), step=50 * (4 + index))


@contextlib.contextmanager
def live_outputs(tmp_path, port, **options):
    outputs = open_live(tmp_path, port=port, **options)
    try:
        yield outputs
    finally:
        outputs.close()


def publish_until(outputs, condition, *, seconds, what, first=0):
    """Publish ten snapshots a second until *condition*; return how long the longest took."""
    deadline, index, longest = time.monotonic() + seconds, first, 0.0
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        started = time.monotonic()
        outputs.publish(snapshot(index))
        longest = max(longest, time.monotonic() - started)
        index += 1
        time.sleep(0.1)
    return longest


def is_alive(pid):
    """Whether a process runs, and has not just not been waited for."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_l4_a_viewer_may_come_go_and_come_back(tmp_path):
    """Frames arrive at a viewer that comes late, and again at the next one on the same port."""
    port = free_port()
    with live_outputs(tmp_path, port) as outputs:
        outputs.publish(snapshot(0))
        with Viewer(tmp_path, port=port) as first:
            publish_until(outputs, lambda: len(first.steps()) >= 3, seconds=20, what="frames")
            first.kill()
        with Viewer(tmp_path, port=port) as second:
            publish_until(
                outputs,
                lambda: len(second.steps()) >= 3,
                seconds=20,
                what="frames again",
                first=100,
            )

        assert outputs.workers["live"].state == "connected"


def test_l10_a_viewer_that_comes_late_gets_the_current_frame(tmp_path):
    """Between two captures a viewer that has just come is shown the last one, not nothing."""
    port = free_port()
    with live_outputs(tmp_path, port) as outputs:
        outputs.publish(snapshot(7))
        with Viewer(tmp_path, port=port) as viewer:
            wait_until(lambda: viewer.steps() == [550], seconds=20, what="the current frame")


def test_l2_a_frozen_viewer_never_holds_the_publisher(tmp_path):
    """With the viewer stopped, publishing takes no longer and the newest frame is shown after."""
    port = free_port()
    with live_outputs(tmp_path, port) as outputs, Viewer(tmp_path, port=port) as viewer:
        publish_until(outputs, lambda: len(viewer.steps()) >= 2, seconds=20, what="frames")
        pid = outputs.workers["live"].pid
        viewer.freeze()
        longest, dropped = 0.0, outputs.workers["live"].dropped
        for index in range(200, 230):
            started = time.monotonic()
            outputs.publish(snapshot(index))
            longest = max(longest, time.monotonic() - started)
            time.sleep(0.1)

        assert longest < 0.5
        assert outputs.workers["live"].dropped > dropped
        viewer.thaw()
        wait_until(lambda: viewer.steps()[-1:] == [50 * 233], seconds=10, what="the newest frame")
        assert outputs.workers["live"].pid == pid


def test_l5_a_silent_listener_never_holds_the_publisher(tmp_path):
    """Something on the port that never answers blocks the worker, not us; closing is quick."""
    port = free_port()
    with Listener(port=port) as listener:
        with live_outputs(tmp_path, port) as outputs:
            longest = publish_until(
                outputs, lambda: len(listener.accepted) > 0, seconds=20, what="a connection"
            )
            for index in range(100, 120):
                started = time.monotonic()
                outputs.publish(snapshot(index))
                longest = max(longest, time.monotonic() - started)
            started = time.monotonic()
        closing = time.monotonic() - started

    assert longest < 0.5
    assert closing < 6.0


def test_l7_a_killed_worker_is_started_again(tmp_path):
    """A live worker that dies is replaced, and the viewer gets frames again."""
    port = free_port()
    with live_outputs(tmp_path, port) as outputs, Viewer(tmp_path, port=port) as viewer:
        publish_until(outputs, lambda: len(viewer.steps()) >= 2, seconds=20, what="frames")
        pid = outputs.workers["live"].pid
        outputs.publish(snapshot(200))
        # ParaView's own end aborts over half a frame.
        wait_until(lambda: viewer.steps()[-1] == 50 * 204, seconds=20, what="the last frame")
        os.kill(pid, signal.SIGKILL)
        count = len(viewer.steps())
        publish_until(
            outputs, lambda: len(viewer.steps()) > count + 1, seconds=20, what="more", first=300
        )

        assert outputs.workers["live"].pid != pid


def test_auto_starts_no_worker_before_a_viewer_listens(tmp_path):
    """Nobody pays for a ParaView that nobody watches; the worker comes with the viewer."""
    port = free_port()
    with live_outputs(tmp_path, port, at_once=False) as outputs:
        outputs.publish(snapshot(0))

        assert outputs.workers == {}
        with Viewer(tmp_path, port=port) as viewer:
            publish_until(outputs, lambda: len(viewer.steps()) >= 2, seconds=20, what="frames")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import nothing_of_that_name", "failed: ModuleNotFoundError: No module named"),
        ("def catalyst_execute(info):\n    1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("print('no function')", "did not run: it needs a function catalyst_execute(info)"),
    ],
)
def test_l8_a_broken_catalyst_script_is_named(tmp_path, script, message):
    """ParaView turns a failing script into a silent no-op; we say what failed, and why."""
    path = tmp_path / "own_pipeline.py"
    path.write_text(f"# script-version: 2.0\nfrom paraview import catalyst\n{script}\n")
    with live_outputs(tmp_path, free_port(), pipeline=path) as outputs:
        worker = outputs.workers["live"]
        publish_until(outputs, lambda: bool(worker.last_fault), seconds=20, what="a fault")

        assert "own_pipeline.py" in worker.last_fault
        assert message in worker.last_fault


def test_l9_the_live_worker_ends_with_its_parent(tmp_path):
    """When the training process is killed, its live worker is gone at once."""
    pid = os.fork()
    if pid == 0:
        worker = open_live(tmp_path, port=free_port()).workers["live"]
        while not worker._said:  # what it says as soon as it serves
            worker.poll()
            time.sleep(0.1)
        (tmp_path / "pid").write_text(str(worker.pid))
        time.sleep(60)
        os._exit(0)
    wait_until((tmp_path / "pid").exists, seconds=40, what="the worker")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    worker = int((tmp_path / "pid").read_text())

    wait_until(lambda: not is_alive(worker), seconds=5, what="its end")


def large_snapshot(step):
    """12 MiB as a frame: more than a socket takes in one piece, 4 MiB on Linux."""
    rng = np.random.default_rng(0)
    layer = make_layer(rng, filters=32, map_size=(80, 80))
    return make_snapshot(rng, layers=[layer], step=step, form="cells")


@contextlib.contextmanager
def held_in_a_frame(tmp_path, viewer):
    """A training whose worker is in the middle of a frame, and cannot go on.

    Yields the training's and the worker's process id, and the wire. The training closes its outputs
    when there is a file ``close``.
    """
    wire = SlowWire(to=viewer.port)
    training = os.fork()
    if training == 0:
        outputs = open_live(tmp_path, port=wire.port)
        (tmp_path / "pid").write_text(str(outputs.workers["live"].pid))
        for step in range(50, 100_000, 50):
            outputs.publish(large_snapshot(step))
            time.sleep(0.1)
            if (tmp_path / "close").exists():
                break
        outputs.close()
        os._exit(0)
    with wire:
        try:
            wait_until(lambda: len(viewer.steps()) >= 2, seconds=30, what="frames")
            wire.hold(after=2**20)
            assert wire.held.wait(20)
            yield training, int((tmp_path / "pid").read_text()), wire
        finally:
            os.kill(training, signal.SIGKILL)  # which nobody has waited for, ended or not
            os.waitpid(training, 0)


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_l9_a_viewer_outlives_a_training_that_ends_while_a_frame_is_sent(tmp_path, end):
    """ParaView aborts over half a message: so the worker first sends the rest."""
    port = free_port()
    with Viewer(tmp_path, port=port) as viewer:
        with held_in_a_frame(tmp_path, viewer) as (training, worker, wire):
            if end == "killed":
                os.kill(training, signal.SIGKILL)
            else:
                (tmp_path / "close").touch()
            wait_until(lambda: not is_alive(training), seconds=10, what="the end of the training")
            wire.let_go()
            wait_until(lambda: not is_alive(worker), seconds=10, what="the end of the worker")
        with live_outputs(tmp_path, port) as outputs:
            shown = len(viewer.steps())
            publish_until(
                outputs, lambda: len(viewer.steps()) > shown + 1, seconds=20, what="the next"
            )


def test_l9_a_worker_that_is_held_in_a_frame_does_not_stay(tmp_path):
    """After its training it has 10 s to send the rest, however long the viewer takes."""
    with (
        Viewer(tmp_path, port=free_port()) as viewer,
        held_in_a_frame(tmp_path, viewer) as (training, worker, _),
    ):
        os.kill(training, signal.SIGKILL)
        time.sleep(2.0)

        assert is_alive(worker)
        wait_until(lambda: not is_alive(worker), seconds=10, what="the end of the worker")
