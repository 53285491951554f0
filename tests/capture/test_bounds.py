"""What is left out so that a snapshot stays small."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tensorview.bounds import (
    LEAST_POSITIONS,
    MAX_VALUES,
    evenly,
    fold_map,
    largest,
    plan_activations,
    plan_weights,
    position_step,
)
from tensorview.capture.layers import select_layers
from tensorview.snapshot import GROUP_DEAD, MAX_SNAPSHOT_BYTES
from tests.capture.helpers import snapshot_once

VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]


def vgg16(*, device=None):
    layers, channels = [], 3
    for size in VGG16:
        if size == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, size, 3, padding=1, device=device), nn.ReLU(True)]
            channels = size
    head = [nn.Flatten(), nn.Linear(512 * 49, 4096, device=device), nn.ReLU(True)]
    head += [nn.Linear(4096, 4096, device=device), nn.ReLU(), nn.Linear(4096, 1000, device=device)]
    return nn.Sequential(*layers, *head)


@given(most=st.integers(1, 500), limit=st.integers(-3, 600))
def test_largest_is_the_last_that_fits(most, limit):
    """Found without trying them all; 1 where nothing fits."""
    assert largest(most, lambda number: number <= limit) == max(1, min(most, limit))


@given(total=st.integers(1, 5000), data=st.data())
def test_evenly_chosen_indices_are_distinct_and_reach_both_ends(total, data):
    """Ascending, with the first and the last, gaps as equal as can be."""
    shown = data.draw(st.integers(1, total))
    chosen = evenly(total, shown)

    assert len(set(chosen.tolist())) == shown
    assert chosen[0] == 0
    assert shown == 1 or chosen[-1] == total - 1
    assert shown < 3 or np.ptp(np.diff(chosen)) <= 1


def test_a_vgg16_is_reduced_where_it_is_large_and_says_how():
    """Small layers are whole, large ones give kernel norms, the largest are sampled."""
    layers = select_layers_on_meta(vgg16(device="meta"))
    plans = plan_weights(layers, itemsizes=[4] * len(layers))
    by_kind = {layer.name: plan.reduced for layer, plan in zip(layers, plans, strict=True)}

    assert by_kind["0"] == by_kind["2"] == by_kind["5"] == ""
    assert by_kind["24"] == by_kind["26"] == by_kind["28"] == "kernel norms"
    assert by_kind["32"] == "512 of 4096 filters, 512 of 25088 input channels"
    sizes = [(layer.out, 14, 14) if layer.kind == "Conv2d" else (layer.out,) for layer in layers]
    sizes[0] = sizes[1] = (64, 224, 224)
    activations = plan_activations(layers, sizes=sizes, probe_size=64, samples=range(4))

    assert activations[0].reduced == activations[1].reduced
    assert activations[0].reduced == "maps of 0 of 4 samples, maps averaged over 3 x 3"
    assert activations[-1].samples == (0, 1, 2, 3)
    assert activations[-3].channels < 512


def select_layers_on_meta(model):
    """Layers of a model whose weights take no memory."""
    real = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    for module in real:
        module.weight = nn.Parameter(
            torch.zeros(()).expand(module.weight.shape), requires_grad=False
        )
    return select_layers(model)


@pytest.mark.parametrize("count", [1, 3, 40, 400])
def test_any_number_of_large_layers_stays_within_the_budgets(count):
    """Plans fit their budgets however many layers there are."""
    weight = torch.zeros(()).expand(2048, 2048, 3, 3)
    model = nn.Sequential()
    for _ in range(count):
        module = nn.Conv2d(1, 1, 1, bias=False)
        module.weight = nn.Parameter(weight, requires_grad=False)
        model.append(module)
    layers = select_layers(model)
    plans = plan_weights(layers, itemsizes=[8] * count)
    activations = plan_activations(
        layers, sizes=[(2048, 300, 200)] * count, probe_size=64, samples=range(9)
    )
    weights = sum(8 * plan.filters * plan.in_channels for plan in plans)
    maps = sum(
        4
        * (1 + len(plan.samples))
        * plan.channels
        * -(-300 // plan.stride)
        * -(-200 // plan.stride)
        for plan in activations
    )
    pcc = sum(4 * plan.channels**2 for plan in activations)

    assert all(plan.kernel_norms for plan in plans)
    assert max(plan.filters for plan in plans) <= 512
    assert weights <= 24 * 2**20
    assert maps <= 24 * 2**20
    assert pcc <= 8 * 2**20
    assert len({plan.reduced for plan in activations}) == 1


def test_maps_are_averaged_no_more_than_needed():
    """23 MB of maps, a little over the budget, are halved in each direction and no further."""
    layers = select_layers(nn.Sequential(nn.Conv2d(1, 64, 1)))
    (plan,) = plan_activations(layers, sizes=[(64, 300, 300)], probe_size=64, samples=())

    assert plan.stride == 2


@pytest.mark.parametrize(
    ("size", "probe_size"),
    [
        ((64, 224, 224), 64),
        ((16, 28, 28), 64),
        ((8, 7), 5000),
        ((8, 7, 7), 10_000),
        ((8, 4, 4), 10_000),
        ((10,), 64),
        ((10,), 10_000),
        ((4, 0, 0), 64),
    ],
)
def test_statistics_take_some_thousand_values_a_channel_from_every_column(size, probe_size):
    """At most MAX_VALUES, but for some of every sample; of few values all; no column is left out.

    Of very many samples it is not the corner of each map alone.
    """
    step = position_step(size, probe_size)
    height, width = fold_map(size)
    chosen = np.arange(height * width)[::step]

    assert len(chosen) * probe_size <= MAX_VALUES + 2 * LEAST_POSITIONS * probe_size
    assert len(chosen) >= min(LEAST_POSITIONS // 2, height * width)
    assert step == 1 or height * width * probe_size > MAX_VALUES
    assert len(np.unique(chosen % max(1, width))) == min(width, len(chosen))


def test_a_vgg16_snapshot_is_at_most_64_mib():
    """138 million weights, 64 x 224 x 224 maps."""
    torch.manual_seed(0)
    model = vgg16(device="meta")
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # All rows alike: as large as the real one without its memory.
            row = torch.randn(1, *module.weight.shape[1:], generator=generator) * 0.02
            module.weight = nn.Parameter(row.expand(module.weight.shape), requires_grad=False)
            module.bias = nn.Parameter(torch.zeros(len(module.weight)))
    snapshot = snapshot_once(model, probe=torch.randn(2, 3, 224, 224), map_samples=(0, 1))

    assert snapshot.nbytes <= MAX_SNAPSHOT_BYTES
    assert [layer.activations.maps.shape[-1] for layer in snapshot.layers[:2]] == [75, 75]
    assert all(layer.activations.maps.shape[0] >= 1 for layer in snapshot.layers)


def test_a_50000_way_head_is_at_most_64_mib_and_names_what_it_shows():
    """512 evenly chosen channels, the first and the last among them; dead ones of all counted."""
    model = nn.Sequential(nn.Linear(64, 50_000), nn.ReLU())
    with torch.no_grad():
        model[0].weight[100:200] = 0
        model[0].bias[100:200] = -1
    snapshot = snapshot_once(model, probe=torch.randn(16, 64))
    activations = snapshot.layers[0].activations

    assert snapshot.nbytes <= MAX_SNAPSHOT_BYTES
    assert activations.out == 50_000
    assert activations.channels.shape == (512,)
    assert activations.channels[[0, -1]].tolist() == [0, 49_999]
    assert activations.pcc.shape == (512, 512)
    assert snapshot.scalars["0/dead"][-1] >= 100


def test_small_networks_are_whole():
    """Nothing is reduced where all fits."""
    snapshot = snapshot_once(
        nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)),
        probe=torch.randn(4, 1, 8, 8),
    )

    assert [layer.weights.reduced for layer in snapshot.layers] == ["", ""]
    assert [layer.activations.map_stride for layer in snapshot.layers] == [1, 1]


def test_statistics_over_chosen_positions_are_close_and_their_range_is_exact():
    """A large layer: r within four standard errors, shares to 0.02, range and dead ones exactly."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU())
    model[0].weight.data[3] = model[0].bias.data[3] = 0
    probe = torch.randn(16, 3, 64, 64).cumsum(3) / 8
    probe[0, 0, 1, 1] = 60.0  # an extreme that a choice of positions would hardly meet
    found = snapshot_once(model, probe=probe).layers[0].activations
    maps = model(probe).detach().transpose(0, 1).reshape(8, -1)
    alive = [0, 1, 2, 4, 5, 6, 7]

    assert position_step((8, 64, 64), 16) > 1
    exact = np.corrcoef(maps[alive])
    error = np.abs(found.pcc[np.ix_(alive, alive)] - exact)
    assert (error <= 4 * (1 - exact**2) / np.sqrt(MAX_VALUES) + 1e-6).all()
    assert np.abs(found.zero_mass - (maps == 0).float().mean(1).numpy()).max() < 0.02
    assert np.array_equal(found.histogram_range, torch.stack(maps.aminmax(dim=1), 1))
    assert (found.groups == GROUP_DEAD).tolist() == [index == 3 for index in range(8)]
    assert found.histogram.sum(1) + found.zero_mass == pytest.approx(np.ones(8))
