"""Whatever state a model keeps, a look at it changes nothing."""

import collections
import random

import numpy as np
import pytest
import torch
from torch import nn

from tensorview.capture import Capturer, restoring
from tensorview.capture.probe import probing
from tests.capture.helpers import make_settings


class Remembers(nn.Module):
    """Keeps state in every way but buffers."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.h = torch.zeros(3)
        self.total = torch.zeros(3)
        self.calls = 0
        self.cache = []
        self.recent = collections.deque(maxlen=2)
        self.by_name = {"deep": {"outputs": [], "sums": (torch.zeros(3), [0.0])}}
        self.seen = set()
        self.once = "here"
        self.noise = torch.Generator().manual_seed(1)
        self.dice = random.Random(1)
        self.numbers = np.random.default_rng(1)
        self.hidden = [nn.BatchNorm1d(3)]

    def forward(self, x):
        y = self.fc(x) + 0.1 * self.h + 0.01 * torch.rand(3, generator=self.noise)
        y = self.hidden[0](y) * (1 + 0.01 * self.dice.random() + 0.01 * self.numbers.random())
        self.h = self.h * 0.5 + y.detach().mean(0)
        self.total += y.detach().sum(0)
        self.calls += 1
        self.cache.append(y.detach())
        self.recent.append(y.detach().sum().item())
        self.by_name["deep"]["outputs"].append(self.calls)
        self.by_name["deep"]["sums"][0].add_(y.detach().sum(0))
        self.by_name["deep"]["sums"][1][0] += 1
        self.by_name[self.calls] = self.calls
        self.seen.add(self.calls)
        self.last = y.detach()
        if hasattr(self, "once"):
            del self.once
            self.register_buffer("scale", torch.ones(3))
        return y


def train(*, capture):
    torch.manual_seed(0)
    model = Remembers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capturer = Capturer(model, settings=make_settings(probe=torch.ones(2, 3))) if capture else None
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
        if capturer:
            assert capturer.begin().finish().layers[0].activations is not None
    return model


def comparable(value):
    """All state as nested lists of numbers."""
    if isinstance(value, nn.Module):
        value = {**vars(value), **value.state_dict()}
    elif isinstance(value, torch.Generator):
        value = value.get_state()
    elif isinstance(value, random.Random):
        value = value.getstate()
    elif isinstance(value, np.random.Generator):
        value = value.bit_generator.state
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, collections.deque)):
        return [comparable(item) for item in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def test_o1_training_is_bit_identical_whatever_state_the_model_keeps():
    """Attributes, what they hold, generators and modules out of sight are as without us."""
    assert comparable(train(capture=False)) == comparable(train(capture=True))


def test_attributes_are_the_same_objects_after_a_look():
    """Rebound, deleted and added attributes, and the identity of containers and dicts."""
    model = Remembers()
    before = dict(vars(model))
    with probing(model) as lost:
        model(torch.ones(2, 3))
        assert not hasattr(model, "once")

    assert before.keys() == vars(model).keys()
    assert [key for key, value in before.items() if vars(model)[key] is not value] == []
    assert model.cache == []
    assert model.total.tolist() == [0, 0, 0]
    assert dict(model.named_buffers()) == {}
    assert lost == []


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(1.0),
        torch.full((3,), torch.nan),
        torch.zeros(2, 3).t(),
        torch.zeros(2, dtype=torch.complex64).conj(),
        torch.zeros(4)[::2],
        torch.zeros(3, dtype=torch.bool),
        torch.zeros(0),
    ],
)
def test_tensors_of_every_kind_get_their_values_back(tensor):
    """Also where a write gives a tensor no new version; one saved for backward stays usable."""
    model = nn.Linear(3, 2)
    model.state = [tensor.clone()]
    model.expanded = torch.zeros(1).expand(3)
    model.factor = torch.ones(2)
    product = (model(torch.ones(1, 3)) * model.factor).sum()
    with torch.inference_mode():
        model.frozen = torch.zeros(2)
    with probing(model):
        model.state[0].data.fill_(7)
        model.factor.data.fill_(7)
        with torch.inference_mode():
            model.frozen.fill_(7)
    product.backward()

    assert torch.equal(model.state[0].isnan(), tensor.isnan())
    assert torch.equal(model.state[0].nan_to_num(), tensor.nan_to_num())
    assert model.frozen.tolist() == [0, 0]
    assert model.bias.grad.tolist() == [1, 1]


def test_hooks_that_remove_themselves_are_there_again():
    """A hook for the first call of the training is not used up by the probe."""
    model, calls = nn.Linear(3, 2), []

    def hook(*_):
        calls.append(model.training)
        handle.remove()

    handle = model.register_forward_hook(hook)
    with probing(model):
        model(torch.ones(1, 3))
    model(torch.ones(1, 3))
    model(torch.ones(1, 3))

    assert calls == [False, True]


def test_old_style_spectral_norm_keeps_the_weight_of_the_training():
    """Its hook runs, being a part of the model, and the graph's own weight comes back."""
    model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 3)))
    model(torch.ones(2, 3))
    weight = model[0].weight
    with probing(model):
        model(torch.ones(2, 3))
        assert model[0].weight is not weight

    assert model[0].weight is weight


def test_lazy_modules_become_what_they_become():
    """What its first call makes of a lazy module cannot be undone, and works."""
    model = nn.Sequential(nn.Linear(3, 3), nn.LazyBatchNorm1d())
    with probing(model):
        model(torch.ones(2, 3))

    assert model(torch.randn(4, 3)).shape == (4, 3)


@pytest.mark.parametrize("bound", ["_MAX_TENSOR_BYTES", "_MAX_ITEMS"])
def test_what_is_too_large_to_be_put_back_is_named_once(monkeypatch, caplog, bound):
    """One warning with the names of what was in fact changed."""
    monkeypatch.setattr(restoring, bound, 100)

    class Large(nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.register_buffer("counts", torch.zeros(50))
            self.register_buffer("unchanged", torch.zeros(60))
            self.small = torch.zeros(2)
            self.history = [0.0] * 101

        def forward(self, x):
            self.counts += 1
            self.small += 1
            self.history.append(1.0)
            return super().forward(x)

    model = nn.Sequential(Large())
    capturer = Capturer(model, settings=make_settings(probe=torch.ones(2, 3)))
    for _ in range(2):
        capturer.begin().finish()
    name = "0.counts" if bound == "_MAX_TENSOR_BYTES" else "0.history"

    assert model[0].small.tolist() == [0, 0]
    assert [record.message for record in caplog.records] == [
        f"Changed by the probe and too large to be put back: {name}."
    ]
