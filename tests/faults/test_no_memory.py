"""No shared memory, or a disk that only reads: the next place, or that sink off, in a sentence."""

import errno
import logging
import os
import resource
import signal

import pytest

import tensorview
from tensorview import slots
from tensorview.run import Run
from tests.doubles import wait_until
from tests.networks import make_training, train_steps

STEPS = 20


@pytest.fixture(scope="module")
def unwatched():
    return train_steps(*make_training(), STEPS)


def refuse(number):
    def refused(*_arguments, **_keywords):
        raise OSError(number, os.strerror(number))

    return refused


def errors(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_f10_without_any_shared_memory_files_are_off(tmp_path, monkeypatch, caplog, unwatched):
    """Neither /dev/shm nor the temporary directory: one sentence, and training as without us."""
    monkeypatch.setattr(slots.tempfile, "mkstemp", refuse(errno.ENOSPC))
    model, optimizer = make_training()
    with tensorview.watch(
        model, optimizer, every=1, run_dir=tmp_path / "run", live=False
    ) as watcher:
        losses = train_steps(model, optimizer, STEPS)

    assert losses == unwatched
    assert watcher.status().faults == 0
    assert watcher.status().sinks == {}
    (said,) = errors(caplog)
    assert said.startswith(
        "The files sink is off: No place to hand snapshots over (/dev/shm: No space"
    )
    assert said.endswith("). Set TMPDIR.")


def test_f10_shared_memory_that_fills_up_costs_captures_and_no_signal(tmp_path, caplog, unwatched):
    """As in a container of 64 MB: what does not fit is dropped and counted, with one ERROR.

    The limit is the kernel's own, for this process: a file may not grow beyond one slot.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    model, optimizer = make_training()
    with tensorview.watch(
        model, optimizer, every=1, run_dir=tmp_path / "run", live=False
    ) as watcher:
        worker = watcher._outputs.workers["files"]
        os.kill(worker.pid, signal.SIGSTOP)  # so that one slot is not enough
        resource.setrlimit(resource.RLIMIT_FSIZE, (slots.SLOT_STRIDE, hard))
        try:
            losses = train_steps(model, optimizer, STEPS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        os.kill(worker.pid, signal.SIGCONT)
        wait_until(lambda: worker.poll() or worker.delivered, seconds=30, what="the one that fits")

    assert losses == unwatched
    assert watcher.status().faults == 0
    assert watcher.status().sinks["files"].dropped == STEPS - 1
    (said,) = errors(caplog)
    assert "File too large. Free shared memory, or watch fewer layers with layers=[...]." in said
    assert Run.open(tmp_path / "run").steps() == (1,)


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_f10_a_disk_that_only_reads_means_live_only(tmp_path, monkeypatch, caplog, call):
    """One WARNING, whether the directory is there or not; the training is watched all the same."""
    if call == "open":
        (tmp_path / "run").mkdir()
    monkeypatch.setattr(f"pathlib.Path.{call}", refuse(errno.EROFS))
    model, optimizer = make_training()
    with tensorview.watch(
        model, optimizer, every=1, run_dir=tmp_path / "run", live=False
    ) as watcher:
        train_steps(model, optimizer, 2)

    assert watcher.status().captures == 2
    assert watcher.status().sinks == {}
    (said,) = errors(caplog)
    assert "Read-only file system. Give another run_dir. Nothing is written, live only." in said
