"""What surrounds a training: closed standard streams, a job that ends, a folder that is gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tensorview
from tensorview.errors import ConfigurationError
from tensorview.run import Run
from tests.doubles import wait_until
from tests.networks import make_training, train_steps

CLOSED = """
import os, sys
import tensorview
from tests.networks import make_training, train_steps
model, optimizer = make_training()
for number in (0, 1, 2):
    os.close(number)
with tensorview.watch(model, optimizer, every=1, run_dir=sys.argv[1], live=False):
    for _ in range(4):
        train_steps(model, optimizer, 1)
        for number in (1, 2):
            try:
                os.write(number, b"what a training prints")
            except OSError:
                pass
"""


def test_f10_closed_standard_streams_are_no_obstacle(tmp_path):
    """Ours take none of their numbers, so that what is printed goes nowhere, and files are made."""
    subprocess.run(
        [sys.executable, "-c", CLOSED, str(tmp_path / "run")],
        cwd=Path(__file__).parents[2],
        timeout=100,
        check=True,
    )

    assert Run.open(tmp_path / "run").steps() == (1, 2, 3, 4)


def test_l9_a_job_that_is_told_to_end_loses_nothing(tmp_path):
    """SIGTERM to every process of it: the file worker first writes what was handed over."""
    path = tmp_path / "run"
    training = os.fork()
    if training == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        torch.set_num_threads(1)
        model, optimizer = make_training()
        watcher = tensorview.watch(model, optimizer, every=1, run_dir=path, live=False)
        worker = watcher._outputs.workers["files"]
        train_steps(model, optimizer, 1)
        wait_until(lambda: worker.poll() or worker.delivered, seconds=30, what="the worker")
        os.kill(worker.pid, signal.SIGSTOP)
        train_steps(model, optimizer, 30)
        os.kill(worker.pid, signal.SIGTERM)
        os.kill(worker.pid, signal.SIGCONT)
        os.kill(os.getpid(), signal.SIGTERM)
    _, status = os.waitpid(training, 0)

    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    wait_until(lambda: len(Run.open(path).steps()) == 31, seconds=15, what="what was handed over")


CHILD = """
import multiprocessing, sys
import tensorview
from tests.networks import make_training, train_steps

def work():
    global model, optimizer  # alive to the end, as those of a notebook
    model, optimizer = make_training()
    tensorview.watch(model, optimizer, every=5, run_dir=sys.argv[1], live=False)
    train_steps(model, optimizer, 13)

process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join()
sys.exit(process.exitcode)
"""


def test_the_last_step_of_a_child_of_multiprocessing_is_captured(tmp_path):
    """Such a process ends without `atexit`, and its watcher is closed all the same."""
    subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "run")],
        cwd=Path(__file__).parents[2],
        timeout=100,
        check=True,
    )

    assert Run.open(tmp_path / "run").steps() == (1, 5, 10, 13)


def test_f5_a_removed_working_directory_is_a_sentence(tmp_path, monkeypatch):
    """Where a relative path is given, as one is to be made absolute."""
    (tmp_path / "gone").mkdir()
    model, optimizer = make_training()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        with pytest.raises(ConfigurationError, match=r"run_dir='run' cannot be used: the working "):
            tensorview.watch(model, optimizer, run_dir="run", live=False)
    finally:
        monkeypatch.undo()
