"""What comes from outside of our work, in the midst of it: signals, threads, log handlers."""

import logging
import os
import random
import signal
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

import tensorview
from tensorview.analysis import sketch
from tensorview.capture import capturer, measure
from tensorview.capture.probe import probing, take_probe
from tensorview.run import Run
from tensorview.signals import handlers_deferred
from tests.networks import make_training, train_steps


class PreemptedError(Exception):
    """A cluster wants its node back."""


@pytest.fixture
def quiet(tmp_path):
    return {"every": 1, "run_dir": tmp_path / "run", "live": False}


@pytest.fixture(autouse=True)
def _hear_ctrl_c():
    """Also where the tests were started in the background, which ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture
def handler():
    """Set the handler of SIGUSR1 for one test."""
    former = signal.getsignal(signal.SIGUSR1)
    yield lambda function: signal.signal(signal.SIGUSR1, function)
    signal.signal(signal.SIGUSR1, former)


def amid_the_probe(model, act):
    """Let *act* be called once, while the model runs in evaluation mode, which only we do."""
    done = []

    def before(module, _):
        if not module.training and not done:
            done.append(1)
            act()

    model.register_forward_pre_hook(before)


def usr1():
    os.kill(os.getpid(), signal.SIGUSR1)


def test_p2_what_a_signal_handler_raises_reaches_the_training(quiet, handler, caplog):
    """It belongs to the loop, though it comes in the midst of a capture, which is done first."""

    def preempt(*_):
        raise PreemptedError

    handler(preempt)
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, **quiet) as watcher:
        train_steps(model, optimizer, 2)
        amid_the_probe(model, usr1)
        with pytest.raises(PreemptedError):
            train_steps(model, optimizer, 1)

        assert all(module.training for module in model.modules())
        train_steps(model, optimizer, 1)

    assert watcher.status().faults == 0
    assert Run.open(quiet["run_dir"]).steps() == (1, 2, 3, 4)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("activations", ["probe", "batch"])
def test_p2_a_signal_amid_a_look_at_a_batch_reaches_the_training(
    quiet, handler, monkeypatch, activations
):
    """At the first one, for the probe, and at each where activations are those of the batch."""

    def preempt(*_):
        raise PreemptedError

    def looking(*arguments, **keywords):
        usr1()
        return take_probe(*arguments, **keywords)

    handler(preempt)
    model, optimizer = make_training()
    module = {"probe": capturer, "batch": measure}[activations]
    with tensorview.watch(model, optimizer, activations=activations, **quiet) as watcher:
        monkeypatch.setattr(module, "take_probe", looking)
        with pytest.raises(PreemptedError):
            train_steps(model, optimizer, 1)
        monkeypatch.undo()
        train_steps(model, optimizer, 2)
        layers = watcher.snapshot().layers

    assert watcher.status().faults == 0
    assert all(layer.activations is not None for layer in layers)


def test_p2_a_signal_handler_may_close_the_watcher(quiet, handler):
    """As a job's does that is to end: the capture is done first, then nothing is raised."""
    model, optimizer = make_training()
    watcher = tensorview.watch(model, optimizer, **quiet)
    handler(lambda *_: watcher.close())
    train_steps(model, optimizer, 2)
    amid_the_probe(model, usr1)
    train_steps(model, optimizer, 3)

    assert watcher.status().state == "closed"
    assert watcher.status().faults == 0
    assert Run.open(quiet["run_dir"]).steps() == (1, 2, 3)


def test_o1_ctrl_c_amid_a_capture_leaves_the_model_as_it_was(quiet):
    """A notebook's training goes on after it: same losses, modes and counts."""
    unwatched = train_steps(*make_training(), 6)
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, **quiet) as watcher:
        losses = train_steps(model, optimizer, 3)
        amid_the_probe(model, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train_steps(model, optimizer, 1, each=losses.append)
        losses += train_steps(model, optimizer, 2)

    assert len(losses) in (5, 6)
    assert losses[:3] + losses[-2:] == unwatched[:3] + unwatched[-2:]
    assert watcher.status().captures == watcher.status().sinks["files"].delivered == 6


def test_p2_ctrl_c_twice_does_not_wait():
    """Who presses it again wants out of whatever we are at; handlers are put back all the same."""
    before = signal.getsignal(signal.SIGINT)

    def pressed_twice():
        with handlers_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        pressed_twice()

    assert signal.getsignal(signal.SIGINT) is before


def test_every_deferred_handler_is_called_in_order(handler):
    """One that raises does not spare those that came after it, and all are put back."""
    heard, former = [], signal.getsignal(signal.SIGUSR2)

    def first(number, _):
        heard.append(number)
        raise PreemptedError

    handler(first)
    signal.signal(signal.SIGUSR2, lambda number, _: heard.append(number))

    def both():
        with handlers_deferred():
            usr1()
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(0.01)
            assert heard == []

    try:
        with pytest.raises(PreemptedError):
            both()
        assert heard == [signal.SIGUSR1, signal.SIGUSR2]
        assert signal.getsignal(signal.SIGUSR1) is first
    finally:
        signal.signal(signal.SIGUSR2, former)


DRAWS = {
    "python": random.random,
    "numpy": np.random.rand,
    "torch": lambda: float(torch.rand(())),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_o1_another_thread_keeps_what_it_draws(draw):
    """A thread that augments batches draws on, while a model that draws nothing is probed."""

    def drawn(*, probed):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        found, go, done = [], threading.Event(), threading.Event()

        def augment():
            for _ in range(3):
                go.wait()
                go.clear()
                found.append(draw())
                done.set()

        thread = threading.Thread(target=augment)
        thread.start()
        model = nn.Linear(2, 2)
        if probed:
            with probing(model, among_threads=True):
                model(torch.ones(1, 2))
        for _ in range(3):
            if probed:
                with probing(model, among_threads=True):
                    go.set()
                    done.wait()
            else:
                go.set()
                done.wait()
            done.clear()
        thread.join()
        return found

    assert drawn(probed=True) == drawn(probed=False)


def test_p2_a_log_handler_that_raises_does_not_reach_the_training(quiet):
    """A message bus may be down just when there is something to say."""

    class Bus(logging.Handler):
        def emit(self, _):
            raise ConnectionError

    bus = Bus()
    model, optimizer = make_training()
    logger = logging.getLogger("tensorview")
    with tensorview.watch(model, optimizer, **quiet) as watcher:
        train_steps(model, optimizer, 2)
        logger.addHandler(bus)
        try:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)
            train_steps(model, optimizer, 2)
        finally:
            logger.removeHandler(bus)

    assert watcher.status().captures == 4


def test_p2_a_forked_child_reads_no_descriptor_of_others(quiet):
    """What it opens has the numbers of what was ours: `status` there tells what was, and waits
    for nothing."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, **quiet) as watcher:
        train_steps(model, optimizer, 2)
        child = os.fork()
        if child == 0:
            pipes = [os.pipe() for _ in range(12)]
            for _, write in pipes:
                os.write(write, b"own")
            signal.alarm(10)
            watcher.status()
            own = [os.read(read, 3) for read, _ in pipes]
            os._exit(0 if own == [b"own"] * 12 else 1)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_default_device_of_the_users_own_changes_nothing(quiet):
    """What we make beside the model is made where it belongs, whatever is the default."""
    model, optimizer = make_training()
    watcher = tensorview.watch(model, optimizer, **quiet)
    batches = []
    hook = model.register_forward_pre_hook(lambda _, inputs: batches.append(inputs))
    train_steps(model, optimizer, 1)
    hook.remove()
    sketch._row_signs.cache_clear()
    sketch._shared_signs.cache_clear()
    torch.set_default_device("meta")
    try:
        for _ in range(3):
            optimizer.zero_grad()
            model(*batches[0]).square().mean().backward()
            optimizer.step()
    finally:
        torch.set_default_device(None)
    watcher.close()

    assert (watcher.status().captures, watcher.status().faults) == (4, 0)
