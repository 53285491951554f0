"""A pause stands still, goes on hearing commands, and always ends."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest

from tensorview import steering
from tests.doubles import Viewer, free_port, open_live, wait_until
from tests.snapshots import make_snapshot
from tests.steering.helpers import SECONDS, ask, lines, messages, watched


@contextlib.contextmanager
def training(folder, **keywords):
    """A training that runs on in a thread, about a hundred steps a second."""
    with watched(folder, **keywords) as (watcher, run):
        end = threading.Event()

        def loop():
            while not end.wait(0.01):
                watcher.step()

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield watcher, run
        finally:
            end.set()
            with contextlib.suppress(Exception):  # one that a failed test left
                steering.send(run, "resume")
            thread.join(SECONDS)
            assert not thread.is_alive()


def tell(run, command, **arguments):
    """Send a command and return its answer."""
    answer = steering.wait(run, steering.send(run, command, **arguments), SECONDS)
    assert answer is not None
    return answer


def stands_still(watcher, seconds=0.5):
    before = watcher.status().step
    time.sleep(seconds)
    return watcher.status().step == before


def test_a_paused_training_stands_still_until_it_is_resumed(tmp_path):
    """Its status says so, its picture is of where it stands, and resume lets it go on."""
    with training(tmp_path) as (watcher, run):
        answer = tell(run, "pause")
        assert answer.message == f"Training is paused after step {answer.step}, for at most 300 s."
        assert stands_still(watcher)
        assert (watcher.status().state, watcher.status().step) == ("paused", answer.step)
        assert "\npaused, every" in str(watcher.status())
        assert watcher.snapshot().step == answer.step

        assert tell(run, "resume").message == f"Training goes on after step {answer.step}."
        wait_until(lambda: watcher.status().step > answer.step + 5, seconds=SECONDS)
        assert watcher.status().state == "running"
    assert messages(run, "resumed") == [
        f"Training goes on after step {answer.step}: resume from python."
    ]


def test_a_paused_training_obeys_other_commands(tmp_path):
    """A picture of the present step can be asked for again and again, and settings changed."""
    with training(tmp_path) as (watcher, run):
        step = tell(run, "pause").step
        tell(run, "every", steps=3)
        assert tell(run, "focus", layer="conv1").step == step
        assert (watcher.snapshot().step, watcher.snapshot().focus) == (step, "conv1")
        tell(run, "select", layer="fc", filters=[1])
        tell(run, "learning_rate", value=0.5)

        assert watcher.status().every == 3
        assert watcher.selected == {"fc": (1,)}
        assert watcher.optimizer.param_groups[0]["lr"] == 0.5
        assert tell(run, "pause", step=step - 1).state == "refused"
        assert stands_still(watcher)
        assert watcher.status().state == "paused"
        tell(run, "resume")
    assert {line["step"] for line in lines(run) if line["state"] == "applied"} == {step}
    table = watcher.snapshot().scalars["step"].tolist()
    assert len(table) == len(set(table))


def test_stop_ends_a_pause(tmp_path):
    """Who stops a training does not want to wait for it."""
    with training(tmp_path) as (watcher, run):
        step = tell(run, "pause").step
        tell(run, "stop")
        wait_until(lambda: watcher.status().step > step, seconds=SECONDS)

        assert watcher.should_stop
    assert messages(run, "resumed") == [f"Training goes on after step {step}: stop from python."]


def test_a_pause_ends_in_time(tmp_path):
    """A client that went away does not hold a training for ever."""
    with training(tmp_path) as (watcher, run):
        started = time.monotonic()
        step = tell(run, "pause", seconds=1).step
        wait_until(lambda: watcher.status().step > step, seconds=SECONDS)

        assert time.monotonic() - started > 0.9
    assert messages(run, "resumed") == [f"Training goes on after step {step}: its time is over."]


def test_a_second_pause_sets_the_time_anew(tmp_path):
    """The later one counts."""
    with training(tmp_path) as (watcher, run):
        step = tell(run, "pause", seconds=300).step
        assert tell(run, "pause", seconds=0.5).step == step
        wait_until(lambda: watcher.status().step > step, seconds=SECONDS)
    assert len(messages(run, "resumed")) == 1


def test_breakpoints_pause_at_their_very_step(tmp_path):
    """In the order of steps, whatever order they were set in, each with a picture of its step."""
    with watched(tmp_path) as (watcher, run):
        start = ask(watcher, run, "capture").step
        later = steering.send(run, "pause", step=start + 400, seconds=0.5)
        sooner = steering.send(run, "pause", step=start + 300, seconds=0.5)
        while watcher.status().step < start + 410:
            watcher.step()
            time.sleep(0.002)
        captured = watcher.snapshot().scalars["step"].tolist()

    fired = [line for line in lines(run) if line["state"] in ("paused", "resumed")]
    assert [(line["id"], line["state"], line["step"]) for line in fired] == [
        (sooner, "paused", start + 300),
        (sooner, "resumed", start + 300),
        (later, "paused", start + 400),
        (later, "resumed", start + 400),
    ]
    assert fired[0]["message"] == f"Training is paused after step {start + 300}, for at most 0.5 s."
    assert {start + 300, start + 400} <= set(captured)
    assert f"Training will pause after step {start + 300}, for at most 0.5 s." in messages(
        run, "applied"
    )


def later(action, seconds=0.7):
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def step_for_ever(watcher):
    deadline = time.monotonic() + SECONDS
    while watcher.status().state != "closed" and time.monotonic() < deadline:
        watcher.step()
        time.sleep(0.01)


def test_ctrl_c_ends_a_pause(tmp_path):
    """It reaches the user's loop as it would have; a loop that goes on is not paused any more."""
    with watched(tmp_path) as (watcher, run):
        steering.send(run, "pause")
        timer = later(lambda: os.kill(os.getpid(), signal.SIGINT), 1.0)
        with pytest.raises(KeyboardInterrupt):
            step_for_ever(watcher)
        timer.join()

        step = watcher.status().step
        assert watcher.status().state == "running"
        watcher.step()
        assert watcher.status().step == step + 1
    assert messages(run, "resumed") == [f"Training goes on after step {step}: it was interrupted."]


@pytest.mark.parametrize("where", ["signal handler", "thread"])
def test_close_ends_a_pause(tmp_path, where):
    """From a signal handler, as on a cluster that wants its node back, or from another thread."""
    with watched(tmp_path) as (watcher, run):
        steering.send(run, "pause")
        former = signal.signal(signal.SIGUSR1, lambda *_: watcher.close())
        try:
            timer = later(
                watcher.close
                if where == "thread"
                else lambda: os.kill(os.getpid(), signal.SIGUSR1),
                1.0,
            )
            step_for_ever(watcher)
            timer.join()
        finally:
            signal.signal(signal.SIGUSR1, former)

        assert watcher.status().state == "closed"
        assert watcher.status().faults == 0
    assert [line["state"] for line in lines(run)][-3:] == ["applied", "resumed", "closed"]
    assert messages(run, "resumed")[0].endswith(": the watcher is closed.")


def test_a_pause_is_no_cost(tmp_path):
    """What `status` gives as our share of the time leaves pauses out."""
    started = time.perf_counter()
    with watched(tmp_path) as (watcher, run):
        steering.send(run, "pause", seconds=3)
        while not messages(run, "resumed"):
            watcher.step()
            time.sleep(0.005)

        ours, elapsed = watcher._guard.seconds, time.perf_counter() - started
        assert ours < 3
        assert watcher.status().cost > ours / (elapsed - 2)


def test_what_is_done_in_a_pause_is_no_cost(tmp_path):
    """A pause is left out of the wall time, so a budget would take its work for a dear capture."""
    with watched(tmp_path) as (watcher, run):
        watcher._idle = lambda: time.sleep(0.2)
        before = watcher._guard.seconds
        steering.send(run, "pause", seconds=1)
        while not messages(run, "resumed"):
            watcher.step()
            time.sleep(0.005)

        assert watcher._guard.seconds - before < 0.4


@pytest.mark.paraview
def test_a_viewer_that_comes_in_a_pause_is_shown_where_training_stands(tmp_path):
    """The worker is started for it, and handed the last picture, though no capture comes."""
    port = free_port()
    snapshot = make_snapshot(np.random.default_rng(0), step=350)
    outputs = open_live(tmp_path, port=port, at_once=False)
    try:
        outputs.idle(snapshot)
        assert outputs.workers == {}
        with Viewer(tmp_path, port=port) as viewer:

            def shown():
                outputs.idle(snapshot)
                return viewer.steps() == [350]

            wait_until(shown, seconds=30, what="the picture")
    finally:
        outputs.close()
