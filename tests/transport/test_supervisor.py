"""Workers may die, hang or lag: the training process bounds what that costs, and counts it."""

import contextlib
import errno
import importlib
import logging
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tensorview import encoding, restarts, supervisor
from tensorview.outputs import Outputs
from tensorview.run import Run
from tensorview.snapshot import to_table
from tensorview.worker import main
from tests.doubles import open_files, wait_until
from tests.snapshots import make_snapshot


def snapshot(index):
    return make_snapshot(np.random.default_rng(index), step=50 * (4 + index))


@contextlib.contextmanager
def file_outputs(tmp_path):
    path = Run.create(tmp_path / "run", settings={"name": "test"}).path
    outputs = Outputs(run_path=path, formats=("vtp",), live=None, pipeline=None, paraview=None)
    try:
        yield outputs
    finally:
        outputs.close()


def delivered(outputs, count):
    def enough():
        outputs.poll()
        return outputs.workers["files"].delivered >= count

    return enough


def steps(tmp_path):
    return list(Run.open(tmp_path / "run").steps())


def test_every_snapshot_is_written_in_order(tmp_path):
    """Closing waits for the queue; nothing is dropped."""
    with file_outputs(tmp_path) as outputs:
        for index in range(30):
            outputs.publish(snapshot(index))
    worker = outputs.workers["files"]

    assert steps(tmp_path) == [50 * (4 + index) for index in range(30)]
    assert (worker.state, worker.delivered, worker.dropped) == ("closed", 30, 0)


def test_f1_a_killed_file_worker_loses_nothing(tmp_path):
    """What was handed over to a worker that dies is offered to the next one."""
    with file_outputs(tmp_path) as outputs:
        worker = outputs.workers["files"]
        outputs.publish(snapshot(0))
        wait_until(delivered(outputs, 1), seconds=20, what="the first file")
        for index in range(1, 20):
            outputs.publish(snapshot(index))
            if index == 10:
                os.kill(worker.pid, signal.SIGKILL)
        wait_until(delivered(outputs, 20), seconds=30, what="all files")

    assert steps(tmp_path) == [50 * (4 + index) for index in range(20)]
    assert worker.dropped == 0


def test_f1_a_worker_killed_just_before_the_end_loses_nothing(tmp_path):
    """Closing starts a dead file worker once more, for what it had not written."""
    with file_outputs(tmp_path) as outputs:
        worker = outputs.workers["files"]
        os.kill(worker.pid, signal.SIGSTOP)
        for index in range(5):
            outputs.publish(snapshot(index))
        os.kill(worker.pid, signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)

    assert steps(tmp_path) == [200, 250, 300, 350, 400]


def test_a_worker_comes_after_the_training(tmp_path):
    """Its niceness counts against the training's, although it has a session of its own."""
    with file_outputs(tmp_path) as outputs:
        outputs.publish(snapshot(0))
        wait_until(delivered(outputs, 1), seconds=20, what="the first file")
        pid = outputs.workers["files"].pid
        niceness = os.getpriority(os.PRIO_PROCESS, pid)
        autogroup = Path(f"/proc/{pid}/autogroup")
        of_session = autogroup.read_text().split()[-1] if autogroup.exists() else "10"

    assert niceness == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    assert of_session == "10"


def test_a_change_of_another_session_is_waited_for(monkeypatch):
    """Of all who are not root, the kernel takes one change in a tenth of a second."""
    answers = iter([BlockingIOError(11, "Resource temporarily unavailable")] * 3)
    written = []

    class Autogroup:
        def write_text(self, text):
            for error in answers:
                raise error
            written.append(text)

    monkeypatch.setattr(main, "AUTOGROUP", Autogroup())
    monkeypatch.setattr(main, "AUTOGROUP_SECONDS", 0.0)
    monkeypatch.setattr(os, "nice", written.append)

    main.step_back(7)

    assert written == [7, "7"]


def test_a_snapshot_is_encoded_once_for_all_workers_and_not_for_a_full_queue(tmp_path, monkeypatch):
    """What is asked of the training's time is not asked twice, nor in vain."""
    encoded = []

    def counted(given):
        encoded.append(given.step)
        return to_table(given)

    monkeypatch.setattr(encoding, "to_table", counted)
    monkeypatch.setattr(supervisor, "FILES_SLOTS", 2)
    monkeypatch.setattr(supervisor, "STALL_SECONDS_PER_MINUTE", 0.0)
    with file_outputs(tmp_path / "one") as one, file_outputs(tmp_path / "two") as two:
        one.workers["other"] = two.workers["files"]
        os.kill(one.workers["files"].pid, signal.SIGSTOP)
        os.kill(two.workers["files"].pid, signal.SIGSTOP)
        for index in range(5):
            one.publish(snapshot(index))
        del one.workers["other"]
        os.kill(one.workers["files"].pid, signal.SIGCONT)
        os.kill(two.workers["files"].pid, signal.SIGCONT)

    assert encoded == [200, 250]


def test_p2_a_hung_file_worker_holds_the_training_one_second_a_minute(
    tmp_path, caplog, monkeypatch
):
    """Then captures are dropped, counted, and logged as an error once; closing gives up soon."""
    monkeypatch.setattr(supervisor, "FILES_SLOTS", 4)
    with file_outputs(tmp_path) as outputs:
        worker = outputs.workers["files"]
        os.kill(worker.pid, signal.SIGSTOP)
        started = time.monotonic()
        for index in range(20):
            outputs.publish(snapshot(index))
        held = time.monotonic() - started
        started = time.monotonic()
    closing = time.monotonic() - started

    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert 0.9 < held < 2.0
    assert closing < 5.0
    assert worker.dropped == 20
    assert len(errors) == 2
    assert errors[0].startswith("The files worker does not keep up: snapshots are dropped")
    assert errors[1] == "The files worker left 4 captures unwritten."


def test_l7_five_crashes_in_a_row_end_a_worker(tmp_path, caplog, monkeypatch):
    """One ERROR with its last words; the training goes on, and what is lost is counted."""
    monkeypatch.setattr(restarts, "CRASH_SECONDS", 0.05)
    path = Run.create(tmp_path / "run", settings={"name": "test"}).path
    outputs = Outputs(run_path=path, formats=("vtp",), live=None, pipeline=None, paraview=None)
    worker = outputs.workers["files"]
    (path / "run.json").unlink()  # every worker now fails at its start
    os.kill(worker.pid, signal.SIGKILL)

    def failed():
        outputs.publish(snapshot(0))
        return worker.state == "failed"

    wait_until(failed, seconds=60, what="the end of the worker")
    outputs.publish(snapshot(1))
    outputs.close()

    errors = [r.getMessage() for r in caplog.records if "5 times in a row" in r.getMessage()]
    assert len(errors) == 1
    assert "run.json" in errors[0]
    assert worker.delivered == 0
    assert worker.dropped > 0


def test_a_frame_that_cannot_be_written_is_one_lost_capture(tmp_path, caplog):
    """The worker stays, later captures are written, the loss is counted and logged once."""
    with file_outputs(tmp_path) as outputs:
        outputs.publish(snapshot(0))
        wait_until(delivered(outputs, 1), seconds=20, what="the first file")
        weights = tmp_path / "run" / "weights"
        weights.rename(tmp_path / "elsewhere")
        weights.write_text("in the way")
        for index in (1, 2):
            outputs.publish(snapshot(index))
        worker = outputs.workers["files"]

        def both_lost():
            outputs.poll()
            return worker.dropped == 2

        wait_until(both_lost, seconds=20, what="two losses")
        weights.unlink()
        (tmp_path / "elsewhere").rename(weights)
        outputs.publish(snapshot(3))

    assert steps(tmp_path) == [200, 350]
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1


def test_f1_the_file_worker_outlives_a_killed_parent_only_to_finish(tmp_path):
    """After SIGKILL of the training, what was handed over is written, then the worker ends."""
    path = Run.create(tmp_path / "run", settings={"name": "test"}).path
    pid = os.fork()
    if pid == 0:
        outputs = Outputs(run_path=path, formats=("vtp",), live=None, pipeline=None, paraview=None)
        for index in range(20):
            outputs.publish(snapshot(index))
        (tmp_path / "pid").write_text(str(outputs.workers["files"].pid))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    worker = int((tmp_path / "pid").read_text())

    wait_until(
        lambda: not os.path.exists(f"/proc/{worker}"),  # noqa: PTH110  # a path of the kernel's
        seconds=12,
        what="the worker's end",
    )
    assert len(steps(tmp_path)) == 20


def test_p4_a_capture_that_comes_after_the_end_has_begun_is_counted(tmp_path, caplog):
    """Such as of a training in a thread, while the interpreter ends: one ERROR."""
    with file_outputs(tmp_path) as outputs:
        outputs.publish(snapshot(0))
        outputs.end()
        outputs.publish(snapshot(1))
        outputs.publish(snapshot(2))
    worker = outputs.workers["files"]

    assert (worker.delivered, worker.dropped) == (1, 2)
    assert [record.getMessage() for record in caplog.records] == [
        "Captures from step 250 on come too late: we close."
    ]


def test_p7_ctrl_c_amid_the_end_leaves_no_worker(tmp_path, monkeypatch):
    """Whenever it comes, each worker is ended, and all descriptors are given back."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = open_files()
    with pytest.raises(KeyboardInterrupt), file_outputs(tmp_path) as outputs:
        monkeypatch.setattr(supervisor, "Progress", interrupt)

    assert outputs.workers["files"].state == "closed"
    assert outputs.workers["files"]._process.returncode is not None
    assert open_files() == before


@pytest.mark.parametrize(
    "fails", [("os.pipe", 1), ("os.pipe", 2), ("os.pipe", 3), ("mmap.mmap", 1)]
)
def test_o2_a_worker_that_cannot_be_started_keeps_no_descriptor(tmp_path, monkeypatch, fails):
    """Where descriptors run short, those that there are stay the training's."""
    name, count = fails
    real, calls = importlib.import_module(name.split(".")[0]).__dict__[name.split(".")[1]], 0

    def run_short(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == count:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(*arguments, **keywords)

    before = open_files()
    with monkeypatch.context() as patched:
        patched.setattr(name, run_short)
        with file_outputs(tmp_path) as outputs:
            assert outputs.workers == {}

    assert calls == count
    assert open_files() == before
