"""Plans: what they find, what they do to a network, and whose they are."""

import copy
import gc
import json
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

from tensorview.capture.probe import given_probe
from tensorview.errors import PruningError
from tensorview.pruning.plan import Plan
from tensorview.pruning.surgery import remove
from tests.pruning.trainings import (
    copy_filter,
    images,
    make_plain,
    outputs,
    plan_for,
    pruned,
)


def removed(plan):
    (found,) = plan.layers
    return found.removed


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc1"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_scaled_copy_is_merged_without_a_trace(layer, scale, bias):
    """Outputs are equal to 1e-6, whatever reads the filter: convolution, flattened or Linear."""
    model = make_plain(bias=bias)
    copy_filter(model, layer, source=1, target=4, scale=scale)
    plan = plan_for(model, layer, threshold=0.9999)

    small = pruned(model, plan)

    assert removed(plan) in [(1,), (4,)]
    assert plan.layers[0].mode == "merge"
    new = images(seed=2)
    torch.testing.assert_close(outputs(small, new), outputs(model, new), atol=1e-6, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_a_copy_behind_a_batch_norm_is_merged_without_a_trace(layer, bias):
    """In evaluation mode, outputs are equal to 1e-5."""
    model = make_plain(norm=True, bias=bias)
    copy_filter(model, layer, source=2, target=0, norm=layer.replace("conv", "norm"))
    plan = plan_for(model, layer, threshold=0.9999)

    small = pruned(model, plan)

    assert removed(plan) in [(0,), (2,)]
    new = images(seed=2)
    torch.testing.assert_close(outputs(small, new), outputs(model, new), atol=1e-5, rtol=0)


def test_a_constant_is_taken_by_the_bias_of_what_reads_it():
    """A filter that is constant, and not zero, goes without a trace where nothing is padded."""
    model = make_plain()
    with torch.no_grad():
        model.fc1.weight[3], model.fc1.bias[3] = 0.0, 0.7
    plan = plan_for(model, "fc1", threshold=1.0)

    assert removed(plan) == (3,)
    assert plan.layers[0].merges[0].shift == "fc2"
    torch.testing.assert_close(outputs(pruned(model, plan), images()), outputs(model, images()))


def test_a_constant_is_taken_by_the_batch_norm_that_follows():
    """A reader without a bias hands it on to the running mean behind it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(2),
    ).eval()
    model(images())
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = 0.0, 1.5
        model[3].running_mean.normal_()
    plan = plan_for(model, "0", threshold=1.0)

    assert removed(plan) == (2,)
    assert plan.layers[0].merges[0].shift == "3"
    torch.testing.assert_close(
        outputs(pruned(model, plan), images()), outputs(model, images()), atol=1e-5, rtol=1e-5
    )


def test_without_a_place_for_a_constant_none_is_fitted():
    """No bias and no BatchNorm: the combination goes through the origin."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    probe = torch.randn(300, 8)

    plan = plan_for(model, "0", probe=probe, filters=(1,), threshold=None)

    (merge,) = plan.layers[0].merges
    assert merge.shift == ""
    assert merge.fit.constants.tolist() == [0.0]


def test_every_reader_gets_its_own_combination():
    """Where two layers read the filters in different forms, each is fitted as it reads them."""

    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 5, 3, padding=1)
            self.fine, self.coarse = nn.Conv2d(5, 2, 3), nn.Conv2d(5, 2, 1)

        def forward(self, x):
            x = torch.relu(self.conv(x))
            return self.fine(x).mean((2, 3)) + self.coarse(F.max_pool2d(x, 4)).mean((2, 3))

    torch.manual_seed(0)
    plan = plan_for(Fork(), "conv", filters=(0, 3), threshold=None)

    merges = {merge.reader: merge.fit.coefficients for merge in plan.layers[0].merges}
    assert merges.keys() == {"fine", "coarse"}
    assert not np.allclose(merges["fine"], merges["coarse"], rtol=1e-2)


def test_a_merge_costs_less_than_a_drop_on_a_trained_like_net():
    """On filters that correlate, what merging changes is far below what dropping does."""
    model = make_plain()
    with torch.no_grad():
        model.conv1.weight[3] = 0.8 * model.conv1.weight[0] + 0.05 * model.conv1.weight[1]

    (found,) = plan_for(model, "conv1", filters=(3,), threshold=None).layers

    assert found.mode == "merge"
    assert 10 * found.cost_merged < found.cost_dropped


def test_a_merge_that_is_worse_than_the_drop_is_not_used():
    """The measured cost decides: here a user's function that likes small kernels."""
    model = make_plain()
    plan = plan_for(
        model,
        "conv1",
        evaluate=lambda m: float(m.conv2.weight.abs().sum()),
        filters=(2,),
        threshold=None,
    )
    (found,) = plan.layers

    assert found.cost_dropped < 0 < found.cost_merged - found.cost_dropped
    assert (found.mode, found.merges) == ("drop", ())
    weight = pruned(model, plan).conv2.weight
    assert torch.equal(weight, model.conv2.weight[:, [0, 1, 3, 4, 5]])


def test_a_drop_that_is_asked_for_is_done():
    """With mode="drop" kernels that stay are bit for bit what they were."""
    model = make_plain()
    plan = plan_for(model, "conv2", filters=(0,), threshold=None, mode="drop")
    small = pruned(model, plan)

    assert torch.equal(small.conv1.weight, model.conv1.weight)
    assert torch.equal(small.conv2.weight, model.conv2.weight[1:])
    assert torch.equal(small.fc1.weight, model.fc1.weight[:, 16:])
    assert torch.equal(small.fc1.bias, model.fc1.bias)


@pytest.mark.parametrize("mode", ["merge", "drop"])
def test_costs_are_what_is_measured_afterwards(mode):
    """The plan's figures are those of the smaller network: outputs, and the user's function."""
    model, probe = make_plain(), images()
    labels = torch.arange(256) % 3

    def evaluate(m):
        return F.cross_entropy(m(probe), labels)

    asked = {"filters": (1, 5), "threshold": None, "mode": mode}
    measured = plan_for(model, "conv1", evaluate=evaluate, **asked)
    changed = plan_for(model, "conv1", **asked)
    small = pruned(model, measured)

    with torch.no_grad():
        assert measured.before == pytest.approx(float(evaluate(model)), rel=1e-5)
        assert measured.after == pytest.approx(float(evaluate(small)), rel=1e-5)
    other = pruned(model, changed)
    difference = (outputs(other, probe) - outputs(model, probe)).double().square().mean()
    assert (measured.measure, changed.measure) == ("evaluate", "output_change")
    assert (changed.before, changed.after) == (0.0, pytest.approx(float(difference), rel=1e-3))


def test_layers_are_planned_one_upon_the_other():
    """The plan of several layers costs what it says, done at once or layer by layer."""
    model = make_plain()
    plan = plan_for(model, ["conv1", "conv2", "fc1"], count=2, threshold=None)
    small = pruned(model, plan)

    assert [tuple(p.shape) for p in small.parameters()] == [
        *((4, 1, 3, 3), (4,), (3, 4, 3, 3), (3,)),
        *((5, 3 * 16), (5,), (3, 5), (3,)),
    ]
    difference = (outputs(small, images()) - outputs(model, images())).double().square().mean()
    assert plan.after == pytest.approx(float(difference), rel=1e-3)


def snapshot_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_planning_leaves_no_trace():
    """Parameters, statistics, modes, gradients and random states are bit for bit as before."""
    model = make_plain(norm=True).train()
    model.norm2.eval()
    F.cross_entropy(model(images(8)), torch.zeros(8, dtype=torch.long)).backward()
    before, gradients = snapshot_of(model), [p.grad.clone() for p in model.parameters()]
    versions = [p._version for p in model.parameters()]
    states = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002

    plan_for(
        model,
        ["conv1", "conv2", "fc1"],
        evaluate=lambda m: float(m(images(64)).square().mean() + 0 * torch.rand(1)),
        count=1,
        threshold=None,
    )

    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert versions == [p._version for p in model.parameters()]
    assert [m.training for m in model.modules()] == [m is not model.norm2 for m in model.modules()]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert repr(np.random.get_state()) == states[2]  # noqa: NPY002  # the training's may be it
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_failing_evaluation_leaves_no_trace():
    """The weights that were being tried are put back, and the sentence names the fault."""
    model = make_plain()
    before = snapshot_of(model)
    calls = []

    def evaluate(_):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError("no images")
        return 1.0

    message = (
        r"^Cannot judge what pruning costs: evaluate failed with ZeroDivisionError: no images\. "
        r"Expected a function model -> float\.$"
    )
    with pytest.raises(PruningError, match=message):
        plan_for(model, "conv1", evaluate=evaluate, filters=(1,), threshold=None)

    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_evaluation_without_a_number_is_refused(value):
    """What cannot be compared judges nothing."""
    message = rf"^Cannot judge what pruning costs: evaluate returned {value}\.$"
    with pytest.raises(PruningError, match=message):
        plan_for(make_plain(), "conv1", evaluate=lambda _: value)


def test_groups_dead_filters_and_duplicates_are_told_apart():
    """Each flagged filter has its reason, its partner and its numbers; the rest is not named."""
    model = make_plain()
    with torch.no_grad():
        model.conv1.weight[5] = 1.01 * model.conv1.weight[0]
        model.conv1.weight[5, 0, 0, 0] += 0.1
        model.conv1.weight[2], model.conv1.bias[2] = 0.0, -1.0
        model.conv1.weight[4], model.conv1.bias[4] = -model.conv1.weight[3], -model.conv1.bias[3]

    (found,) = plan_for(model, "conv1", threshold=0.9).layers

    (group,) = found.groups
    assert group.members == (0, 5)
    assert group.r[0][1] == pytest.approx(group.r[1][0])
    assert 0.9 < group.r[0][1] < 1.0
    assert found.dead == (2,)
    assert [pair[:2] for pair in found.duplicates] == [(3, 4)]
    assert found.duplicates[0][2] == pytest.approx(-1.0)
    (going,) = {0, 5} - {group.kept}
    reasons = {each.filter: each.reason for each in found.findings}
    (negated,) = reasons.keys() & {3, 4}
    assert reasons == {going: "group", 2: "dead", negated: "duplicate"}
    assert found.removed == tuple(sorted((2, going)))  # 3 and 4 part ways at the ReLU
    by_filter = {each.filter: each for each in found.findings}
    assert by_filter[going].partner == group.kept
    assert by_filter[2].cost_dropped == by_filter[2].cost_merged == 0.0
    assert by_filter[negated].cost_dropped > 0


def test_a_negated_copy_goes_where_no_nonlinearity_parts_it():
    """Up to sign: between linear layers -a is as good as a."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    with torch.no_grad():
        model[0].weight[4], model[0].bias[4] = -model[0].weight[1], -model[0].bias[1]
    probe = torch.randn(300, 6)

    plan = plan_for(model, "0", probe=probe, threshold=0.99)

    assert removed(plan) in [(1,), (4,)]
    assert plan.layers[0].findings[0].r == pytest.approx(-1.0)
    torch.testing.assert_close(outputs(pruned(model, plan), probe), outputs(model, probe))


def test_few_samples_make_no_filter_dead():
    """Below 256 samples a silent filter is flagged, named as such, and stays."""
    model = make_plain()
    with torch.no_grad():
        model.conv1.bias[3], model.conv1.weight[3] = -1.0, 0.0

    (few,) = plan_for(model, "conv1", probe=images(255), threshold=1.0).layers
    (enough,) = plan_for(model, "conv1", probe=images(256), threshold=1.0).layers

    assert (few.dead, few.removed) == ((3,), ())
    assert few.note == (
        "dead filters stay: on 255 samples they may be silent by chance; give a probe of 256 or "
        "more"
    )
    assert (enough.dead, enough.removed, enough.note) == ((3,), (3,), "")


def test_the_last_filter_stays():
    """Of a layer that is dead as a whole, and of one that is asked to lose all, one is left."""
    model = make_plain()
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv1.bias.fill_(-1.0)

    assert len(removed(plan_for(model, "conv1", threshold=1.0))) == 5
    assert len(removed(plan_for(make_plain(), "conv1", threshold=None, count=99))) == 5
    with pytest.raises(PruningError, match="at least one of its 6 filters must stay"):
        plan_for(make_plain(), "conv1", filters=tuple(range(6)), threshold=None)


def test_the_order_of_filters_does_not_matter():
    """Permuted filters: the same groups and the same plan, permuted."""
    model = make_plain(norm=True)
    with torch.no_grad():
        model.conv1.weight[5] = model.conv1.weight[0] + 0.02 * torch.randn(1, 3, 3)
    order = [3, 5, 0, 1, 4, 2]
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(twin.conv1, name).copy_(getattr(model.conv1, name)[order])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(twin.norm1, name).copy_(getattr(model.norm1, name)[order])
        twin.conv2.weight.copy_(model.conv2.weight[:, order])

    for options in ({"threshold": 0.8}, {"threshold": None, "count": 3}):
        (one,), (other,) = (plan_for(m, "conv1", **options).layers for m in (model, twin))
        assert sorted(order[index] for index in other.removed) == list(one.removed)
        assert [sorted(order[i] for i in g.members) for g in other.groups] == [
            list(g.members) for g in one.groups
        ]
        assert other.cost_merged == pytest.approx(one.cost_merged, rel=1e-3, abs=1e-9)


def test_a_plan_survives_its_file(tmp_path):
    """Saved and loaded it reads the same, and does the same bit for bit."""
    model = make_plain()
    with torch.no_grad():
        model.conv1.weight[2] = -1.0
        model.conv1.bias[2] = -99.0  # dead: numbers that are not finite
    plan = plan_for(model, ["conv1", "conv2"], count=2, threshold=None)

    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")

    assert str(again) == str(plan)
    assert again.to_json() == plan.to_json()
    assert "NaN" not in plan.to_json()
    one, other = pruned(model, plan), pruned(model, again)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"schema": 1}', '{"schema": 1, "layers": 3}', "\0"]
)
def test_what_is_no_plan_is_refused(tmp_path, text):
    """In one sentence, whatever the file holds."""
    (tmp_path / "plan.json").write_text(text)

    with pytest.raises(PruningError, match=r"^Cannot read the plan: it is damaged, or no plan"):
        Plan.load(tmp_path / "plan.json")


def test_a_plan_of_another_version_or_of_no_file_is_refused(tmp_path):
    """The sentence says which, and what to do."""
    (tmp_path / "plan.json").write_text(json.dumps({"schema": 99}))

    with pytest.raises(PruningError, match=r"schema version 99, expected 1\. Make it again"):
        Plan.load(tmp_path / "plan.json")
    with pytest.raises(PruningError, match=r"^Cannot read the plan '.*missing\.json': "):
        Plan.load(tmp_path / "missing.json")


def test_a_plan_for_another_model_is_refused():
    """Other parameters, other shapes, other weights: a sentence each, and nothing is changed."""
    plan = plan_for(make_plain(), "conv1", count=1, threshold=None)
    cases = {
        r"^The plan is for another model: parameter 'norm1\.bias' is in the model only\.": (
            make_plain(norm=True)
        ),
        r"^The plan does not fit the model: its weights have changed since the plan was made\.": (
            make_plain(seed=1)
        ),
        r"^The plan does not fit the model: 'conv1\.weight' has shape \(5, 1, 3, 3\), and had "
        r"\(6, 1, 3, 3\) when the plan was made\. Make the plan again\.$": (
            pruned(make_plain(), plan)
        ),
    }
    for message, model in cases.items():
        before = snapshot_of(model)
        with pytest.raises(PruningError, match=message):
            plan.apply(model)
        after = model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_nothing_is_changed_where_a_later_layer_cannot_follow():
    """An optimizer that holds factored state of one layer keeps the whole plan from being done."""
    model = make_plain()
    optimizer = torch.optim.Adafactor(model.fc1.parameters())
    F.cross_entropy(model(images(8)), torch.zeros(8, dtype=torch.long)).backward()
    optimizer.step()
    plan = plan_for(model, ["conv1", "conv2"], count=1, threshold=None)
    before = snapshot_of(model)

    with pytest.raises(
        PruningError, match=r"'conv2' while Adafactor updates it: its state 'row_var'"
    ):
        plan.apply(model)

    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room"), KeyboardInterrupt()])
def test_what_fails_midway_leaves_no_trace(monkeypatch, error):
    """Of two layers the second fails after its fold: weights, sizes, moments are as they were."""
    model = make_plain()
    optimizer = torch.optim.Adam(model.parameters())
    F.cross_entropy(model(images(8)), torch.zeros(8, dtype=torch.long)).backward()
    optimizer.step()
    plan = plan_for(model, ["conv1", "conv2"], count=1, threshold=None)
    before = snapshot_of(model)
    moments = {p: state["exp_avg"].clone() for p, state in optimizer.state.items()}
    calls = []

    def failing(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 2:
            raise error
        return remove(*arguments, **keywords)

    monkeypatch.setattr("tensorview.pruning.plan.remove", failing)
    with pytest.raises(type(error)):
        plan.apply(model)

    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (model.conv1.out_channels, model.conv2.in_channels) == (6, 6)
    for parameter, moment in moments.items():
        assert torch.equal(optimizer.state[parameter]["exp_avg"], moment)
        assert parameter.grad.shape == parameter.shape
    monkeypatch.undo()
    plan.apply(model)
    assert (model.conv1.out_channels, model.conv2.out_channels) == (5, 4)


def test_optimizers_that_cannot_be_found_may_be_named():
    """After ``gc.freeze()`` nothing is found; what is given is followed."""
    model = make_plain()
    optimizer = torch.optim.Adam(model.parameters())
    F.cross_entropy(model(images(8)), torch.zeros(8, dtype=torch.long)).backward()
    optimizer.step()
    plan = plan_for(model, "conv1", count=1, threshold=None)
    gc.collect()
    gc.freeze()
    try:
        plan.apply(model, optimizers=[optimizer])
    finally:
        gc.unfreeze()

    assert optimizer.state[model.conv1.weight]["exp_avg"].shape == model.conv1.weight.shape


def test_optimizers_are_found():
    """State of an optimizer that nobody named loses the same entries, and training goes on."""
    model = make_plain()
    optimizers = [
        torch.optim.Adam(model.conv1.parameters()),
        torch.optim.SGD([*model.conv2.parameters(), *model.fc1.parameters()], 0.1, momentum=0.9),
    ]
    labels = torch.arange(8) % 3
    F.cross_entropy(model(images(8)), labels).backward()
    for optimizer in optimizers:
        optimizer.step()
    moments = optimizers[0].state[model.conv1.weight]["exp_avg"].clone()
    plan = plan_for(model, "conv1", filters=(0, 4), threshold=None)

    plan.apply(model)

    assert torch.equal(optimizers[0].state[model.conv1.weight]["exp_avg"], moments[[1, 2, 3, 5]])
    model.zero_grad()
    F.cross_entropy(model(images(8)), labels).backward()
    before = snapshot_of(model)
    for optimizer in optimizers:
        optimizer.step()
    for name in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc1.weight"):
        assert not torch.equal(before[name], model.state_dict()[name]), name


def test_layers_whose_filters_go_together_are_planned_once():
    """Of two layers on one residual stream the second is refused by name."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            return self.head(torch.relu(x + self.inner(x)))

    torch.manual_seed(0)
    message = (
        r"^Cannot prune layer 'inner' beside 'stem', for their filters go together: prune one, "
        r"then make another plan\.$"
    )
    with pytest.raises(PruningError, match=message):
        plan_for(Residual(), ["stem", "inner"], count=1, threshold=None)


def test_a_probe_that_the_model_cannot_take_is_refused():
    """In one sentence, by whichever part meets it first."""
    model = make_plain()

    with pytest.raises(PruningError, match=r"probe cannot be taken by the model.*pass probe="):
        plan_for(model, "conv1", probe=torch.randn(300, 3, 16, 16), evaluate=lambda _: 1.0)
    with pytest.raises(PruningError, match=r"probe cannot be taken by the model.*pass probe="):
        plan_for(model, "conv1", probe=torch.randn(300, 3, 16, 16))


def test_weights_that_are_not_finite_are_refused():
    """A layer that has diverged is not judged."""
    model = make_plain()
    with torch.no_grad():
        model.conv1.weight[1] = torch.nan

    with pytest.raises(PruningError, match=r"^Cannot prune layer 'conv1'.*not finite"):
        plan_for(model, "conv1", count=1, threshold=None)


def test_a_probe_larger_than_a_chunk_is_seen_whole():
    """What is gathered does not depend on how the probe is cut into passes."""
    model = make_plain()
    assert given_probe(model, images(130)).size == 130

    whole = plan_for(model, "conv1", probe=images(130), count=2, threshold=None)
    double = torch.cat([images(130), images(130)])
    twice = plan_for(model, "conv1", probe=double, count=2, threshold=None)

    assert removed(whole) == removed(twice)
    assert whole.layers[0].samples == 130
    np.testing.assert_allclose(
        whole.layers[0].merges[0].fit.coefficients,
        twice.layers[0].merges[0].fit.coefficients,
        rtol=1e-3,
        atol=1e-5,
    )
