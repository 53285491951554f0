"""Health of real trainings: what is flagged, when, and who is told."""

import itertools
import logging
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import tensorview
from tests.networks import make_training, train_steps

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from lenet5_digits import digits
from networks import LeNet5, ResNet20
from resnet20_cifar10 import cifar_images, in_shared, weights_of

BATCH = 16
QUIET = {"live": False, "formats": ()}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(model, optimizer, *, data=None, steps=40, every=10, each=lambda _: None, **watching):
    """Train on digits; return every flag raised and the watcher."""
    images, labels = data or digits()[:2]
    flags = []
    keywords = {"on_flag": flags.append, "strict": True, **QUIET, **watching}
    with tensorview.watch(model, optimizer, every=every, **keywords) as watcher:
        for step in range(1, steps + 1):
            chosen = torch.randperm(len(labels))[:BATCH]
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            each(step)
    return flags, watcher


def lenet(seed=0):
    torch.manual_seed(seed)
    return LeNet5()


def mlp(nonlinearity, *, depth, std):
    torch.manual_seed(0)
    sizes = [784] + [50] * depth
    layers = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nonlinearity()]
    model = nn.Sequential(*layers, nn.Linear(50, 10))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std) if parameter.ndim > 1 else nn.init.zeros_(parameter)
    return model


def kinds(flags):
    return {flag.kind for flag in flags}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rate", ["adam", "sgd"])
def test_a_sane_training_raises_no_flag(seed, rate):
    """LeNet-5 on digits with Adam and with momentum: silence from the first step to the last."""
    model = lenet(seed)
    optimizer = (
        torch.optim.Adam(model.parameters(), lr=1e-3)
        if rate == "adam"
        else torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    )
    flags, watcher = train(model, optimizer, steps=80, every=8)

    assert list(map(str, flags)) == []
    assert watcher.status().flags == ()
    assert "flag" not in str(watcher.status())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("name", "rate"), [("SGD", 10.0), ("Adam", 1.0)])
def test_a_rate_that_is_far_too_high_is_flagged_at_once(seed, name, rate):
    """At the first capture a step as long as the weights, within a few the layers it kills."""
    model = lenet(seed)
    flags, watcher = train(model, getattr(torch.optim, name)(model.parameters(), lr=rate))

    assert {flag.kind for flag in flags if flag.step == 1} == {"large update"}
    assert "dead layer" in kinds(flags)
    assert {"dead layer"} <= kinds(watcher.status().flags)
    assert "flag: fc1: dead layer at step" in str(watcher.status())


def test_a_deep_logistic_network_that_begins_small_vanishes():
    """The first layers are flagged, the last is not, and nothing explodes."""
    model = mlp(nn.Sigmoid, depth=8, std=0.01)
    flags, _ = train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    vanishing = [flag for flag in flags if flag.kind == "vanishing gradient"]

    assert {"1", "3", "5"} <= {flag.layer for flag in vanishing}
    assert "17" not in {flag.layer for flag in vanishing}
    assert all(flag.numbers["sensitivity_share"] <= 1e-4 for flag in vanishing)
    assert "exploding gradient" not in kinds(flags)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_deep_network_that_begins_large_explodes(name):
    """Without normalisation, from the first capture on, in every layer."""
    model = mlp(nn.ReLU, depth=10, std=1.0)
    flags, _ = train(model, getattr(torch.optim, name)(model.parameters(), lr=1e-3), steps=2)
    exploding = [flag for flag in flags if flag.kind == "exploding gradient"]

    assert [flag.step for flag in exploding] == [1] * 11


@pytest.mark.parametrize("rate", [0.0, 1e-9])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_rate_of_next_to_nothing_stalls(name, rate):
    """All layers, although their gradients are as they should be; and nothing else is said."""
    model = lenet()
    flags, _ = train(model, getattr(torch.optim, name)(model.parameters(), lr=rate))

    assert kinds(flags) == {"stalled"}
    assert [flag.layer for flag in flags] == ["conv1", "conv2", "fc1", "fc2"]
    assert {flag.step for flag in flags} == {30}
    assert all(flag.numbers["gradient_norm"] > 1e-3 for flag in flags)


def test_a_rate_that_is_far_too_low_goes_straight():
    """Thousands of equal steps in one direction: straight, and hardly moved."""
    model = lenet()
    images, labels = (part[:16] for part in digits()[:2])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    flags, _ = train(model.eval(), optimizer, data=(images, labels), steps=120, every=12)

    assert kinds(flags) == {"straight path"}
    assert all(flag.numbers["straightness"] >= 0.9 for flag in flags)
    assert all(flag.numbers["path_moved"] <= 0.005 for flag in flags)


def test_a_layer_frozen_on_purpose_is_not_flagged():
    """Without a gradient there is nothing that could vanish or stall."""
    model = lenet()
    model.conv1.requires_grad_(False)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    flags, watcher = train(model, torch.optim.Adam(learned, lr=1e-3))

    assert flags == []
    assert math.isnan(watcher.snapshot().scalars["conv1/gradient_norm"][-1])


def test_a_nan_is_named_with_its_layer_its_step_and_the_last_clean_capture():
    """Put into conv2 after step 35: the capture of step 40 finds it, that of 30 was clean."""
    model = lenet()

    def poison(step):
        if step == 35:
            with torch.no_grad():
                model.conv2.weight[0, 0, 0, 0] = torch.nan

    flags, _ = train(model, torch.optim.SGD(model.parameters(), lr=0.01), steps=40, each=poison)

    assert kinds(flags) == {"not finite"}
    assert {flag.step for flag in flags} == {40}
    assert {flag.numbers["last_clean_step"] for flag in flags} == {30}
    found = {flag.layer: flag.numbers for flag in flags}
    assert found["conv2"]["nonfinite_weights"] > 0


def test_weights_gradients_and_activations_are_told_apart():
    """A weight that breaks just before a capture has spoiled no gradient yet."""
    model, optimizer = make_training()
    flags = []

    with tensorview.watch(model, optimizer, every=5, on_flag=flags.append, **QUIET) as watcher:
        train_steps(model, optimizer, 5)
        with torch.no_grad():
            model.conv2.weight.fill_(torch.inf)
        watcher._captures.take(5)
        watcher.step()

    numbers = {flag.layer: flag.numbers for flag in flags if flag.kind == "not finite"}
    assert "conv1" not in numbers
    assert numbers["conv2"]["nonfinite_weights"] == model.conv2.weight.numel()
    assert numbers["conv2"]["nonfinite_gradients"] == 0
    assert numbers["conv2"]["nonfinite_activations"] > 0
    assert numbers["fc"]["nonfinite_weights"] == 0


@pytest.mark.skipif("TENSORVIEW_DATA" not in os.environ, reason="needs the trained ResNet-20")
def test_dead_filters_of_a_trained_network_are_found():
    """Thirteen inner filters of ResNet-20, over 256 images; nothing else while it trains on."""
    torch.manual_seed(0)
    model = ResNet20()
    model.load_state_dict(weights_of(in_shared("resnet20_state_dict.pt")))
    images, labels = cifar_images(in_shared("cifar10_test_1000.npz"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    flags, _ = train(model, optimizer, data=(images, labels), steps=4, every=1, probe=images[:256])
    inner = [flag for flag in flags if flag.layer.endswith(".conv1")]

    assert kinds(flags) == {"dead filters"}
    assert sum(flag.numbers["dead_surely"] for flag in inner) == 13


def test_the_log_names_each_kind_of_a_layer_once(caplog):
    """One line for all layers of a kind, with the numbers of the first; never again."""
    model = lenet()
    with caplog.at_level(logging.WARNING, logger="tensorview"):
        train(model, torch.optim.SGD(model.parameters(), lr=0.0), every=1, steps=20)
    said = [record.getMessage() for record in caplog.records]

    assert len(said) == 1
    assert said[0].startswith("conv1: stalled at step 4: moved 0, update_ratio 0, gradient_norm ")
    assert said[0].endswith("; also conv2, fc1, fc2")


def fail(_):
    raise ZeroDivisionError("of the user's")


def test_a_fault_in_the_users_function_never_reaches_the_training():
    """It is counted, the other flags are still told, and the training goes on."""
    model = lenet()
    _, watcher = train(
        model,
        torch.optim.SGD(model.parameters(), lr=0.0),
        on_flag=fail,
        strict=False,
        every=1,
        steps=6,
    )

    assert watcher.status().step == 6
    assert watcher.status().faults == 4
    assert watcher.status().last_fault == "ZeroDivisionError: of the user's"


def test_strict_lets_it_through():
    """As with every other fault."""
    model = lenet()
    with pytest.raises(ZeroDivisionError):
        train(model, torch.optim.SGD(model.parameters(), lr=0.0), on_flag=fail, every=1, steps=6)


def test_the_users_function_may_close_the_watcher():
    """The training goes on unwatched."""
    model, optimizer = make_training()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    told = []

    def close(flag):
        told.append(flag)
        watcher.close()

    watcher = tensorview.watch(model, optimizer, every=1, on_flag=close, strict=True, **QUIET)
    train_steps(model, optimizer, 8)

    assert len(told) == 3
    assert watcher.status().state == "closed"
    assert watcher.status().step == 4


def test_flags_are_columns():
    """The table has flags from the capture that raised them on, and their number always."""
    model = lenet()
    _, watcher = train(model, torch.optim.SGD(model.parameters(), lr=0.0), every=1, steps=12)
    scalars = watcher.snapshot().scalars

    assert scalars["conv1/flags"].tolist() == [0] * 3 + [1] * 9
    assert scalars["conv1/flag_stalled"][3:].tolist() == [1] * 9
    assert np.isnan(scalars["conv1/curvature"]).all()  # it never moved
