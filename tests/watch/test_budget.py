"""What a budget of the wall time does to the distance of captures."""

import itertools
import logging
import time

import numpy as np
import pytest

import tensorview
from tensorview.budget import ROOM, WINDOW, Budget
from tensorview.errors import ConfigurationError
from tensorview.steering.effects import Controls, Effects
from tests.networks import make_training, train_steps
from tests.steering.helpers import ask, watched


def train(budget, controls, *, steps, cost, step_seconds=0.01):
    """Train by a clock of our own; return for each capture its step, seconds, and the stretch.

    Args:
        budget: told of each capture.
        controls: say when.
        steps: to do.
        cost: from a step to the seconds that its capture takes.
        step_seconds: of the training alone.
    """
    wall = ours = 0.0
    captures = []
    for step in range(1, steps + 1):
        wall += step_seconds
        if step == 1 or step % controls.interval == 0:
            ours += cost(step)
            wall += cost(step)
            budget.after_capture(step, ours=ours, wall=wall)
            captures.append((step, cost(step), controls.stretch))
    return captures, wall


def share_since(captures, wall, *, step, step_seconds=0.01):
    """Our share of the wall time after *step*."""
    ours = sum(seconds for at, seconds, _ in captures if at > step)
    return ours / (wall - step * step_seconds - sum(s for at, s, _ in captures if at <= step))


@pytest.mark.parametrize("budget", [0.5, 0.02, 0.001])
@pytest.mark.parametrize("cost", [0.0001, 0.01, 0.3])
@pytest.mark.parametrize("every", [1, 7])
def test_the_share_stays_within_the_budget(budget, cost, every):
    """By the least power of two that does it."""
    controls = Controls(every=every)
    steps = 40 * max(every, int(cost / 0.01 / budget))
    captures, wall = train(
        Budget(budget, controls=controls), controls, steps=steps, cost=lambda _: cost
    )
    settled = captures[3][0]

    assert share_since(captures, wall, step=settled) <= budget * 1.1  # the last interval is open
    assert controls.stretch.bit_count() == 1
    half = controls.every * controls.stretch / 2
    assert controls.stretch == 1 or cost / (cost + 0.01 * half) > budget * ROOM


def test_without_a_budget_nothing_changes():
    """However much captures cost."""
    controls = Controls(every=3)
    captures, _ = train(Budget(None, controls=controls), controls, steps=300, cost=lambda _: 9.0)

    assert len(captures) == 101
    assert controls.stretch == 1


def test_the_first_capture_does_not_count():
    """It imports and warms up, which comes once."""
    controls = Controls(every=10)
    budget = Budget(0.05, controls=controls)
    captures, _ = train(budget, controls, steps=500, cost=lambda step: 5.0 if step == 1 else 0.001)

    assert {stretch for _, _, stretch in captures} == {1}


def test_one_that_is_slow_once_does_not_count():
    """A removal of filters, a disk that halts: what follows is captured as before."""
    controls = Controls(every=10)
    budget = Budget(0.05, controls=controls)
    captures, _ = train(budget, controls, steps=500, cost=lambda step: 3.0 if step == 250 else 1e-3)

    assert {stretch for _, _, stretch in captures} == {1}


def test_it_reacts_within_a_few_captures_and_goes_back():
    """The recent past decides, not the whole run."""
    controls = Controls(every=10)
    budget = Budget(0.02, controls=controls)
    captures, _ = train(
        budget, controls, steps=60000, cost=lambda step: 0.02 if 4000 <= step < 20000 else 0.001
    )
    dear = [stretch for step, _, stretch in captures if 4000 <= step < 20000]
    cheap_again = [stretch for step, _, stretch in captures if step >= 20000]

    assert {stretch for step, _, stretch in captures if step < 4000} == {1}
    assert dear[1] > 1
    assert set(dear[WINDOW:]) == {16}
    assert set(cheap_again[WINDOW:]) == {1}


@pytest.mark.parametrize("limit", [0.97, 1.03])
def test_at_the_limit_it_does_not_flip_back_and_forth(limit):
    """A cost that swings by a tenth around what the budget allows changes it once at most."""
    controls = Controls(every=10)
    allowed = 0.02 / 0.98 * 10 * 0.01 * limit
    swing = np.random.default_rng(0).uniform(0.95, 1.05, 40001)
    captures, _ = train(
        Budget(0.02, controls=controls),
        controls,
        steps=40000,
        cost=lambda step: allowed * float(swing[step]),
    )
    stretches = [stretch for _, _, stretch in captures]
    changes = sum(a != b for a, b in itertools.pairwise(stretches))

    assert changes <= 1


def test_what_is_asked_for_is_the_base_from_then_on():
    """A command sets the distance anew; the budget starts from there, at the next capture."""
    controls = Controls(every=1, stretch=8)
    effects = Effects(
        controls, filters={}, optimizer=None, is_alone=True, capture=lambda _: "", prune=None
    )

    assert effects.every(factor=2.0) == "Every 16 steps are captured from now on."
    assert (controls.every, controls.stretch) == (16, 1)
    controls.stretch = 4
    assert effects.every(steps=5) == "Every 5 steps are captured from now on."
    assert (controls.every, controls.stretch, controls.interval) == (5, 1, 5)


def test_it_is_said_once(caplog):
    """What was done instead of what was asked, with the figures."""
    caplog.set_level(logging.INFO, logger="tensorview")
    controls = Controls(every=2)
    budget = Budget(0.1, controls=controls)
    train(budget, controls, steps=5000, cost=lambda step: 0.01 if step % 2000 < 1000 else 0.03)

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == (
        "Every 16 steps are captured instead of every 2, to keep budget=0.1: they would take 33.3 "
        "% of the wall time. status() tells how often it is later on."
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (-0.1, "-0.1"),
        (1, "1"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (True, "True"),
        ("2%", "'2%'"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_one_sentence(value, shown):
    """Said where it is given."""
    model, optimizer = make_training()
    with pytest.raises(ConfigurationError) as caught:
        tensorview.watch(model, optimizer, budget=value, live=False, formats=())

    assert str(caught.value) == (
        f"budget={shown} cannot be used: expected a share of the wall time, above 0 and below 1, "
        f"for example 0.02."
    )


def test_a_training_keeps_it(tmp_path):
    """Steps of 2 ms, captured each, would go to us by half and more; with a budget little does."""
    with watched(tmp_path, every=1, budget=0.1) as (watcher, _run):
        train_steps(watcher.model, watcher.optimizer, 30, each=lambda _: time.sleep(0.002))
        before = watcher._guard.seconds
        started = time.perf_counter()
        train_steps(watcher.model, watcher.optimizer, 150, each=lambda _: time.sleep(0.002))
        share = (watcher._guard.seconds - before) / (time.perf_counter() - started)
        status = watcher.status()

    assert share < 0.3
    assert status.every > 1
    assert status.every.bit_count() == 1
    assert (status.asked_every, status.budget) == (1, 0.1)
    assert f"every {status.every} steps instead of 1 to keep budget=0.1" in str(status)
    assert status.captures < 100


def test_what_is_asked_for_singly_stays(tmp_path):
    """First step, last step and a command's capture come however little the budget leaves."""
    with watched(tmp_path, every=1, budget=1e-6) as (watcher, run):
        train_steps(watcher.model, watcher.optimizer, 20)
        assert watcher.status().every > 1000
        asked = ask(watcher, run, "capture").step
        watcher.step()
        last = watcher.status().step
    steps = tensorview.run.Run.open(run).steps()

    assert steps[0] == 1
    assert {asked, last} <= set(steps)
    assert len(steps) < 8


def test_a_step_without_a_capture_is_as_cheap_as_ever(tmp_path):
    """The budget is looked at after captures alone."""
    with watched(tmp_path, budget=0.5) as (watcher, _run):
        started = time.perf_counter()
        for _ in range(2000):
            watcher.step()
        each = (time.perf_counter() - started) / 2000

    assert each < 100e-6
