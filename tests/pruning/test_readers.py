"""What readers of a layer see over the probe, and how what goes is folded into them."""

import pytest
import torch
from torch import nn

from tensorview.capture.probe import given_probe
from tensorview.errors import PruningError
from tensorview.pruning.meter import Meter
from tests.pruning.trainings import images, outputs, plan_for, pruned


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 3), (4, 2), (1, 1)])
def test_a_constant_is_taken_by_a_transposed_convolution(kernel, stride):
    """Of its taps each position hears as many as the stride leaves: outputs do not change."""
    torch.manual_seed(0)
    padding = (kernel - stride) // 2
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 5, kernel, stride, padding),
        nn.ReLU(),
        nn.Conv2d(5, 2, 1),
    )
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = 0.0, 1.0
        # Alike in every tap; where the image ends, an overlapping kernel would hear less.
        model[2].weight[2] = model[2].weight[2, :, :1, :1]
    plan = plan_for(model, "0", filters=(2,), threshold=None)

    (found,) = plan.layers
    assert (found.mode, found.merges[0].shift) == ("merge", "2")
    new, small = images(seed=2), pruned(model, plan)
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(
        outputs(small, new)[inner], outputs(model, new)[inner], atol=1e-6, rtol=1e-5
    )


def test_a_reader_may_be_called_by_keyword():
    """As in ``self.conv2(input=x)``: convolution, BatchNorm and Linear alike."""

    class Keywords(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 3)
            self.conv2 = nn.Conv2d(4, 5, 3, bias=False)
            self.norm = nn.BatchNorm2d(5)
            self.fc = nn.Linear(5, 2)

        def forward(self, x):
            x = self.norm(input=self.conv2(input=torch.relu(self.conv1(x))))
            return self.fc(input=torch.relu(x).mean((2, 3)))

    torch.manual_seed(0)
    plan = plan_for(Keywords(), ["conv1", "conv2"], count=1, threshold=None)

    assert [each.merges[0].shift for each in plan.layers] == ["norm", "fc"]


class Sum(nn.Module):
    """Two convolutions are added; as many others read the sum as are asked for."""

    def __init__(self, readers=1):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(1, 5, 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(5, 4, 3) for _ in range(readers))
        self.readers = readers

    def forward(self, x):
        x = self.a(x) + self.b(x)
        # Each reads the sum in a form of its own.
        forms = [torch.relu(x), x][: self.readers]
        return sum(head(form).mean((2, 3)) for head, form in zip(self.heads, forms, strict=True))


@pytest.mark.parametrize("layer", ["a", "b"])
def test_what_is_added_is_judged_as_a_sum(layer):
    """A filter that is silent in one of two layers, or alike in one, is neither dead nor a copy."""
    model = Sum()
    with torch.no_grad():
        model.a.weight[2], model.a.bias[2] = 0.0, 0.0
        model.a.weight[4], model.a.bias[4] = model.a.weight[1], model.a.bias[1]
        for module in (model.a, model.b):
            module.weight[3], module.bias[3] = 0.0, 0.5

    (found,) = plan_for(model, layer, threshold=0.99).layers

    assert (found.dead, found.groups, found.removed) == ((3,), (), (3,))


def test_of_several_readers_of_a_sum_the_one_that_hears_least_alike_counts():
    """Copies for one of them are no group, and filters that are dead for one are not dead."""
    torch.manual_seed(0)
    one, both = Sum(), Sum(readers=2)
    both.load_state_dict(one.state_dict(), strict=False)
    for model in (one, both):
        with torch.no_grad():
            model.b.weight.zero_()
            model.a.bias[0] = -9.0  # dead behind the ReLU alone
            model.a.weight[2], model.a.bias[2] = model.a.weight[1], 9.0
            model.a.weight[3], model.a.bias[3] = model.a.weight[1], 8.0
    (behind,) = plan_for(one, "a", threshold=0.999).layers
    (beside,) = plan_for(both, "a", threshold=0.999).layers

    assert (behind.dead, beside.dead) == ((0,), ())
    assert [group.members for group in behind.groups] == [(2, 3)]
    (group,) = beside.groups
    assert group.members == (2, 3)


@pytest.mark.parametrize("elsewhere", ["added", "given", "nowhere"])
def test_a_batch_norm_takes_no_constant_that_others_would_miss(elsewhere):
    """Only where it alone reads what the reader gives does its mean move."""

    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 3)
            self.conv2 = nn.Conv2d(4, 5, 3, bias=False)
            self.norm = nn.BatchNorm2d(5)

        def forward(self, x):
            x = self.conv2(torch.relu(self.conv1(x)))
            y = self.norm(x)
            if elsewhere == "added":
                return y + x
            return [y, {"raw": x}] if elsewhere == "given" else y

    (found,) = plan_for(Skip(), "conv1", filters=(1,), threshold=None, mode="merge").layers

    (merge,) = found.merges
    assert merge.shift == ("norm" if elsewhere == "nowhere" else "")


@pytest.mark.parametrize("largest", [2, 3, 64])
def test_a_probe_that_does_not_fit_is_run_in_smaller_passes(largest):
    """Neither what is gathered nor what is measured depends on how it is cut."""
    model, probe = Hungry(), torch.randn(70, 8)
    (whole,) = plan_for(model, "0", probe=probe, count=2, threshold=None).layers
    model.largest = largest

    (found,) = plan_for(model, "0", probe=probe, count=2, threshold=None).layers

    assert (found.removed, found.samples) == (whole.removed, 70)
    assert found.cost_merged == pytest.approx(whole.cost_merged, rel=1e-4)


def test_where_nothing_fits_in_memory_one_sentence_says_so():
    """At once, or where memory becomes short while costs are measured."""
    model, probe = Hungry(), torch.randn(70, 8)
    model.largest = 0
    with pytest.raises(PruningError, match=r"^The probe cannot be run: there is no memory left"):
        Meter(model, probe=given_probe(model, probe), evaluate=None)
    model.largest = 70
    meter = Meter(model, probe=given_probe(model, probe), evaluate=None)
    model.largest = 20

    message = (
        r"^Cannot judge what pruning costs: .* no longer takes 64 samples of the probe at once"
    )
    with pytest.raises(PruningError, match=message):
        meter.cost()


class Hungry(nn.Sequential):
    """Takes `largest` samples at once."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
        self.largest = 70

    def forward(self, x):
        if len(x) > self.largest:
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB.")
        return super().forward(x)
