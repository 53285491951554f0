"""A run directory has one writer, however writers come and go."""

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

import tensorview
from tensorview.errors import RunError
from tensorview.run import Run
from tensorview.run_lock import RunLock
from tests.doubles import wait_until
from tests.networks import make_training, train_steps

WATCH_AND_SLEEP = """
import sys, time, torch, tensorview
model = torch.nn.Linear(3, 2)
watcher = tensorview.watch(model, run_dir=sys.argv[1], live=False, probe=torch.ones(4, 3))
watcher.step()
print("watching", flush=True)
time.sleep(60)
"""
FORK_AND_SLEEP = """
import os, sys, time
from pathlib import Path
from tensorview.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
if os.fork() == 0:
    time.sleep(60)
print(os.getpid(), flush=True)
time.sleep(60)
"""


def start(script, path):
    """Start *script* in a session of its own; return it once it has said a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout.readline()
    return process


def end(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def committed(run):
    return {path: path.read_bytes() for path in (*run.glob("*.json*"), *run.rglob("*.vtp"))}


def test_f6_a_run_that_is_being_written_is_refused_by_pid_and_host(tmp_path):
    """A second training in the same directory is told who writes there, and changes nothing."""
    run = tmp_path / "run"
    owner = start(WATCH_AND_SLEEP, run)
    try:
        wait_until(lambda: Run.open(run).steps(), seconds=30, what="a capture")
        before = committed(run)
        model, optimizer = make_training()
        expected = (
            f"Cannot write in run '{run}': process {owner.pid} on {socket.gethostname()} writes in "
            f"it. Wait until it has ended, or give another run_dir."
        )
        with pytest.raises(RunError, match=re.escape(expected)):
            tensorview.watch(model, optimizer, run_dir=run, live=False, start_step=0)

        assert committed(run) == before
    finally:
        end(owner)


def test_f6_a_dead_owners_lock_is_taken_over(tmp_path, caplog):
    """After a kill a run is free at once, or as soon as its file worker has written what it had."""
    run = tmp_path / "run"
    owner = start(WATCH_AND_SLEEP, run)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    with caplog.at_level(logging.INFO, logger="tensorview"):
        lock = RunLock(run)
    lock.close()

    assert Run.open(run).steps() == (1,)  # what the worker wrote after its training's end


def test_f6_an_owner_that_nobody_waited_for_is_dead(tmp_path):
    """A zombie writes no more: its file worker is waited for, as after any other end."""
    with subprocess.Popen([sys.executable, "-c", ""]) as owner:
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
        its_worker = RunLock(tmp_path)
        (tmp_path / "lock").write_text(f"{owner.pid} {socket.gethostname()}\n")
        end_of_worker = threading.Timer(0.3, its_worker.close)
        end_of_worker.start()
        RunLock(tmp_path).close()
        end_of_worker.join()


def test_f6_forked_children_hold_no_lock(tmp_path):
    """Whoever forks, as a DataLoader does, does not keep a run from being continued."""
    owner = start(FORK_AND_SLEEP, tmp_path)
    try:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        RunLock(tmp_path).close()
    finally:
        end(owner)


def test_f6_two_watchers_of_one_process_do_not_share_a_run(tmp_path):
    """A second model in the same directory is refused, too."""
    first, second = make_training(0), make_training(1)
    with tensorview.watch(*first, run_dir=tmp_path / "run", live=False) as watcher:
        train_steps(*first, 2)
        with pytest.raises(RunError, match=f"process {os.getpid()} on "):
            tensorview.watch(*second, run_dir=tmp_path / "run", live=False, start_step=1)
        train_steps(*first, 2)

    assert watcher.status().sinks["files"].dropped == 0
    assert Run.open(tmp_path / "run").steps() == (1, 4)


def test_a_lock_is_given_back(tmp_path):
    """A closed watcher leaves the run free; so does one that could not be made."""
    model, optimizer = make_training()
    for start_step in (0, 2, 4):
        with tensorview.watch(
            model, optimizer, run_dir=tmp_path / "run", live=False, start_step=start_step
        ):
            train_steps(model, optimizer, 2)

    assert Run.open(tmp_path / "run").steps() == (1, 2, 3, 4, 5, 6)
    with pytest.raises(RunError, match="has the layers"):
        tensorview.watch(model, layers=["fc"], run_dir=tmp_path / "run", start_step=6, live=False)
    RunLock(tmp_path / "run").close()


def test_f6_a_lock_of_somebody_else_is_refused_before_there_is_a_run(tmp_path):
    """Once it is moved away, as the message asks, the same call makes the run."""
    run, (model, optimizer) = tmp_path / "run", make_training()
    run.mkdir()
    (run / "lock").write_text("poetry 1.2\n")
    with pytest.raises(RunError, match=r"its file lock is not one of tensorview\. Move it away\."):
        tensorview.watch(model, optimizer, run_dir=run, live=False)

    assert [path.name for path in run.iterdir()] == ["lock"]
    (run / "lock").unlink()
    tensorview.watch(model, optimizer, run_dir=run, live=False).close()


def test_p8_who_loses_the_race_for_the_lock_leaves_the_run_to_the_winner(tmp_path, monkeypatch):
    """Another process goes on with the run just after it was made, and before it is locked."""
    run, (model, optimizer) = tmp_path / "run", make_training()
    create, owners = Run.create, []

    def create_and_lose(path, **keywords):
        made = create(path, **keywords)
        owners.append(start(FORK_AND_SLEEP, path))
        return made

    monkeypatch.setattr(Run, "create", create_and_lose)
    try:
        with pytest.raises(RunError, match="writes in it"):
            tensorview.watch(model, optimizer, run_dir=run, live=False)

        assert Run.open(run).steps() == ()
    finally:
        end(*owners)


def test_p8_an_owner_of_any_name_is_named(tmp_path):
    """The kernel cuts the name of a process after 15 bytes, perhaps amid a character."""
    script = FORK_AND_SLEEP.replace(
        "lock =", "Path('/proc/self/comm').write_bytes('обучение'.encode()[:15])\nlock ="
    )
    owner = start(script, tmp_path)
    try:
        with pytest.raises(RunError, match="writes in it"):
            RunLock(tmp_path)
    finally:
        end(owner)
