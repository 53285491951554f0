"""Networks whose layers hang together in ways that pruning must follow, or refuse."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tensorview.capture.probe import given_probe
from tensorview.pruning.proof import floating_tensors
from tensorview.pruning.structure import find_structure
from tensorview.pruning.surgery import axis_of


class TwoConvs(nn.Module):
    """``between`` stands between the convolutions; subclasses say what it does."""

    def __init__(self, between=None, *, channels=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.between = between or nn.ReLU()
        self.conv2 = nn.Conv2d(channels, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def middle(self, x):
        return self.between(x)

    def forward(self, x):
        x = self.middle(self.conv1(x))
        return self.fc(F.relu(self.conv2(x)).mean((2, 3)))


class Between(TwoConvs):
    """Any function between the convolutions."""

    def __init__(self, function, **more):
        super().__init__(**more)
        self.function = function

    def middle(self, x):
        return self.function(x)


class ResidualBlock(nn.Module):
    """Shortcuts are projected by a 1 x 1 convolution where the width changes."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


class ProjectedResNet(nn.Module):
    """Two stages of two blocks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.stage1 = nn.Sequential(ResidualBlock(8, 8, 1), ResidualBlock(8, 8, 1))
        self.stage2 = nn.Sequential(ResidualBlock(8, 12, 2), ResidualBlock(12, 12, 1))
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = F.relu(self.bn(self.stem(x)))
        return self.fc(self.stage2(self.stage1(x)).mean((2, 3)))


class DenseNet(nn.Module):
    """Every layer reads all former ones, through a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, 4, 3, padding=1))
            for w in (5, 9, 13)
        )
        self.bn = nn.BatchNorm2d(17)
        self.fc = nn.Linear(17 * 4, 5)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.bn(x)), 2).flatten(1))


class UNet(nn.Module):
    """A transposed convolution, whose weight has its axes the other way round."""

    def __init__(self):
        super().__init__()
        self.down1 = nn.Conv2d(3, 6, 3, padding=1)
        self.down2 = nn.Conv2d(6, 8, 3, 2, 1)
        self.up = nn.ConvTranspose2d(8, 7, 2, 2)
        self.join = nn.Conv2d(13, 5, 3, padding=1)
        self.out = nn.Conv2d(5, 2, 1)

    def forward(self, x):
        fine = F.relu(self.down1(x))
        coarse = F.relu(self.down2(fine))
        return self.out(F.relu(self.join(torch.cat([F.relu(self.up(coarse)), fine], 1))))


def images(count=4, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def lively(model):
    """Give BatchNorm statistics as training would, and biases that keep filters alive."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(module, name, None)
            if tensor is not None and (norm or name == "bias"):
                low = 0.5 if name in ("weight", "running_var") else 0.0
                tensor.data.uniform_(low, low + 0.5, generator=generator)
    return model


def structure_of(model, layer, probe):
    return find_structure(model, layer, probe=given_probe(model, probe))


def said(structure):
    """What a structure says, without the numbers: ``module role`` or ``module role xN``."""
    return {
        f"{cut.module} {cut.role}" + (f" x{n}" if (n := cut.entries.shape[1]) > 1 else "")
        for cut in structure.cuts
    }


def outputs(model, probe):
    """Floating outputs in evaluation mode, as one vector."""
    mode = model.training
    model.eval()
    with torch.no_grad():
        if isinstance(probe, dict):
            found = model(**probe)
        else:
            found = model(*probe) if isinstance(probe, tuple) else model(probe)
    model.train(mode)
    return torch.cat([tensor.flatten() for tensor in floating_tensors(found)])


def silence(model, structure, filters):
    """Make all readers deaf to *filters*."""
    for cut in structure.readers:
        module = model.get_submodule(cut.module)
        columns = torch.from_numpy(cut.entries[filters].ravel())
        module.weight.data.index_fill_(axis_of(module, "reads"), columns, 0)
