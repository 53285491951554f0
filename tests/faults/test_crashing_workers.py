"""A live worker that crashes whenever it is started: given up after five times, with one ERROR."""

import logging
import time

import numpy as np
import pytest

from tensorview import restarts
from tensorview.encoding import EncodedSnapshot
from tensorview.launch import WorkerCommand
from tensorview.restarts import CRASHES_IN_A_ROW, Restarts
from tensorview.supervisor import WorkerHandle
from tests.doubles import crashing_python, wait_until
from tests.snapshots import make_snapshot


@pytest.mark.parametrize("how", ["kill -SEGV $$", "kill -KILL $$", "exit 1"])
def test_l7_a_live_worker_that_only_crashes_is_given_up(tmp_path, caplog, monkeypatch, how):
    """Five times in a row without a frame: one ERROR with its last words, and training goes on.

    Whatever it dies of, the hook waits for nothing, and each snapshot is counted as dropped.
    """
    monkeypatch.setattr(restarts, "CRASH_SECONDS", 0.02)
    log_path = tmp_path / "worker-live.log"
    worker = WorkerHandle(
        name="live",
        command=WorkerCommand(
            python=crashing_python(tmp_path, how),
            options={"sink": "live"},
            environment={},
            log_path=log_path,
            foreign_python=True,
        ),
        latest_wins=True,
    )
    encoded = EncodedSnapshot(make_snapshot(np.random.default_rng(0)))
    published, longest = 0, 0.0

    def failed():
        nonlocal published, longest
        began = time.monotonic()
        worker.publish(encoded)
        published, longest = published + 1, max(longest, time.monotonic() - began)
        return worker.state == "failed"

    try:
        wait_until(failed, seconds=30, what="the end of the worker")
        failed()
    finally:
        worker.close()

    errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(errors) == 1
    assert errors[0].startswith(
        "The live worker ended 5 times in a row without delivering anything"
    )
    assert errors[0].endswith("Its last words: at work | for a while | something is wrong")
    assert log_path.read_text().count("at work") == CRASHES_IN_A_ROW
    assert longest < 0.5
    assert (worker.delivered, worker.dropped) == (0, published)


def test_l5_who_does_not_answer_is_called_for_ever():
    """After 1, 2, 4 ... 60 s; that no call was answered never counts as a crash."""
    ends, delays = Restarts(), []
    for _ in range(1000):
        began = time.monotonic()
        ends.take_note(dialling=True)
        delays.append(ends._at - began)

        assert not ends.is_due()
        ends._at = time.monotonic()

        assert ends.is_due()
    assert not ends.given_up
    assert [delays[number] for number in (0, 1, 2, 5, 6, -1)] == pytest.approx(
        [1, 2, 4, 32, 60, 60], abs=0.5
    )


def test_l7_a_frame_that_got_through_makes_crashes_a_new_row():
    """Only crashes with nothing delivered in between end a worker."""
    ends = Restarts()
    for _ in range(3):
        for _ in range(CRASHES_IN_A_ROW - 1):
            ends.take_note(dialling=False)
            ends._at = None
        ends.delivered()

    assert not ends.given_up
