"""However a training ends, with a viewer that hangs: soon, and with nothing of ours left."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tensorview
from tensorview.open_watchers import _close_all
from tensorview.run import Run
from tests.doubles import LONG, Viewer, free_port, is_running, wait_until
from tests.networks import make_training, train_steps

TRAINING = """
import sys, time
from pathlib import Path
import tensorview
from tests.networks import make_training, train_steps

run, port, how = sys.argv[1:]
model, optimizer = make_training()
watcher = tensorview.watch(
    model, optimizer, every=1, run_dir=Path(run) / "run", live=f"localhost:{port}"
)
pids = [worker.pid for worker in watcher._outputs.workers.values()]
(Path(run) / "pids").write_text(" ".join(map(str, pids)))
while not (Path(run) / "end").exists():
    train_steps(model, optimizer, 1)
    time.sleep(0.2)
if how == "exception":
    raise ZeroDivisionError
sys.exit(3)
"""
HANG_SECONDS = 15.0
ENDS = {"exception": 1, "Ctrl-C twice": -signal.SIGINT, "SIGTERM": -signal.SIGTERM}
if LONG:
    ENDS |= {"sys.exit": 3, "Ctrl-C": -signal.SIGINT}


def end(process, folder, how):
    if how in ("sys.exit", "exception"):
        (folder / "end").touch()
    elif how == "SIGTERM":
        process.send_signal(signal.SIGTERM)
    else:
        process.send_signal(signal.SIGINT)
        if how == "Ctrl-C twice":
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)


@pytest.mark.paraview
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.long
def test_l9_every_end_is_soon_though_the_viewer_hangs(tmp_path):
    """Within 5 s on a free machine, Ctrl-C too; 10 s later nothing of ours runs; files whole."""
    processes, viewers, took, left = {}, {}, {}, {}
    with contextlib.ExitStack() as stack:
        for how in ENDS:
            folder, port = tmp_path / how, free_port()
            folder.mkdir()
            viewers[how] = stack.enter_context(Viewer(folder, port=port))
            command = [sys.executable, "-c", TRAINING, folder, port, how]
            processes[how] = subprocess.Popen(
                list(map(str, command)),
                cwd=Path(__file__).parents[2],
                stderr=subprocess.DEVNULL,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509  # no threads here
            )
            stack.callback(processes[how].wait)
            stack.callback(processes[how].kill)
        for how, viewer in viewers.items():
            wait_until(viewer.steps, seconds=120, what=f"a frame, {how}")
        for viewer in viewers.values():
            viewer.freeze()
        time.sleep(1.0)  # so that workers are held
        for how, process in processes.items():
            workers = list(map(int, (tmp_path / how / "pids").read_text().split()))
            began = time.monotonic()
            end(process, tmp_path / how, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            took[how] = time.monotonic() - began
            left[how] = workers
        wait_until(
            lambda: not any(is_running(pid) for pids in left.values() for pid in pids),
            seconds=15,
            what="the end of all workers",
        )

    assert {how: process.returncode for how, process in processes.items()} == ENDS
    assert max(took.values()) < HANG_SECONDS, took
    for how in ENDS:
        run = Run.open(tmp_path / how / "run")
        assert len(run.steps()) > 3
        for files in run.files.values():
            for entry in files.values():
                run.read(entry)


def watch_three(folder, **keywords):
    trainings = [make_training() for _ in range(3)]
    watchers = [
        tensorview.watch(model, optimizer, run_dir=folder / str(number), live=False, **keywords)
        for number, (model, optimizer) in enumerate(trainings)
    ]
    return trainings, watchers


def test_p7_workers_that_hang_hold_the_end_up_together(tmp_path, caplog):
    """Those of three models take no longer than that of one, though each gets on for a moment."""
    trainings, watchers = watch_three(tmp_path, every=1)
    pids = [watcher._outputs.workers["files"].pid for watcher in watchers]

    def tell_all(number):
        for pid in pids:
            os.kill(pid, number)

    tell_all(signal.SIGSTOP)
    for model, optimizer in trainings:
        train_steps(model, optimizer, 2)
    timers = [
        threading.Timer(after, tell_all, [number])
        for after, number in ((0.5, signal.SIGCONT), (0.7, signal.SIGSTOP))
    ]
    for timer in timers:
        timer.start()
    began = time.monotonic()
    _close_all()  # as the interpreter does when it ends
    took = time.monotonic() - began

    assert 3.0 < took < 7.0
    assert [record.getMessage() for record in caplog.records] == [
        "The files worker left 2 captures unwritten."
    ] * 3


def test_p7_a_watcher_that_fails_at_the_end_spares_no_other(tmp_path, monkeypatch):
    """With `strict` its fault is raised, once all have written what they had."""
    trainings, watchers = watch_three(tmp_path, every=2, strict=True)
    for model, optimizer in trainings:
        train_steps(model, optimizer, 3)

    def fail(_step):
        raise ZeroDivisionError

    monkeypatch.setattr(watchers[0]._captures, "take", fail)
    with pytest.raises(ZeroDivisionError):
        _close_all()

    assert [Run.open(tmp_path / number).steps() for number in "012"] == [
        (1, 2),
        (1, 2, 3),
        (1, 2, 3),
    ]
