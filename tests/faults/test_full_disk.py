"""A disk that is full for a while costs the captures of that while, and nothing else."""

import logging
import resource

import pytest

import tensorview
from tensorview.run import Run
from tests.doubles import wait_until
from tests.networks import make_training, train_steps


def forbid_writing(pid, *, forbidden):
    """Let a process of ours make no file longer than nothing, as on a disk that is full."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0 if forbidden else hard, hard))


@pytest.fixture
def full_between(tmp_path):
    """Train 50 steps, each captured; the disk is full from the capture of step 20 to that of 34."""

    def train():
        model, optimizer = make_training()
        with tensorview.watch(
            model, optimizer, every=1, run_dir=tmp_path / "run", live=False
        ) as watcher:
            worker = watcher._outputs.workers["files"]
            done = 0

            def each(_loss):
                nonlocal done
                done += 1
                settled = lambda: worker.delivered + worker.dropped >= done - 1  # noqa: E731
                if done in (20, 35):
                    wait_until(lambda: worker.poll() or settled(), seconds=30, what="the worker")
                    forbid_writing(worker.pid, forbidden=done == 20)

            losses = train_steps(model, optimizer, 50, each=each)
        return losses, watcher.status()

    return train


def test_f2_a_disk_that_is_full_for_a_while_costs_that_while(tmp_path, full_between, caplog):
    """Losses as without us, 15 captures dropped and counted, one ERROR, all others on disk."""
    unwatched = train_steps(*make_training(), 50)
    with caplog.at_level(logging.ERROR, logger="tensorview"):
        losses, status = full_between()
    run = Run.open(tmp_path / "run")

    assert losses == unwatched
    assert status.faults == 0
    assert status.dropped == status.sinks["files"].dropped == 15
    assert len(caplog.records) == 1
    assert "File too large" in caplog.records[0].getMessage()
    assert run.steps() == (*range(1, 20), *range(35, 51))
    for files in run.files.values():
        for entry in files.values():
            run.read(entry)
