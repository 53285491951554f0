"""A watched training whose steps are counted by hand, and what clients see of it."""

import contextlib
import json
import time

import torch

import tensorview
from tensorview import steering
from tests.networks import make_training

SECONDS = 20.0


@contextlib.contextmanager
def watched(folder, *, allow=steering.PERMISSIONS, every=10**9, **keywords):
    """Yield a watcher of a small network that has done its first step, and its run directory."""
    model, optimizer = make_training()
    run = folder / "run"
    probe = torch.arange(4.0 * 64).reshape(4, 1, 8, 8) / 256
    with tensorview.watch(
        model,
        optimizer,
        every=every,
        run_dir=run,
        live=False,
        allow=allow,
        **({"probe": probe, "strict": True} | keywords),
    ) as watcher:
        watcher.step()
        watcher.optimizer = optimizer  # it is held weakly
        watcher.model = model
        yield watcher, run


def step_until(watcher, condition):
    """Count steps until *condition* holds; return what it returned."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        watcher.step()
        time.sleep(0.01)
    return found


def ask(watcher, run, command, **arguments):
    """Send a command, step on until it is answered, and return the answer."""
    sent = steering.send(run, command, **arguments)
    return step_until(watcher, lambda: steering.wait(run, sent, 0))


def lines(run):
    """What ``steering.jsonl`` holds, line by line."""
    return [json.loads(line) for line in (run / "steering.jsonl").read_text().splitlines()]


def messages(run, state):
    """The messages of one state, in order."""
    return [line["message"] for line in lines(run) if line["state"] == state]
