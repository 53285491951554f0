"""Real trainings that are measured, watched and not: networks, data, one step at a time."""

import os
import sys
import time
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from lenet5_mnist import mnist
from networks import LeNet5, ResNet20
from resnet20_cifar10 import cifar_images, weights_of


class Training:
    """One model in training on batches that are there already.

    Args:
        model: in training mode.
        images: shape ``(N, C, H, W)``, float32.
        labels: shape ``(N,)``, int64.
        batch: images a step.
    """

    def __init__(self, model: nn.Module, images, labels, *, batch: int) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        self.images = images
        self._images = images.split(batch)
        self._labels = labels.split(batch)
        self._step = 0

    def step(self) -> None:
        """Train on the next batch."""
        index = self._step % (len(self._images) - 1)  # the last one may be shorter
        self._step += 1
        loss = F.cross_entropy(self.model(self._images[index]), self._labels[index])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def seconds(self, steps: int) -> float:
        """Train *steps* steps; return what one took on average."""
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        return (time.perf_counter() - started) / steps


def lenet() -> Training:
    """LeNet-5 on MNIST where it is, else on noise of the same shape; batches of 64."""
    torch.manual_seed(0)
    return Training(LeNet5(), *digits(), batch=64)


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """6,400 images of MNIST, or of noise, and their labels."""
    folder = os.environ.get("TENSORVIEW_DATA")
    if not folder:
        return torch.randn(6400, 1, 28, 28), torch.randint(10, (6400,))
    images, labels = mnist(Path(folder) / "MNIST", "train")
    return images[:6400].clone(), labels[:6400].clone()


def resnet() -> Training:
    """The trained ResNet-20 and its images where they are, else random ones; batches of 128."""
    torch.manual_seed(0)
    model = ResNet20()
    folder = os.environ.get("TENSORVIEW_DATA")
    if folder:
        path = Path(folder) / "resnet20-cifar10"
        model.load_state_dict(weights_of(path / "resnet20_state_dict.pt"))
        images, labels = cifar_images(path / "cifar10_test_1000.npz")
    else:
        images, labels = cifar_images(None)
    return Training(model, images, labels, batch=128)
