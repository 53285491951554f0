"""What is found of a layer, and which of two costs decides."""

import math

import pytest
import torch

from tensorview.capture.layers import select_layers
from tensorview.capture.probe import given_probe
from tensorview.errors import PruningError
from tensorview.pruning import evidence
from tensorview.pruning.evidence import Wanted
from tensorview.pruning.planner import make_plan
from tests.pruning.trainings import copy_filter, images, make_plain, plan_for


def values(*given):
    """Return a function that gives one value after another, 1.0 when they are used up."""
    waiting = list(given)
    return lambda _: waiting.pop(0) if waiting else 1.0


@pytest.mark.parametrize("dropped", [math.nan, math.inf])
def test_a_merge_is_used_where_the_drop_is_not_finite(dropped):
    """What cannot be compared is no reason to prefer it."""
    (found,) = plan_for(
        make_plain(), "conv1", evaluate=values(1.0, dropped, 1.2), filters=(1,), threshold=None
    ).layers

    assert (found.mode, found.cost) == ("merge", pytest.approx(0.2))


@pytest.mark.parametrize("merged", [math.nan, math.inf])
def test_a_drop_is_used_where_the_merge_is_not_finite(merged):
    """Likewise the other way round."""
    (found,) = plan_for(
        make_plain(), "conv1", evaluate=values(1.0, 1.2, merged), filters=(1,), threshold=None
    ).layers

    assert (found.mode, found.cost) == ("drop", pytest.approx(0.2))


@pytest.mark.parametrize(
    ("mode", "merged"), [("merge", math.nan), ("merge", math.inf), ("drop", 1.0)]
)
def test_a_removal_whose_cost_is_not_finite_is_refused(mode, merged):
    """Nothing is planned that was not measured."""
    evaluate = values(1.0, math.nan, merged)

    message = (
        r"^Cannot prune layer 'conv1': what pruning costs would be nan without filters 1; take "
        r"fewer, or others\.$"
    )
    with pytest.raises(PruningError, match=message):
        plan_for(make_plain(), "conv1", evaluate=evaluate, filters=(1,), threshold=None, mode=mode)


def test_a_dead_filter_that_costs_something_is_shown_with_it():
    """One that is constant is missed where images are padded; one that is silent is only named."""
    model = make_plain()
    with torch.no_grad():
        model.conv1.weight[2], model.conv1.bias[2] = 0.0, 2.0
        model.conv1.weight[4], model.conv1.bias[4] = 0.0, -1.0

    (found,) = plan_for(model, "conv1", threshold=1.0).layers

    constant, silent = found.findings
    assert found.dead == (2, 4)
    assert constant.cost_dropped > 0
    assert silent.cost_dropped == silent.cost_merged == 0.0
    assert f"  {constant}" in str(found).splitlines()
    assert "filter 4" not in str(found)


def test_those_that_go_are_measured_first(monkeypatch):
    """Dead or not; the note says how many were not measured, beside what else it says."""
    monkeypatch.setattr(evidence, "MAX_MEASURED", 1)
    model = make_plain()
    with torch.no_grad():
        model.conv1.weight[1], model.conv1.bias[1] = 0.0, -1.0
        model.conv1.weight[3], model.conv1.bias[3] = 0.0, -1.0

    (found,) = plan_for(model, "conv1", probe=images(100), filters=(3,), threshold=1.0).layers

    costs = {each.filter: each.cost_dropped for each in found.findings}
    assert costs == {1: pytest.approx(math.nan, nan_ok=True), 3: 0.0}
    assert found.note == (
        "dead filters stay: on 100 samples they may be silent by chance; give a probe of 256 or "
        "more; costs of 1 filters alone were not measured"
    )


@pytest.mark.parametrize(("wanted", "described", "evaluations"), [(True, 2, 7), (False, 1, 5)])
def test_without_evidence_only_what_goes_is_measured(wanted, described, evaluations):
    """One filter that goes is measured once, dropped and merged, and not again as all that go."""
    model = make_plain()
    copy_filter(model, "conv1", source=1, target=4)
    copy_filter(model, "conv1", source=0, target=2)
    calls = []

    plan = make_plan(
        model,
        [
            (
                next(layer for layer in select_layers(model) if layer.name == "conv1"),
                Wanted(threshold=0.999, count=1, filters=None, mode="merge", evidence=wanted),
            )
        ],
        probe=given_probe(model, images()),
        evaluate=lambda _: calls.append(1) or 1.0,
        skip_refused=False,
    )

    (found,) = plan.layers
    assert len(found.removed) == 1
    assert len(found.findings) == described
    assert set(found.removed) <= {each.filter for each in found.findings}
    assert len(calls) == evaluations  # once before, once behind the layer, once behind all
