"""Networks to prune, and what is asked of their plans."""

import copy

import torch
from torch import nn

from tensorview.capture.layers import select_layers
from tensorview.capture.probe import evaluating, given_probe, run_probe
from tensorview.pruning.evidence import Wanted
from tensorview.pruning.planner import make_plan


class Plain(nn.Module):
    """Two convolutions and two Linear layers; the second convolution is padded."""

    def __init__(self, *, norm=False, bias=True, pool=True):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1, bias=bias)
        self.norm1 = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(6, 5, 3, padding=1, bias=bias)
        self.norm2 = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.fc1 = nn.Linear(5 * (4 if pool else 16) * (4 if pool else 16), 7)
        self.fc2 = nn.Linear(7, 3)

    def forward(self, images):
        x = self.pool(torch.relu(self.norm1(self.conv1(images))))
        x = self.pool(torch.relu(self.norm2(self.conv2(x))))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def make_plain(seed=0, **options):
    """Return a `Plain` with parameters and statistics of all sizes, no filter of it dead."""
    torch.manual_seed(seed)
    model = Plain(**options)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(0.0, 0.5)
            elif getattr(module, "bias", None) is not None:
                module.bias.uniform_(0.0, 0.2)
    return model


def images(samples=256, seed=1, size=16):
    """Return random images, shape ``(samples, 1, size, size)``."""
    return torch.randn(samples, 1, size, size, generator=torch.Generator().manual_seed(seed))


def plan_for(
    model,
    layer,
    *,
    probe=None,
    evaluate=None,
    threshold=0.9,
    count=None,
    filters=None,
    mode="merge",
):
    """Plan one layer of *model*, or several of a list."""
    names = [layer] if isinstance(layer, str) else layer
    wanted = Wanted(threshold=threshold, count=count, filters=filters, mode=mode)
    layers = {each.name: each for each in select_layers(model)}
    return make_plan(
        model,
        [(layers[name], wanted) for name in names],
        probe=given_probe(model, images() if probe is None else probe),
        evaluate=evaluate,
        skip_refused=False,
    )


def outputs(model, batch):
    """What *model* gives in evaluation mode."""
    with evaluating(model), torch.no_grad():
        return run_probe(model, given_probe(model, batch))


def pruned(model, plan):
    """Return a copy of *model* with *plan* done."""
    twin = copy.deepcopy(model)
    plan.apply(twin)
    return twin


def copy_filter(model, layer, *, source, target, scale=1.0, norm=None):
    """Make one filter of *layer* a scaled copy of another, bias and BatchNorm too."""
    module = model.get_submodule(layer)
    with torch.no_grad():
        if norm is None:
            module.weight[target] = scale * module.weight[source]
            if module.bias is not None:
                module.bias[target] = scale * module.bias[source]
            return
        module.weight[target] = module.weight[source]
        if module.bias is not None:
            module.bias[target] = module.bias[source]
        statistics = model.get_submodule(norm)
        for values in (statistics.running_mean, statistics.running_var):
            values[target] = values[source]
        for values in (statistics.weight, statistics.bias):
            values[target] = scale * values[source]
