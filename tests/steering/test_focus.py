"""The layer in focus is shown as fully as can be, and every client is told which it is."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import tensorview
from tensorview.bounds import plan_activations, plan_weights
from tensorview.run import Run
from tensorview.snapshot import MAX_SNAPSHOT_BYTES
from tensorview.worker.datasets import blocks, read_frame
from tensorview.worker.frame import ATLAS_CHANNELS, CHANNELS
from tensorview.worker.views import make_frame
from tensorview.worker.views.datasets import with_field_data
from tests.capture.test_bounds import select_layers_on_meta, vgg16
from tests.doubles import Viewer, free_port, wait_until
from tests.networks import make_training, train_steps
from tests.snapshots import make_snapshot
from tests.steering.helpers import ask, watched


def test_the_layer_in_focus_is_planned_as_if_alone():
    """Of VGG16's largest layers more is shown; what others lose is no more than they must."""
    layers = select_layers_on_meta(vgg16(device="meta"))
    items = [4] * len(layers)
    sizes = [(layer.out, 14, 14) if layer.kind == "Conv2d" else (layer.out,) for layer in layers]
    sizes[0] = sizes[1] = (64, 224, 224)
    alike = plan_weights(layers, itemsizes=items)
    maps_alike = plan_activations(layers, sizes=sizes, probe_size=64, samples=range(4))
    for index, layer in enumerate(layers):
        (alone,) = plan_weights([layer], itemsizes=[4], focus=layer.name)
        (map_alone,) = plan_activations(
            [layer], sizes=[sizes[index]], probe_size=64, samples=range(4)
        )
        plans = plan_weights(layers, itemsizes=items, focus=layer.name)
        map_plans = plan_activations(
            layers, sizes=sizes, probe_size=64, samples=range(4), focus=layer.name
        )

        assert plans[index] == alone
        assert map_plans[index] == map_alone
        assert alike[index].filters <= alone.filters
        assert maps_alike[index].stride >= map_alone.stride
    assert plan_weights(layers, itemsizes=items, focus="") == alike
    assert plan_weights(layers, itemsizes=items, focus="no such layer") == alike
    # Nothing of the first layer was left out before, so nothing changes for the others.
    assert plan_weights(layers, itemsizes=items, focus=layers[0].name)[1:] == alike[1:]


@pytest.fixture(scope="module")
def wide():
    """Two layers that do not both fit."""
    return nn.Sequential(
        nn.Conv2d(3, 256, 3), nn.ReLU(), nn.Conv2d(256, 2048, 3), nn.ReLU(), nn.Conv2d(2048, 300, 3)
    )


def test_focus_changes_what_is_captured_and_stays_within_bounds(tmp_path, wide):
    """The snapshot of the very step shows more of the layer, and is no larger than any other."""
    run = tmp_path / "run"
    probe = torch.rand(2, 3, 40, 40)
    with tensorview.watch(
        wide, every=10**9, probe=probe, run_dir=run, live=False, strict=True, formats=("vtp",)
    ) as watcher:
        watcher.step()
        before = watcher.snapshot()
        ask(watcher, run, "focus", layer="4")
        focused = watcher.snapshot()
        assert focused.nbytes <= MAX_SNAPSHOT_BYTES
        ask(watcher, run, "focus", layer=None)
        after = watcher.snapshot()

    def shown(snapshot):
        return [
            (layer.weights.values.shape, layer.weights.reduced, layer.activations.maps.shape)
            for layer in snapshot.layers
        ]

    assert shown(before) == shown(after)
    assert before.layers[2].weights.reduced == "kernel norms"
    assert focused.layers[2].weights.reduced == ""
    assert np.array_equal(focused.layers[2].weights.values, wide[4].weight.detach().numpy())
    assert [snapshot.focus for snapshot in (before, focused, after)] == ["", "4", ""]


def text(data, name):
    """The one string in an array of field data."""
    array = data.GetAbstractArray(name)
    assert array.GetNumberOfValues() == 1
    return array.GetValue(0)


def field_data(frame):
    """Field data of every dataset that has any."""
    for channel in CHANNELS:
        dataset = frame.datasets[channel]
        if dataset.IsA("vtkMultiBlockDataSet"):
            yield from (image.GetFieldData() for _, image in blocks(dataset))
        elif dataset.GetNumberOfPoints():
            yield dataset.GetFieldData()


@pytest.mark.parametrize("form", ["cells", "atlas"])
@pytest.mark.parametrize("focus", ["", "conv1", 'odd <name> & "so"'])
def test_every_dataset_names_the_layer_in_focus(form, focus):
    """Empty for all layers; so a client shows that layer alone, whichever view it draws."""
    snapshot = make_snapshot(np.random.default_rng(0), form=form)
    found = list(field_data(make_frame(dataclasses.replace(snapshot, focus=focus))))

    assert len(found) >= 6
    assert {text(data, "focus") for data in found} == {focus}


def test_the_layer_in_focus_is_in_the_files(tmp_path):
    """Replay shows what live showed."""
    with watched(tmp_path) as (watcher, run):
        step = ask(watcher, run, "focus", layer="conv2").step

    saved = Run.open(run)
    assert {text(data, "focus") for data in field_data(read_frame(saved, 1))} == {""}
    assert {text(data, "focus") for data in field_data(read_frame(saved, step))} == {"conv2"}


def test_a_step_that_is_captured_again_is_there_once(tmp_path):
    """In the scalars and in every path, with the loss that was logged before."""
    with watched(tmp_path) as (watcher, run):
        watcher.log(loss=0.5)
        watcher.step()
        for layer in ("conv1", "conv2", None):
            ask(watcher, run, "focus", layer=layer)
            watcher.log(loss=0.25)
            watcher.focus(layer)
            watcher.step()
        snapshot = watcher.snapshot()

    steps = snapshot.scalars["step"].tolist()
    assert len(steps) == len(set(steps)) == len(snapshot.trajectory_steps)
    assert snapshot.trajectory_steps.tolist() == steps
    for layer in snapshot.layers:
        assert [len(path.points) for path in layer.trajectories] == [len(steps)]


def test_a_focus_in_the_step_of_a_capture_keeps_what_the_capture_knew(tmp_path):
    """The loss and the update ratio are those of the step, though it is captured twice."""
    with watched(tmp_path, every=1) as (watcher, _run):
        train_steps(watcher.model, watcher.optimizer, 2, each=lambda loss: watcher.log(loss=loss))
        once = watcher.snapshot().scalars
        assert once["loss"][-1] > 0
        assert once["fc/update_ratio"][-1] > 0
        watcher._captures.take(watcher.status().step)
        twice = watcher.snapshot().scalars

        assert list(once) == list(twice)
        for name, values in once.items():
            assert np.array_equal(values, twice[name], equal_nan=True), name


def test_the_update_ratio_is_that_of_the_captured_step(tmp_path, monkeypatch):
    """Where nobody knew before the step that it would be captured there is none, not an older."""
    with watched(tmp_path, every=4, strict=False) as (watcher, run):
        with monkeypatch.context() as patched:
            patched.setattr(watcher._captures, "take", lambda _step: 1 / 0)
            train_steps(watcher.model, watcher.optimizer, 4)
        ask(watcher, run, "every", steps=10**9)
        step = ask(watcher, run, "capture").step
        table = watcher.snapshot().scalars

    assert table["step"].tolist()[-1] == step
    assert np.isnan(table["fc/update_ratio"][-1])


def test_an_address_is_put_on_copies():
    """What a frame holds stays as it was, for other sinks; an atlas keeps its layers' names."""
    frame = make_frame(make_snapshot(np.random.default_rng(0), form="atlas"))
    copies = {
        channel: with_field_data(dataset, {"run_dir": "/there", "run_id": "f00"})
        for channel, dataset in frame.datasets.items()
    }
    copied = dataclasses.replace(frame, datasets=copies)

    assert {text(data, "run_dir") for data in field_data(copied)} == {"/there"}
    assert not any(data.HasArray("run_dir") for data in field_data(frame))
    for channel in ATLAS_CHANNELS:
        names = [[name for name, _ in blocks(f.datasets[channel])] for f in (frame, copied)]
        assert names[0] == names[1] == ["conv1", "conv2", "fc"]


def addresses(folder):
    """Run directory and id in every dataset that a viewer recorded."""
    recorded = Run.open(folder)
    return {
        (text(data, "run_dir"), text(data, "run_id"))
        for step in recorded.steps()
        for data in field_data(read_frame(recorded, step))
    }


@pytest.mark.paraview
def test_a_live_viewer_can_find_the_run(tmp_path):
    """Where it lies and its id are in every dataset that is sent, and in no file of the run."""
    port = free_port()
    model, optimizer = make_training()
    with (
        Viewer(tmp_path, port=port) as viewer,
        tensorview.watch(
            model, optimizer, every=1, run_dir=tmp_path / "run", live=f"localhost:{port}"
        ) as watcher,
    ):

        def seen():
            train_steps(model, optimizer, 1)
            return len(viewer.steps()) > 2

        wait_until(seen, seconds=40, what="frames")
        run = Run.open(watcher.status().run_dir)

    assert addresses(viewer.run_dir) == {(str(run.path), run.id)}
    assert len(run.id) == 32
    for data in field_data(read_frame(Run.open(run.path), 1)):
        assert not data.HasArray("run_dir")


@pytest.mark.paraview
def test_a_run_without_files_has_no_address(tmp_path):
    """Then a client knows that it cannot steer."""
    port = free_port()
    model, optimizer = make_training()
    with (
        Viewer(tmp_path, port=port) as viewer,
        tensorview.watch(model, optimizer, every=1, formats=(), live=f"localhost:{port}"),
    ):

        def seen():
            train_steps(model, optimizer, 1)
            return len(viewer.steps()) > 2

        wait_until(seen, seconds=40, what="frames")

    assert addresses(viewer.run_dir) == {("", "")}
