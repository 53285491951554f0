"""The probe leaves no trace in the training."""

import random
import typing

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

from tensorview.capture import Capturer
from tensorview.capture.probe import (
    evaluating,
    given_probe,
    probing,
    run_probe,
    take_probe,
)
from tensorview.errors import CaptureError
from tests.capture.helpers import make_settings

# The legacy global state is the one a training may draw from.
# ruff: noqa: NPY002


class Fragile(nn.Module):
    """All that a careless observer disturbs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.spectral = parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1))
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(4 * 16, 3)
        self.register_buffer("calls", torch.zeros(()))

    def train(self, mode=True):  # noqa: FBT002  # torch's signature
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, images):
        self.calls += 1
        self.calls = self.calls.clone()
        x = self.frozen(self.act(self.norm(self.conv(images))))
        x = F.relu(self.spectral(F.max_pool2d(x, 2)), inplace=True)
        x = F.dropout(self.dropout(x), 0.2)  # active in evaluation mode too
        x = x + np.random.normal() * 1e-3 + random.random() * 1e-3
        return self.fc(x.flatten(1))


def train(steps, *, optimizer_class, capture):
    """Everything that training leaves behind."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model = Fragile().train()
    optimizer = optimizer_class(model.parameters(), lr=1e-2)
    settings = make_settings(probe=torch.ones(5, 1, 8, 8).cumsum(2) / 8)
    capturer = Capturer(model, settings=settings) if capture else None
    losses = []
    for _ in range(steps):
        images, labels = torch.randn(8, 1, 8, 8), torch.randint(3, (8,))
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        before = capturer.sketch_weights() if capturer else None
        optimizer.step()
        if capturer:
            assert capturer.begin(before=before).finish().layers[0].activations is not None
        losses.append(loss.item())
    state = [value for entry in optimizer.state.values() for value in entry.values()]
    return {
        "losses": losses,
        "model": list(model.state_dict().values()),
        "gradients": [parameter.grad for parameter in model.parameters()],
        "optimizer": [torch.as_tensor(value) for value in state if value is not None],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
    }


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.SGD])
def test_o1_training_is_bit_identical_with_a_capture_at_every_step(optimizer_class):
    """200 steps: losses, weights, buffers, gradients, optimizer, modes and random states."""
    plain = train(200, optimizer_class=optimizer_class, capture=False)
    watched = train(200, optimizer_class=optimizer_class, capture=True)

    assert [key for key in plain if not equal(plain[key], watched[key])] == []


def test_the_check_above_can_fail():
    """A probe run in training mode, as it is, changes the training."""
    torch.manual_seed(0)
    model = Fragile().train()
    state = [value.clone() for value in model.state_dict().values()]
    model(torch.randn(4, 1, 8, 8))

    assert not equal(state, list(model.state_dict().values()))


def test_each_module_gets_its_own_mode_back_also_after_an_exception():
    """Frozen parts stay frozen, and overridden train() methods are not called."""
    model = Fragile().train()
    modes = [module.training for module in model.modules()]
    model.train = None
    inside = []

    def fail():
        with probing(model):
            inside.extend(module.training for module in model.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert not any(inside)
    assert modes == [module.training for module in model.modules()]


def test_buffers_are_put_back_in_place():
    """Buffers written to, or replaced, are the same objects with the same values."""
    model = Fragile().eval()
    before = dict(model.named_buffers())
    values = {name: buffer.clone() for name, buffer in before.items()}
    with probing(model):
        model(torch.randn(3, 1, 8, 8))
        assert model.calls == 1

    for name, buffer in model.named_buffers():
        assert buffer is before[name]
        assert torch.equal(buffer, values[name])


def test_noise_is_the_same_at_each_capture():
    """A model that samples shows the same noise each time, so pictures can be compared."""
    model, inputs = nn.Dropout(), torch.ones(50)
    drawn = []
    for _ in range(2):
        with probing(model):
            drawn.append(F.dropout(inputs, 0.5) + np.random.normal() + random.random())

    assert torch.equal(*drawn)


def test_gradients_stay_off_and_grads_untouched():
    """The probe builds no graph, and inside it nothing requires a gradient."""
    model = nn.Linear(2, 2)
    with probing(model):
        assert not model(torch.ones(1, 2)).requires_grad

    assert torch.is_grad_enabled()


class Batch(typing.NamedTuple):
    images: torch.Tensor
    mask: torch.Tensor


def test_the_first_samples_are_cloned_wherever_they_are():
    """Nested tuples, lists and dicts keep their shape; other tensors and values pass through."""
    model = nn.Linear(2, 2)
    images = torch.randn(100, 3)
    table = torch.randn(7, 3)
    probe = take_probe(
        model,
        (Batch(images, images > 0), [images, "text"]),
        {"table": table, "deep": {"labels": torch.arange(100)}, "scale": torch.tensor(2.0)},
    )
    first, (again, text) = probe.args

    assert probe.size == 64
    assert isinstance(first, Batch)
    assert torch.equal(first.images, images[:64])
    assert torch.equal(first.mask, images[:64] > 0)
    assert len(again) == 64
    assert text == "text"
    assert torch.equal(probe.kwargs["table"], table)
    assert probe.kwargs["deep"]["labels"].tolist() == list(range(64))
    images.zero_()
    table.zero_()
    assert first.images.abs().sum() > 0
    assert probe.kwargs["table"].abs().sum() > 0


def test_a_small_first_batch_is_taken_whole():
    """Ten samples are ten samples."""
    assert take_probe(nn.Linear(2, 2), (torch.randn(10, 2),), {}).size == 10


class Records(nn.Module):
    """Remembers what it was called with."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, *args, **kwargs):
        self.seen.append((args, kwargs, torch.is_autocast_enabled("cpu")))
        args[0].zero_()


@pytest.mark.parametrize(
    "probe", [torch.arange(6.0), (torch.arange(6.0), 3), [torch.arange(6.0), 3]]
)
def test_a_given_probe_is_used_whole_and_never_changed(probe):
    """A model that writes into its input does not spoil the next capture."""
    model = Records()
    made = given_probe(model, probe)
    for _ in range(2):
        run_probe(model, made)
        run_probe(model, made, start=2, stop=4)

    assert made.size == 6
    assert [len(args[0]) for args, _, _ in model.seen] == [6, 2, 6, 2]
    assert made.args[0].tolist() == list(range(6))


def test_keywords_may_be_a_dict():
    """A dict is passed as keyword arguments."""

    class Keywords(nn.Linear):
        def forward(self, *, images):
            return super().forward(images)

    model = Keywords(3, 2)
    run_probe(model, given_probe(model, {"images": torch.ones(4, 3)}))


def test_the_probe_runs_under_the_autocast_it_was_taken_under():
    """The probe meets the arithmetic of the training, and leaves no cached casts."""
    model = Records()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = take_probe(model, (torch.ones(2),), {})
    plain = take_probe(model, (torch.ones(2),), {})
    run_probe(model, cast)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run_probe(model, plain)

    assert cast.autocast == torch.bfloat16
    assert [enabled for _, _, enabled in model.seen] == [True, False]


def test_autocast_training_keeps_its_gradients():
    """A probe between two passes under one autocast must not leave casts without gradients."""
    model = nn.Linear(3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        probe = take_probe(model, (torch.ones(2, 3),), {})
        with probing(model):
            run_probe(model, probe)
        model(torch.ones(2, 3)).sum().backward()

    assert model.weight.grad is not None


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (
            torch.ones(4, 7),
            (
                r"The probe cannot be taken by the model: mat1 and mat2 shapes cannot be "
                r"multiplied \(4x7 and 3x2\); pass probe= a batch that the model takes in "
                r"evaluation mode\."
            ),
        ),
        (
            {"pictures": torch.ones(4, 3)},
            (
                r"The probe cannot be taken by the model: .*unexpected keyword argument "
                r"'pictures'; pass probe= a batch that the model takes in evaluation mode\."
            ),
        ),
        (
            "images",
            (
                r"probe= is a str: expected a tensor, a tuple of arguments or a dict of keyword "
                r"arguments\."
            ),
        ),
        (
            torch.ones(0, 3),
            (
                r"The probe holds no tensor with samples: pass probe= a tensor, a tuple of "
                r"arguments or a dict of keyword arguments\."
            ),
        ),
    ],
)
def test_a_probe_that_cannot_be_taken_is_refused_at_construction(probe, message):
    """One sentence with the model's own reason."""
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(CaptureError, match=f"^{message}$"):
        Capturer(model, settings=make_settings(probe=probe))


def test_evaluating_reads_parametrised_weights_without_updating_them():
    """A spectral norm takes a step of its power iteration only when the training asks for it."""
    layer = parametrizations.spectral_norm(nn.Linear(4, 4)).train()
    before = [buffer.clone() for buffer in layer.buffers()]
    with evaluating(layer):
        assert layer.weight.shape == (4, 4)

    assert equal(before, list(layer.buffers()))
    assert layer.parametrizations.weight[0].training
