"""A trained ResNet-20 where its data is there, and a random one with the same faults elsewhere."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tensorview.snapshot import GROUP_DEAD
from tests.capture.helpers import snapshot_once

DEAD = {
    "layer1.0.conv1": {2, 8},
    "layer1.2.conv1": {5, 11},
    "layer2.1.conv1": {13, 21},
    "layer2.2.conv1": {31},
    "layer3.0.conv1": {29, 62},
    "layer3.1.conv1": {0, 28, 59},
    "layer3.2.conv1": {31},
}


class Block(nn.Module):
    """Two convolutions and a shortcut that pads channels."""

    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride, self.pad = stride, (channels_out - channels_in) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y += F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y)


class ResNet20(nn.Module):
    """For 32 x 32 images, option-A shortcuts."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*[Block(16, 16, 1) for _ in range(3)])
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def trained():
    """The published weights, and 256 of the test images, shuffled."""
    if "TENSORVIEW_DATA" not in os.environ:
        pytest.skip("TENSORVIEW_DATA is not set; the form on random weights runs")
    folder = Path(os.environ["TENSORVIEW_DATA"]) / "resnet20-cifar10"
    model = ResNet20()
    state = torch.load(folder / "resnet20_state_dict.pt", weights_only=True)
    model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    images = np.load(folder / "cifar10_test_1000.npz")["images"]
    chosen = images[np.random.default_rng(0).permutation(len(images))[:256]]
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    return model, ((torch.tensor(chosen) / 255 - mean) / std).movedim(3, 1).contiguous()


def random():
    """Random weights, dead in the same places."""
    torch.manual_seed(0)
    model = ResNet20()
    probe = torch.randn(32, 3, 32, 32)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    model.train()(probe)  # normalised to this very batch, no other filter is dead by chance
    for name, filters in DEAD.items():
        norm = model.get_submodule(name.replace("conv", "bn"))
        with torch.no_grad():
            norm.weight[list(filters)] = 0
            norm.bias[list(filters)] = -0.1
    return model, probe


@pytest.mark.parametrize("network", [trained, random])
def test_dead_inner_filters_are_found_by_name(network):
    """13 filters whose ReLU never opens, in seven of nine blocks, and no other."""
    model, probe = network()
    snapshot = snapshot_once(model.eval(), probe=probe)
    inner = {layer.name: layer for layer in snapshot.layers if layer.name.endswith(".conv1")}
    found = {
        name: set(np.flatnonzero(layer.activations.groups == GROUP_DEAD).tolist())
        for name, layer in inner.items()
    }

    assert len(inner) == 9
    assert {name: filters for name, filters in found.items() if filters} == DEAD
    assert sum(snapshot.scalars[f"{name}/dead"][-1] for name in inner) == 13
    for name, filters in DEAD.items():
        activations = inner[name].activations
        assert (activations.zero_mass[list(filters)] == 1).all()
        assert np.isnan(activations.pcc[list(filters)]).all()


def test_a_trained_network_without_redundancy_shows_none():
    """Per position no inner pair reaches 0.7; summed over the batch, as in the paper, some do."""
    model, probe = trained()

    def largest(correlation):
        snapshot = snapshot_once(
            model.eval(), probe=probe, views=("correlation",), correlation=correlation
        )
        return max(
            float(np.nanmax(np.triu(layer.activations.pcc, 1)))
            for layer in snapshot.layers
            if layer.name.endswith(".conv1")
        )

    assert largest("position") < 0.7
    assert largest("batch_sum") > 0.85
