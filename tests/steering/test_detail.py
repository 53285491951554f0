"""Large networks cross as one value a kernel; one layer is shown in full where it is asked for."""

import gc
import math
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import tensorview
from tensorview.bounds import WEIGHT_BYTES, plan_weights
from tensorview.run import Run
from tensorview.worker.datasets import blocks, read_frame
from tests.capture.test_bounds import vgg16
from tests.doubles import wait_until
from tests.steering.test_ctl import ctl


def resnet50():
    """Every convolution of a ResNet-50 and its head, one after the other: they are never run."""
    layers, inputs = [nn.Conv2d(3, 64, 7, device="meta")], 64
    for width, blocks_ in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks_):
            sizes = [(inputs, width, 1), (width, width, 3), (width, 4 * width, 1)]
            sizes += [(inputs, 4 * width, 1)] * (block == 0)
            layers += [nn.Conv2d(*size, device="meta") for size in sizes]
            inputs = 4 * width
    return nn.Sequential(*layers, nn.Linear(2048, 1000, device="meta"))


def with_weights(model):
    """Give each layer filters that are all alike, so that they take no memory."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            row = torch.randn(1, *module.weight.shape[1:], generator=generator)
            module.weight = nn.Parameter(row.expand(module.weight.shape), requires_grad=False)
            module.bias = None
    return model


def bytes_of(snapshot):
    return {layer.name: layer.weights.values.nbytes for layer in snapshot.layers}


@pytest.mark.parametrize(
    ("make", "layer"),
    [(lambda: vgg16(device="meta"), "28"), (resnet50, "51"), (resnet50, "52")],
    ids=["vgg16-3x3", "resnet50-3x3", "resnet50-1x1"],
)
def test_a_large_layer_is_shown_in_full_on_demand(make, layer, monkeypatch):
    """Nothing of it is built before; with focus every weight is there; without, all is as it was.

    What crosses to the host stays within the budget of weights at every moment.
    """
    model = with_weights(make())
    layers = [name for name, module in model.named_modules() if hasattr(module, "weight")]
    layers = [name for name in layers if model[int(name)].weight.numel() < 10**8]  # takes seconds
    plans = []
    monkeypatch.setattr(
        "tensorview.capture.capturer.plan_weights",
        lambda *arguments, **keywords: (
            plans.append(keywords) or plan_weights(*arguments, **keywords)
        ),
    )
    quiet = {"every": 1, "live": False, "formats": (), "views": ("weights",), "strict": True}
    with tensorview.watch(model, layers=layers, **quiet) as watcher:
        watcher.step()
        watcher.step()
        before = bytes_of(watcher.snapshot())
        watcher.focus(layer)
        watcher.step()
        watcher.step()
        focused = watcher.snapshot()
        during = bytes_of(focused)
        shown = next(found for found in focused.layers if found.name == layer).weights
        full = np.array_equal(shown.values, model[int(layer)].weight.numpy())
        array = weakref.ref(shown.values)
        del focused, shown
        watcher.focus(None)
        watcher.step()
        watcher.step()
        after = bytes_of(watcher.snapshot())
        gc.collect()

        assert array() is None
    weight = model[int(layer)].weight
    kernels = math.prod(weight.shape[:2])

    assert full
    assert before[layer] <= 4 * kernels < during[layer] or weight[0, 0].numel() == 1
    assert before[layer] < during[layer] == 4 * weight.numel()
    assert after == before
    assert max(sum(sizes.values()) for sizes in (before, during)) <= WEIGHT_BYTES
    assert len(plans) == 3  # once for all, and at each change of focus; at no capture


def test_a_layer_beyond_the_budget_is_shown_as_fully_as_it_allows():
    """102 million weights do not cross; more of them do than when all layers share."""
    model = with_weights(vgg16(device="meta"))
    quiet = {"every": 1, "live": False, "formats": (), "views": ("weights",), "strict": True}
    with tensorview.watch(model, layers=["32"], **quiet) as watcher:
        watcher.step()
        watcher.focus("32")
        watcher.step()
        focused = bytes_of(watcher.snapshot())["32"]

        said = watcher.status().reduced

    assert 0.99 * WEIGHT_BYTES < focused <= WEIGHT_BYTES
    assert said == ("32: 2454 of 4096 filters, 2454 of 25088 input channels",)


TRAINING = """
import sys, time
import torch
from torch import nn
import tensorview
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 1024, 3), nn.Conv2d(1024, 512, 3), nn.Conv2d(512, 512, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with tensorview.watch(
    model, optimizer, every=10**9, run_dir=sys.argv[1], live=False, views=("weights",)
) as watcher:
    optimizer.step()
    print("ready", flush=True)
    while True:
        optimizer.step()
        time.sleep(0.02)
"""


def windows(run, step, layer):
    """Rows and columns of one kernel as it is drawn at *step*."""
    atlas = dict(blocks(read_frame(Run.open(run), step).datasets["weights_atlas"]))
    found = atlas[layer].GetFieldData().GetArray("windows")
    return found.GetValue(2), found.GetValue(3)


def test_from_the_command_line_too(tmp_path):
    """A training that runs shows one layer's kernels, and goes back."""
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(run)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            said = [ctl(run, "focus", "1"), ctl(run, "focus")]
            wait_until(lambda: len(Run.open(run).steps()) > 2, seconds=30, what="three captures")
        finally:
            process.terminate()
    steps = Run.open(run).steps()

    assert [code for code, _ in said] == [0, 0]
    assert "1 is in focus." in said[0][1]
    assert [windows(run, step, "1") for step in steps[:3]] == [(1, 1), (3, 3), (1, 1)]
