"""Measure what the thresholds of health are set by: healthy trainings and sick ones, as a table.

Usage: TENSORVIEW_DATA=<folder> python benchmarks/health.py
"""

import itertools
import logging
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from lenet5_digits import digits
from lenet5_mnist import mnist
from networks import LeNet5, ResNet20
from resnet20_cifar10 import cifar_images, in_shared, weights_of

import tensorview

BATCH = 50


class BoundedLeNet5(LeNet5):
    """With tanh or the logistic function in place of ReLU, and without dropout."""

    def __init__(self, bounded):
        super().__init__()
        self.bounded = bounded

    def forward(self, images):
        """As its parent's."""
        x = F.max_pool2d(self.bounded(self.conv1(images)), 2)
        x = F.max_pool2d(self.bounded(self.conv2(x)), 2)
        return self.fc2(self.bounded(self.fc1(x.flatten(1))))


def deep(nonlinearity, *, depth, std=None):
    """An MLP on 784 pixels; *std* of all weights instead of PyTorch's own beginning."""
    sizes = [784] + [100] * depth
    layers = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nonlinearity()]
    model = nn.Sequential(*layers, nn.Linear(100, 10))
    for layer in model:
        if std is not None and isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    return model


def finetuned():
    model = ResNet20()
    model.load_state_dict(weights_of(in_shared("resnet20_state_dict.pt")))
    return model


def adam(lr):
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def sgd(lr, momentum=0.0):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum)


def summed(logits, labels):
    return F.cross_entropy(logits, labels, reduction="sum")


def trainings(data, small, colour):
    """Yield name, seeds, network, optimizer, data, steps, steps between captures, loss."""
    mean = F.cross_entropy
    yield "LeNet-5, Adam 1e-3", 3, LeNet5, adam(1e-3), data, 300, 25, mean
    yield "LeNet-5, SGD 0.05, momentum 0.9", 3, LeNet5, sgd(0.05, 0.9), data, 300, 25, mean
    yield "the same, every step captured", 1, LeNet5, sgd(0.05, 0.9), data, 60, 1, mean
    yield "LeNet-5, Adam 1e-3, loss summed", 1, LeNet5, adam(1e-3), data, 200, 25, summed
    yield "LeNet-5 on digits, Adam 1e-3", 3, LeNet5, adam(1e-3), small, 360, 20, mean
    yield (
        "LeNet-5, tanh, Adam 1e-3",
        1,
        lambda: BoundedLeNet5(torch.tanh),
        adam(1e-3),
        data,
        300,
        25,
        mean,
    )
    yield (
        "LeNet-5, logistic, Adam 1e-3",
        1,
        lambda: BoundedLeNet5(torch.sigmoid),
        adam(1e-3),
        data,
        300,
        25,
        mean,
    )
    yield (
        "MLP, 4 layers, Adam 1e-3",
        1,
        lambda: deep(nn.ReLU, depth=4),
        adam(1e-3),
        data,
        300,
        25,
        mean,
    )
    if in_shared("resnet20_state_dict.pt"):
        yield "ResNet-20, SGD 0.1, momentum 0.9", 1, ResNet20, sgd(0.1, 0.9), colour, 100, 10, mean
        yield "ResNet-20 trained on, SGD 0.001", 1, finetuned, sgd(1e-3, 0.9), colour, 60, 5, mean
    yield "LeNet-5, SGD 10", 3, LeNet5, sgd(10.0), data, 200, 25, mean
    yield "LeNet-5, SGD 1", 3, LeNet5, sgd(1.0), data, 200, 25, mean
    yield "LeNet-5, Adam 1", 3, LeNet5, adam(1.0), data, 200, 25, mean
    yield "LeNet-5, Adam 0.1", 3, LeNet5, adam(0.1), data, 200, 25, mean
    yield "LeNet-5, SGD 1e-3", 1, LeNet5, sgd(1e-3), data, 300, 25, mean
    yield "LeNet-5, SGD 1e-9", 1, LeNet5, sgd(1e-9), data, 100, 25, mean
    yield "LeNet-5, Adam 0", 1, LeNet5, adam(0.0), data, 100, 25, mean
    yield (
        "MLP, logistic, 8 layers, std 0.01",
        3,
        lambda: deep(nn.Sigmoid, depth=8, std=0.01),
        sgd(0.1),
        data,
        200,
        25,
        mean,
    )
    yield (
        "MLP, logistic, 8 layers",
        1,
        lambda: deep(nn.Sigmoid, depth=8),
        adam(1e-3),
        data,
        200,
        25,
        mean,
    )
    yield (
        "MLP, ReLU, 10 layers, std 1",
        3,
        lambda: deep(nn.ReLU, depth=10, std=1.0),
        adam(1e-3),
        data,
        200,
        25,
        mean,
    )
    yield (
        "MLP, tanh, 10 layers, std 1",
        1,
        lambda: deep(nn.Tanh, depth=10, std=1.0),
        sgd(0.01),
        data,
        200,
        25,
        mean,
    )


def train(network, optimizer, data, *, seed, steps, every, loss_of):
    """Return all flags that were raised, and the columns of the scalars."""
    torch.manual_seed(seed)
    images, labels = data
    model = network()
    stepper = optimizer(model.parameters())
    flags = []
    with tensorview.watch(
        model, stepper, every=every, formats=(), live=False, on_flag=flags.append, strict=True
    ) as watcher:
        for _ in range(steps):
            chosen = torch.randint(len(labels), (BATCH,))
            loss = loss_of(model(images[chosen]), labels[chosen])
            stepper.zero_grad()
            loss.backward()
            stepper.step()
    return flags, watcher.snapshot()


def extremes(snapshot):
    """Largest update ratio, largest sensitivity, smallest share of it, straightest path, ..."""

    def rows(quantity):
        return np.array([snapshot.scalars[f"{layer.name}/{quantity}"] for layer in snapshot.layers])

    def lasting(values):
        """What three captures in a row all reach."""
        return np.minimum(np.minimum(values[:, 2:], values[:, 1:-1]), values[:, :-2])

    slope = rows("gradient_norm") * rows("weight_norm")
    largest = np.nanmax(np.where(np.isfinite(slope), slope, np.nan), axis=0)
    share = np.where(largest > 0, slope / np.where(largest > 0, largest, 1), 0.0)
    filters = np.array([layer.activations.out for layer in snapshot.layers])[:, None]
    ratio = rows("update_ratio")
    return np.array(
        [
            np.nanmax(ratio),
            np.nanmin(-lasting(-ratio)),
            np.nanmax(slope),
            np.nanmin(-lasting(-share)),
            np.nanmax(rows("straightness"), initial=-np.inf),
            np.nanmax(lasting(rows("dead")) / filters),
            np.nanmax(lasting(rows("saturated")[:-1]) / filters[:-1], initial=0.0),
        ]
    )


WORST = [max, min, max, min, max, max, max]


def main():
    torch.set_num_threads(1)
    logging.getLogger("tensorview").setLevel(logging.ERROR)
    if "TENSORVIEW_DATA" not in os.environ:
        sys.exit("No data: TENSORVIEW_DATA must name the folder that holds MNIST's IDX files.")
    data = mnist(Path(os.environ["TENSORVIEW_DATA"]), "train")
    colour = cifar_images(in_shared("cifar10_test_1000.npz"))
    print(
        "| training | seeds | flags: layers, first step | update ratio, largest | smallest "
        "| sensitivity, largest | share, smallest | straightness | dead | saturated |\n"
        + "|---" * 10
        + "|"
    )
    for name, seeds, network, optimizer, source, steps, every, loss_of in trainings(
        data, digits()[:2], colour
    ):
        found, kinds = [], {}
        for seed in range(seeds):
            flags, snapshot = train(
                network, optimizer, source, seed=seed, steps=steps, every=every, loss_of=loss_of
            )
            found.append(extremes(snapshot))
            for flag in flags:
                kinds.setdefault(flag.kind, {}).setdefault(seed, []).append(flag)
        texts = []
        for kind, by_seed in kinds.items():
            layers = [len({flag.layer for flag in by_seed.get(seed, ())}) for seed in range(seeds)]
            first = max(flags[0].step for flags in by_seed.values())
            texts.append(f"{kind}: {'/'.join(map(str, layers))}, {first}")
        worst = [choose(column) for choose, column in zip(WORST, np.array(found).T, strict=True)]
        numbers = " | ".join(f"{value:.2g}" if np.isfinite(value) else "-" for value in worst)
        print(f"| {name} | {seeds} | {'; '.join(texts) or 'none'} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
