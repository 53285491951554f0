"""Whatever is killed while it writes: files are whole, and a run opens."""

import os
import random
import signal
import time

import numpy as np
import pytest

from tensorview.check import prove
from tensorview.outputs import Outputs
from tensorview.run import Run
from tensorview.whole_files import replace_file
from tests.doubles import LONG, is_running, wait_until
from tests.snapshots import make_snapshot

KILLED = [("worker", "training"), ("worker",), ("training",)]
TIMES = 40 if LONG else 1
"""Once: both. The others are in tests/transport/test_supervisor.py and test_going_on.py."""


def write_for_ever(path):
    """Hand over captures as a training does; say which process writes them."""
    outputs = Outputs(run_path=path, formats=("vtp",), live=None, pipeline=None, paraview=None)
    rng = np.random.default_rng(0)
    first = 50 + max(Run.open(path).steps(), default=0)
    for step in range(first, first + 10**6, 50):
        outputs.publish(make_snapshot(rng, step=step, views=("weights", "scalars")))
        replace_file(path / "pid", str(outputs.workers["files"].pid).encode())
        time.sleep(0.05)  # so that little is on its way, and a worker ends soon


@pytest.mark.long
@pytest.mark.timeout(400)
def test_f1_whatever_is_killed_while_writing_tears_no_file(tmp_path):
    """File worker, training, or both, at random moments, 40 times (short: once).

    No file at a final name is torn, the run opens, and the next worker sweeps and goes on.
    """
    path = Run.create(tmp_path / "run", settings={}).path
    rng = random.Random(0)
    for number in range(TIMES):
        seen = len(Run.open(path).steps())
        training = os.fork()
        if training == 0:
            write_for_ever(path)
        try:
            more = lambda: len(Run.open(path).steps()) > seen + 1  # noqa: B023, E731
            wait_until(more, seconds=30, what="captures")
            time.sleep(rng.uniform(0, 0.1))
            pids = {"worker": int((path / "pid").read_text()), "training": training}
            for which in KILLED[number % len(KILLED)]:
                os.kill(pids[which], signal.SIGKILL)
            if KILLED[number % len(KILLED)] == ("worker",):
                seen = len(Run.open(path).steps())
                wait_until(more, seconds=30, what="captures of the next worker")
        finally:
            os.kill(training, signal.SIGKILL)  # which nobody has waited for, ended or not
            os.waitpid(training, 0)
        worker = int((path / "pid").read_text())
        wait_until(lambda: not is_running(worker), seconds=15, what="the worker's end")  # noqa: B023

        assert prove(path).damaged == {}
    Outputs(run_path=path, formats=("vtp",), live=None, pipeline=None, paraview=None).close()

    assert prove(path).whole
