"""Which filters count as saturated."""

import math

import pytest
import torch
from torch import nn

from tensorview.analysis.saturation import count_saturated
from tests.capture.helpers import capture_once

FUNCTIONS = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "linear": nn.Identity,
}


def saturated(function, *, scale, shift=0.0):
    """Of 40 filters with *function*, whose inputs have this scale and mean."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 40), FUNCTIONS[function](), nn.Linear(40, 2))
    with torch.no_grad():
        model[0].weight.normal_(0, scale / math.sqrt(20))
        model[0].bias.fill_(shift)
    found = capture_once(model, probe=torch.randn(200, 20))
    return count_saturated(found.layers[0].activations)


@pytest.mark.parametrize("function", ["tanh", "sigmoid"])
def test_filters_at_the_ends_are_counted(function):
    """Most where the slope is gone at both ends, all at one; none where it is not."""
    assert saturated(function, scale=15.0) >= 20
    assert saturated(function, scale=1.0, shift=20.0) == 40
    assert saturated(function, scale=1.0) == 0


@pytest.mark.parametrize("function", ["relu", "gelu", "linear"])
@pytest.mark.parametrize("scale", [1e-3, 0.5, 1000.0])
def test_what_is_not_bounded_is_never_saturated(function, scale):
    """Not with large values, not with small ones, not with zeros throughout."""
    for shift in (0.0, -20.0 * scale, 20.0 * scale):
        assert not saturated(function, scale=scale, shift=shift) > 0


def test_a_relu_within_the_range_of_a_logistic_function_is_told_by_its_zeros():
    """Small values in nearly all filters, and one that reaches beyond a half."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 2))
    with torch.no_grad():
        model[0].weight.normal_(0, 1e-4)
        model[0].weight[0].mul_(600)
        model[0].bias.fill_(1e-2)
    activations = capture_once(model, probe=torch.randn(200, 20)).layers[0].activations

    assert 0.5 < activations.histogram_range.max() < 1
    assert math.isnan(count_saturated(activations))
