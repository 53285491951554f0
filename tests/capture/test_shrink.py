"""A network that becomes smaller while it is watched: what is captured follows."""

import copy
import logging
import re

import numpy as np
import pytest
import torch
from torch import nn

from tensorview.analysis.sketch import relative_change
from tensorview.capture import Capturer, PendingCapture
from tensorview.capture.layers import in_original_shape, read_weight
from tensorview.captures import Captures
from tensorview.errors import CaptureError
from tensorview.memory import Memory
from tensorview.steering.effects import Controls
from tests.capture.helpers import make_settings
from tests.networks import SmallNet, cut, make_training, train_steps


def without(count, *removed):
    return np.delete(np.arange(count), removed)


def images(count=5):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def kept_of_small_net(*removed, filters=4):
    """What is left of `SmallNet` without these filters of conv1."""
    kept = without(filters, *removed)
    return {"conv1": (kept, None), "bn1": (kept, None), "conv2": (None, kept)}


def small_net(**changes):
    torch.manual_seed(0)
    model = SmallNet()
    return model, Capturer(model, settings=make_settings(probe=images(), **changes))


def test_the_next_capture_shows_the_smaller_layers():
    """Shapes, weights, activations and the description, at the writer and at its reader."""
    model, capturer = small_net()
    before = capturer.begin().finish()
    removed = capturer.shrink(cut(model, kept_of_small_net(1)))
    conv1, conv2, fc = capturer.begin().finish().layers

    assert removed == {"conv1": 1, "conv2": 0}
    assert before.layers[0].weights.values.shape == (4, 1, 3, 3)
    assert (conv1.weight_shape, conv2.weight_shape) == ((3, 1, 3, 3), (6, 3, 3, 3))
    assert np.array_equal(conv1.weights.values, model.conv1.weight.detach())
    assert np.array_equal(conv2.weights.values, model.conv2.weight.detach())
    assert conv1.weights.filters.tolist() == conv1.activations.channels.tolist() == [0, 1, 2]
    assert conv2.weights.in_channels.tolist() == [0, 1, 2]
    assert conv1.activations.maps.shape[1] == conv1.activations.out == 3
    assert [layer.scalars["filters"] for layer in (conv1, conv2, fc)] == [3, 6, 3]
    assert [entry["weight_shape"] for entry in capturer.describe()["layers"]] == [
        [3, 1, 3, 3],
        [6, 3, 3, 3],
        [3, 96],
    ]


def test_filters_are_followed_through_removals():
    """Each knows its first number after any number of events, with other numbers each time."""
    model, capturer = small_net()
    found = [capturer.begin().finish().layers[0].original_filters.tolist()]
    for removed, filters in ((1, 4), (0, 3)):
        capturer.shrink(cut(model, kept_of_small_net(removed, filters=filters)))
        found.append(capturer.begin().finish().layers[0].original_filters.tolist())

    assert found == [[0, 1, 2, 3], [0, 2, 3], [2, 3]]


def test_a_removed_weight_reads_zero():
    """A sketch and the chosen axes are those of the original weight, zero where it has gone."""
    model, capturer = small_net(
        trajectory_axes={"conv1": [((0, 0, 0, 0), (1, 0, 1, 1), (3, 0, 2, 2))]}
    )
    masked = model.conv1.weight.detach().clone()
    capturer.shrink(cut(model, kept_of_small_net(1)))
    result = capturer.begin().finish().layers[0]
    masked[1] = 0

    assert result.sketch.tolist() == masked.flatten().tolist()
    assert result.chosen[0].tolist() == [masked[0, 0, 0, 0], 0, masked[3, 0, 2, 2]]


def test_a_large_layer_keeps_its_sketch():
    """That of the smaller layer is the one of the layer with zeros in the place of its filters."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 20))
    masked = copy.deepcopy(model)
    settings = make_settings(views=("trajectory",))
    capturer, reference = (Capturer(each, settings=settings) for each in (model, masked))
    with torch.no_grad():
        masked[0].weight[[3, 17]] = 0
        masked[1].weight[:, [3, 17]] = 0
    kept = without(40, 3, 17)
    capturer.shrink(cut(model, {"0": (kept, None), "1": (None, kept)}))
    pairs = zip(capturer.begin().finish().layers, reference.begin().finish().layers, strict=True)

    for found, expected in pairs:
        assert found.sketch == pytest.approx(expected.sketch, rel=1e-6)
        assert found.scalars["weight_norm"] == pytest.approx(expected.scalars["weight_norm"])


def test_a_transposed_convolution_has_its_filters_on_the_second_axis():
    """Outputs and inputs are taken from the right axes, and its filters counted."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(3, 5, 2), nn.Conv2d(5, 2, 3))
    masked = model[0].weight.detach().clone()
    masked[:, 2] = 0
    masked[1] = 0
    capturer = Capturer(model, settings=make_settings(views=("weights", "trajectory")))
    kept = without(5, 2)
    capturer.shrink(cut(model, {"0": (kept, without(3, 1)), "1": (None, kept)}))
    layer = capturer.begin().finish().layers[0]

    assert layer.weight_shape == (2, 4, 2, 2)
    assert layer.original_filters.tolist() == [0, 1, 3, 4]
    assert layer.sketch.tolist() == masked.flatten().tolist()


@pytest.mark.parametrize("name", ["one", "other"])
def test_a_shared_layer_is_found_by_any_of_its_names(name):
    """It is watched under its first one."""
    model = nn.Module()
    model.one = model.other = nn.Linear(4, 3)
    capturer = Capturer(model, settings=make_settings(views=("weights",)))
    removed = capturer.shrink(cut(model, {name: (without(3, 0), None)}))

    assert removed == {"one": 1}
    assert capturer.begin().finish().layers[0].original_filters.tolist() == [1, 2]


def test_what_did_not_shrink_costs_nothing():
    """Its weight is taken as it is, not copied; modules that are not watched are left alone."""
    model, capturer = small_net(layers=["conv1", "fc"])
    capturer.shrink(cut(model, kept_of_small_net(1)))
    conv1, fc = capturer.layers
    weight = read_weight(fc)

    assert in_original_shape(weight, fc) is weight
    assert in_original_shape(read_weight(conv1), conv1).shape == (4, 1, 3, 3)


def test_a_weight_of_another_shape_is_refused():
    """One sentence names the layer and both shapes, and what was known of the layers stays."""
    model, capturer = small_net()
    sentence = (
        "Cannot follow layer 'conv1': its weight has become (4, 1, 3, 3), and (3, 1, 3, 3) was "
        "expected of the filters that are said to be kept."
    )
    with pytest.raises(CaptureError, match=f"^{re.escape(sentence)}$"):
        capturer.shrink({"conv1": (without(4, 1), None)})

    assert capturer.begin().finish().layers[0].weight_shape == (4, 1, 3, 3)
    assert model.conv1.weight.shape == (4, 1, 3, 3)


def test_a_focus_outlives_the_event(monkeypatch):
    """The layer in focus still has the bounds first."""
    monkeypatch.setattr("tensorview.bounds.MAP_BYTES", 4 * 2 * 6 * 4 * 4)  # of conv2 alone
    model, capturer = small_net()
    capturer.focus("conv2")
    capturer.shrink(cut(model, kept_of_small_net(1)))
    conv1, conv2, _ = capturer.begin().finish().layers

    assert (conv1.activations.map_samples, conv2.activations.map_samples) == ((), (0,))


def batches(caplog):
    caplog.set_level(logging.WARNING, logger="tensorview")
    torch.manual_seed(0)
    model = SmallNet()
    settings = make_settings(activations="batch", strict=False)
    capturer = Capturer(model, settings=settings)
    capturer.wait_for_probe(model)
    return model, capturer


def test_a_batch_that_is_yet_to_come_is_that_of_the_smaller_network(caplog):
    """Hooks that wait for it are set anew."""
    model, capturer = batches(caplog)
    capturer.shrink(cut(model, kept_of_small_net(1)))
    model(images())
    conv1, *_ = capturer.begin().finish().layers

    assert conv1.activations.channels.tolist() == [0, 1, 2]
    assert caplog.messages == []


def test_a_batch_of_before_is_not_shown(caplog):
    """Activations of filters that are no more are dropped, and the log says why."""
    model, capturer = batches(caplog)
    model(images())
    capturer.shrink(cut(model, kept_of_small_net(1)))
    assert capturer.lacks_batch
    first = capturer.begin().finish().layers[0]
    capturer.attach_to_batch()
    model(images())
    second = capturer.begin().finish().layers[0]

    assert first.weights.values.shape == (3, 1, 3, 3)
    assert first.activations is None
    assert second.activations.channels.tolist() == [0, 1, 2]
    (said,) = caplog.messages
    assert said == (
        "Activations are not shown right after filters were removed: the training batch was "
        "measured before."
    )


class Run:
    """A training whose captures are taken by hand."""

    def __init__(self, **changes):
        self.model, self.optimizer = make_training()
        settings = make_settings(probe=images(), **changes)
        self.capturer = Capturer(self.model, settings=settings)
        self.capturer.wait_for_probe(self.model)
        self.controls = Controls(every=1)
        self.snapshots = []
        self.captures = Captures(
            self.capturer,
            memory=Memory(self.capturer.layers, settings=settings),
            controls=self.controls,
            publish=self.snapshots.append,
        )
        self.step = 0

    def train(self):
        """One step, with the sketch of before."""
        self.step += 1
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.captures.sketch_weights(self.step)
        train_steps(self.model, self.optimizer, 1)

    def shrink(self):
        self.captures.shrink(cut(self.model, kept_of_small_net(1)))
        self.captures.take_event(self.step)


def path(snapshot, layer=0):
    return snapshot.layers[layer].trajectories[0]


def test_an_event_at_a_step_that_was_not_captured():
    """It is captured, with the smaller network; of what shrank, no removal passes for an update."""
    run = Run()
    run.train()
    run.captures.take(1)
    run.train()
    run.shrink()
    snapshot = run.snapshots[-1]

    assert [each.step for each in run.snapshots] == [1, 2]
    assert [layer.weight_shape[:2] for layer in snapshot.layers] == [(3, 1), (6, 3), (3, 96)]
    assert path(snapshot).segment.tolist() == [0, 1]
    assert path(snapshot).pruned.tolist() == [0, 1]
    assert path(snapshot, 1).segment.tolist() == [0, 1]
    assert path(snapshot, 1).pruned.tolist() == [0, 0]
    assert path(snapshot, 2).segment.tolist() == [0, 0]
    ratios = {name: snapshot.scalars[f"{name}/update_ratio"][-1] for name in ("conv1", "conv2")}
    assert np.isnan(list(ratios.values())).all()
    assert 0 < snapshot.scalars["fc/update_ratio"][-1] < 1
    assert snapshot.scalars["conv1/filters"].tolist() == [4, 3]
    assert run.captures.filters == {"conv1": 3, "conv2": 6, "fc": 3}


def test_an_event_at_a_step_that_was_captured():
    """The capture is taken anew in its place; the update that the step made is still known."""
    run = Run()
    run.train()
    run.captures.take(1)
    run.train()
    run.captures.take(2)
    before = run.snapshots[-1]
    run.shrink()
    after = run.snapshots[-1]

    assert [each.step for each in run.snapshots] == [1, 2, 2]
    assert after.trajectory_steps.tolist() == [1, 2]
    assert path(after).segment.tolist() == [0, 1]
    assert path(after).pruned.tolist() == [0, 1]
    assert after.layers[0].weight_shape == (3, 1, 3, 3)
    assert after.scalars["conv1/filters"].tolist() == [4, 3]
    for name in ("conv1", "conv2", "fc"):
        ratio = f"{name}/update_ratio"
        assert before.scalars[ratio][-1] == after.scalars[ratio][-1] > 0


def test_updates_are_measured_again_after_the_event():
    """From the next step on, within what is left of the layer."""
    run = Run()
    run.train()
    run.shrink()
    old = run.model.conv1.weight.detach().clone()
    run.train()
    run.captures.take(2)
    expected = relative_change(old.flatten(), run.model.conv1.weight.detach().flatten())

    assert run.snapshots[-1].scalars["conv1/update_ratio"][-1] == pytest.approx(float(expected))


def test_an_event_with_batches_captures_the_next_step():
    """Its batch is measured, for the one of this step has passed."""
    run = Run(activations="batch")
    run.train()
    run.captures.take(1)
    run.shrink()
    assert run.controls.capture_at == 2
    run.train()
    run.captures.take(2)
    snapshot = run.snapshots[-1]

    assert [each.step for each in run.snapshots] == [1, 2]
    assert snapshot.layers[0].activations.channels.tolist() == [0, 1, 2]
    assert path(snapshot).segment.tolist() == [0, 1]


def test_a_capture_on_its_way_is_finished_as_it_was(monkeypatch):
    """Numbers that were still on the device belong to the larger network, and no event to them."""
    run = Run()
    run.train()
    with monkeypatch.context() as slow:
        slow.setattr(PendingCapture, "ready", lambda _: False)
        run.captures.take(1)
    assert run.snapshots == []
    run.train()
    run.shrink()
    before, after = run.snapshots

    assert (before.step, after.step) == (1, 2)
    assert before.layers[0].weight_shape == (4, 1, 3, 3)
    assert path(before).segment.tolist() == [0]
