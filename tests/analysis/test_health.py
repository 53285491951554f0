"""When flags of health are raised and lowered, and what they carry."""

import dataclasses
import math
import time

import numpy as np
import pytest

from tensorview.analysis.health import Health
from tensorview.analysis.rules import RULES
from tensorview.capture.result import LayerCapture
from tests.snapshots import make_activations

HEALTHY = {
    "weight_norm": 3.0,
    "gradient_norm": 0.5,
    "update_ratio": 1e-3,
    "dead": 1.0,
    "nonfinite_weights": 0.0,
    "nonfinite_gradients": 0.0,
    "nonfinite_activations": 0.0,
}


class Training:
    """Two layers on a path that turns, captured every 50 steps; what is said of the first."""

    def __init__(self):
        self.health = Health()
        self.rng = np.random.default_rng(0)
        self.step = 0
        self.sketches = {name: np.ones(9) for name in ("conv", "fc")}
        self.shape = (6, 2, 3, 3)
        self.samples = 64

    def layer(self, name, *, move=None, **scalars):
        if move is None:
            move = 0.1 * self.rng.normal(size=9)
        self.sketches[name] = self.sketches[name] + move
        activations = dataclasses.replace(
            make_activations(np.random.default_rng(0)), sample_count=self.samples
        )
        return LayerCapture(
            name=name,
            kind="Conv2d",
            weight_shape=self.shape if name == "conv" else (3, 7),
            original_filters=np.arange(6, dtype=np.int32),
            weights=None,
            activations=activations,
            sketch=self.sketches[name].copy(),
            chosen=np.empty((0, 3)),
            scalars=HEALTHY | scalars,
        )

    def capture(self, *, times=1, step=None, **changes):
        columns = {}
        for _ in range(times):
            self.step = self.step + 50 if step is None else step
            layers = self.layer("conv", **changes), self.layer("fc")
            columns = self.health.examine(self.step, layers)
        return columns

    @property
    def kinds(self):
        return [flag.kind for flag in self.health.flags]


def straight():
    """A tenth of a percent of the weights, always in one direction."""
    return np.array([1e-3, *[0.0] * 8])


SICK = {
    "not finite": {"nonfinite_gradients": 2.0, "gradient_norm": math.nan},
    "large update": {"update_ratio": 0.5},
    "exploding gradient": {"gradient_norm": 1e5},
    "vanishing gradient": {"gradient_norm": 1e-5},
    "stalled": {"move": np.zeros(9), "update_ratio": 0.0},
    "straight path": {"move": straight()},
    "dead layer": {"dead": 6.0},
}
CAPTURES = {"not finite": 1, "large update": 1, "exploding gradient": 1, "straight path": 10}


def test_a_healthy_training_has_no_flags():
    """Fifty captures of ordinary numbers, one dead filter of six among them: silence."""
    training = Training()
    columns = training.capture(times=50)

    assert training.kinds == []
    assert training.health.take_new() == ()
    assert columns["conv"]["flags"] == 0.0
    assert not [name for name in columns["conv"] if name.startswith("flag_")]


@pytest.mark.parametrize("kind", SICK)
def test_each_kind_is_raised_once_when_it_has_lasted(kind):
    """Not a capture too early; then as one new flag that stands, with its column."""
    training = Training()
    wanted = CAPTURES.get(kind, 3)
    if kind == "stalled":
        training.capture()  # nothing moves at a first capture
    training.capture(times=wanted - 1, **SICK[kind])
    before = training.kinds
    columns = training.capture(**SICK[kind])
    again = training.capture(times=5, **SICK[kind])
    new = training.health.take_new()
    (flag,) = [flag for flag in new if flag.layer == "conv"]

    assert before == []
    assert flag.kind == kind
    assert flag.layer == "conv"
    assert flag in training.health.flags
    assert columns["conv"]["flags"] == again["conv"]["flags"] == 1.0
    assert again["conv"][f"flag_{kind.replace(' ', '_')}"] == 1.0
    assert columns["fc"]["flags"] == 0.0


def test_a_flag_carries_its_numbers_and_where_its_threshold_is_from():
    """The number compared comes first, those beside it after; all of it in one line of text."""
    training = Training()
    training.capture(update_ratio=2.0)
    (flag,) = training.health.flags

    assert list(flag.numbers.items()) == [
        ("update_ratio", 2.0),
        ("weight_norm", 3.0),
        ("gradient_norm", 0.5),
    ]
    assert flag.threshold == 0.5
    assert "CS231n" in flag.source
    assert str(flag) == (
        "conv: large update at step 50: update_ratio 2, weight_norm 3, gradient_norm 0.5; "
        "threshold 0.5 (500 times the rule of thumb of 1e-3 in the CS231n notes, "
        "Neural Networks 3)"
    )


def test_a_flag_is_lowered_after_three_captures_without_its_cause():
    """Two are not enough; raised again, it is a new flag."""
    training = Training()
    training.capture(update_ratio=2.0)
    training.capture(times=2)
    still = training.kinds
    columns = training.capture()
    training.capture(update_ratio=2.0)

    assert still == ["large update"]
    assert columns["conv"]["flag_large_update"] == columns["conv"]["flags"] == 0.0
    assert [flag.step for flag in training.health.flags] == [250]
    assert len(training.health.take_new()) == 2


def test_the_first_value_that_is_not_finite_stays_with_the_last_clean_capture():
    """However clean the captures after it: which capture, what, and where it was still well."""
    training = Training()
    training.capture(times=3)
    training.capture(nonfinite_weights=1.0, nonfinite_activations=7.0)
    training.capture(times=20)
    (flag,) = training.health.flags

    assert (flag.kind, flag.layer, flag.step) == ("not finite", "conv", 200)
    assert flag.numbers == {
        "nonfinite": 8.0,
        "nonfinite_weights": 1.0,
        "nonfinite_gradients": 0.0,
        "nonfinite_activations": 7.0,
        "last_clean_step": 150.0,
    }


def test_a_frozen_layer_is_neither_vanishing_nor_stalled():
    """No gradient is nothing to judge, however long nothing moves."""
    training = Training()
    frozen = {"gradient_norm": math.nan, "nonfinite_gradients": math.nan, "update_ratio": 0.0}
    training.capture(times=30, move=np.zeros(9), **frozen)

    assert training.kinds == []


def test_a_gradient_of_zero_everywhere_is_vanishing():
    """There is no largest one to compare with, and still nothing is learned."""
    training = Training()
    for step in (50, 100, 150):
        layers = [training.layer(name, gradient_norm=0.0) for name in ("conv", "fc")]
        training.health.examine(step, layers)

    assert training.kinds == ["vanishing gradient"] * 2


def test_a_straight_path_needs_a_hundred_steps_and_little_way():
    """Momentum alone makes ten steps straight, and learning fast is no fault."""
    training = Training()
    for step in range(1, 40):
        training.capture(step=step, move=straight())
    every_step = training.kinds
    for step in range(100, 4000, 50):
        training.capture(step=step, move=10 * straight())

    assert every_step == []
    assert training.kinds == []


def test_dead_filters_are_flagged_over_256_samples_only():
    """Over the usual 64 a filter may be rarely used; one that is dead over 256 is named."""
    training = Training()
    training.capture(times=10)
    few = training.kinds
    training.samples = 256
    training.capture(times=3)

    assert few == []
    assert training.kinds == ["dead filters", "dead filters"]
    assert training.health.flags[0].numbers["dead_surely"] == 1.0


def test_another_shape_begins_anew():
    """Pruning turns no path and stalls none; the flags that stood are lowered."""
    training = Training()
    training.capture(times=9, move=straight())
    training.capture(update_ratio=2.0, move=straight())
    before = training.kinds
    training.shape = (4, 2, 3, 3)
    columns = training.capture(update_ratio=math.nan, move=np.full(9, 5.0))

    assert before == ["large update", "straight path"]
    assert training.kinds == []
    assert math.isnan(columns["conv"]["curvature"])


def test_a_layer_can_be_forgotten():
    """What else changes weights says so; the other layers stay as they are."""
    training = Training()
    training.capture(times=5)
    training.health.forget("conv")
    columns = training.capture(move=np.full(9, 5.0))

    assert training.kinds == []
    assert math.isnan(columns["conv"]["curvature"])
    assert 0 < columns["fc"]["curvature"] < 180


def test_a_step_captured_twice_counts_once():
    """The second look takes the place of the first: three captures are three steps."""
    training = Training()
    training.capture()
    for _ in range(5):
        training.capture(step=100, gradient_norm=1e-5)

    assert training.kinds == []


def test_what_is_not_finite_is_no_other_illness():
    """NaN and infinities in every number: flagged as such, without a warning of numpy's."""
    training = Training()
    training.capture()
    broken = {name: math.nan for name in HEALTHY if "nonfinite" not in name}
    training.capture(times=12, move=np.full(9, np.nan), nonfinite_weights=54.0, **broken)
    other = Training()
    for _ in range(12):
        other.sketches["conv"] = np.zeros(9)
        other.capture(move=np.full(9, np.inf), nonfinite_weights=54.0, weight_norm=math.inf)

    assert training.kinds == ["not finite"]
    assert other.kinds == ["not finite", "exploding gradient"]


def test_every_rule_says_where_its_threshold_is_from():
    """A paper, a rule of thumb with its origin, or what we measured and where."""
    assert all(len(rule.source) > 20 for rule in RULES)
    assert len({rule.kind for rule in RULES}) == len({rule.column for rule in RULES}) == len(RULES)


def test_it_costs_little():
    """A hundred layers take no time that a training would notice (a coarse limit)."""
    training = Training()
    layers = [
        dataclasses.replace(training.layer("conv"), name=str(number)) for number in range(100)
    ]
    for step in range(12):
        training.health.examine(step, layers)
    started = time.perf_counter()
    training.health.examine(12, layers)

    assert time.perf_counter() - started < 0.5
