"""Snapshots of layers that are heavy to draw, captured as a training's are."""

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

import tensorview

SAMPLES = 2


def vgg16_conv1(*, side, views):
    """Capture the first convolution of VGG16: 64 maps of *side* x *side*, all of them.

    Its weights are random; its images have the smooth regions and the noise of photographs.
    """
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(SAMPLES, 3, 14, 14), size=side, mode="bicubic")
    images += 0.05 * torch.randn(images.shape)
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU())
    return capture(model, probe=images, views=views)


def kernels(*, filters):
    """Capture the weights of a layer of *filters* x *filters* kernels of 3 x 3, in full detail."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(filters, filters, 3))
    return capture(model, probe=torch.zeros(1, filters, 3, 3), views=("weights",))


def one_kernel(snapshot):
    """Return what is left of the layer of a snapshot when one of its kernels is shown alone."""
    (layer,) = snapshot.layers
    weights = dataclasses.replace(
        layer.weights,
        values=layer.weights.values[:1, :1].copy(),
        filters=layer.weights.filters[:1].copy(),
        in_channels=layer.weights.in_channels[:1].copy(),
    )
    return dataclasses.replace(snapshot, layers=(dataclasses.replace(layer, weights=weights),))


def capture(model, *, probe, views):
    """Return the snapshot of the first step of *model*."""
    options = {"every": 1, "formats": (), "live": False, "probe": probe, "views": views}
    with tensorview.watch(model, **options) as watcher, torch.no_grad():
        model(probe)
        watcher.step()
        return watcher.snapshot()
