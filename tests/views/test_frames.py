"""Frames: every channel, every time, the same for the same snapshot."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from tensorview.snapshot import VIEWS, from_table, to_table
from tensorview.worker.frame import ATLAS_CHANNELS, CHANNELS, POLYDATA_CHANNELS
from tensorview.worker.views import (
    correlation,
    distribution,
    make_frame,
    maps,
    weights,
)
from tests.snapshots import make_layer, make_snapshot
from tests.views.reading import blocks, columns, digests, points, texts
from tests.views.strategies import snapshots

FIELDS = {
    "step": (np.int64, 1),
    "capture": (np.int64, 1),
    "loss": (np.float64, 1),
    "bounds": (np.float64, 6),
    "color_range": (np.float64, 2),
}


def every_dataset(frame):
    """All polydata and images of a frame."""
    for dataset in frame.datasets.values():
        if dataset.IsA("vtkMultiBlockDataSet"):
            yield from blocks(dataset).values()
        else:
            yield dataset


@settings(max_examples=50)
@given(snapshots())
def test_every_channel_is_there_with_complete_field_data(snapshot):
    """Names, shapes, dtypes of the field data are as documented, on empty datasets too."""
    frame = make_frame(snapshot)

    assert tuple(frame.datasets) == CHANNELS
    assert (frame.step, frame.capture) == (snapshot.step, snapshot.capture)
    for channel in POLYDATA_CHANNELS:
        assert frame.datasets[channel].IsA("vtkPolyData")
        names = [layer.name for layer in snapshot.layers]
        assert texts(frame.datasets[channel])["layers"] == names
    for channel in ATLAS_CHANNELS:
        for name, image in blocks(frame.datasets[channel]).items():
            assert texts(image)["layers"] == [name]
            assert columns(image.GetFieldData())["tiles"].dtype == np.int32
    for dataset in every_dataset(frame):
        numbers, strings = columns(dataset.GetFieldData()), texts(dataset)
        for name, (dtype, length) in FIELDS.items():
            assert (numbers[name].dtype, numbers[name].shape) == (dtype, (length,))
        assert numbers["step"] == snapshot.step
        assert numbers["capture"] == snapshot.capture
        assert np.array_equal(numbers["loss"], snapshot.scalars["loss"][-1:], equal_nan=True)
        assert strings["name"] == [snapshot.name]
        assert len(strings["layer_titles"]) == len(strings["layers"])
        assert numbers["layer_bounds"].shape == (6 * len(strings["layers"]),)
        assert numbers["color_range"][0] < numbers["color_range"][1]
        (color_array,) = strings["color_array"]
        attributes = columns(dataset.GetCellData()) | columns(dataset.GetPointData())
        assert color_array in attributes


@settings(max_examples=50)
@given(snapshots())
def test_everything_lies_within_the_bounds_in_its_field_data(snapshot):
    """Which do not depend on values, so that cameras stay put over a run."""
    frame = make_frame(snapshot)
    for dataset in every_dataset(frame):
        if dataset.GetNumberOfPoints():
            declared = columns(dataset.GetFieldData())["bounds"].reshape(3, 2)
            actual = np.array(dataset.GetBounds()).reshape(3, 2)

            assert (declared[:, 0] - 1e-5 <= actual[:, 0]).all()
            assert (actual[:, 1] <= declared[:, 1] + 1e-5).all()


def test_layers_have_the_same_panel_in_every_view():
    """x and y of ``layer_bounds`` agree between all datasets."""
    frame = make_frame(make_snapshot(np.random.default_rng(0)))
    panels = [
        columns(frame.datasets[channel].GetFieldData())["layer_bounds"].reshape(-1, 6)[:, :4]
        for channel in POLYDATA_CHANNELS
    ]

    assert all(np.array_equal(panels[0], other) for other in panels)


def test_bounds_and_ranges_are_steady_while_values_change():
    """Other weights, activations and paths of the same shapes are shown in the same frame."""
    rng = np.random.default_rng(0)
    snapshot = make_snapshot(rng)
    later = make_snapshot(rng)
    for channel in POLYDATA_CHANNELS:
        before, after = (make_frame(s).datasets[channel] for s in (snapshot, later))
        for name in ("bounds", "layer_bounds", "color_range"):
            assert np.array_equal(
                columns(before.GetFieldData())[name], columns(after.GetFieldData())[name]
            )


@settings(max_examples=20)
@given(snapshots())
def test_same_snapshot_same_bytes(snapshot):
    """Also when it went through the transport's table in between."""
    assert digests(make_frame(snapshot)) == digests(make_frame(from_table(*to_table(snapshot))))


@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_a_frame_shares_no_memory_with_its_snapshot(form):
    """Overwriting every array of the snapshot leaves the frame as it was."""
    snapshot = make_snapshot(np.random.default_rng(0), form=form)
    frame = make_frame(snapshot)
    before = digests(frame)
    for array in to_table(snapshot)[1]:
        array[...] = 7

    assert digests(frame) == before


def other_layouts(rng):
    """Snapshots of which each differs from the first in one thing that the layout depends on."""
    layer = make_layer(rng, filters=6, in_channels=4)
    changed = [
        make_layer(rng, filters=5, in_channels=4),
        make_layer(rng, filters=6, in_channels=3),
        make_layer(rng, filters=6, in_channels=4, kernel=(3, 2)),
        make_layer(rng, filters=6, in_channels=4, map_size=(5, 5)),
        make_layer(rng, filters=6, in_channels=4, conv_groups=2),
        make_layer(rng, filters=6, in_channels=4, removed=3),
        dataclasses.replace(layer, activations=shown(layer.activations, groups=[1, 1, 0, 0, 2, 2])),
        dataclasses.replace(layer, activations=shown(layer.activations, channels=range(2, 8))),
    ]
    first = make_snapshot(rng, layers=[layer])
    yield first
    for other in changed:
        yield make_snapshot(rng, layers=[dataclasses.replace(other, name="conv1")])
    yield make_snapshot(rng, layers=[make_layer(rng, name="before"), layer])
    yield first


def shown(activations, **changes):
    arrays = {name: np.array(values, np.int32) for name, values in changes.items()}
    return dataclasses.replace(activations, **arrays)


def test_what_was_drawn_before_does_not_matter():
    """Geometry is remembered from frame to frame, and no frame shows another one's."""
    rng = np.random.default_rng(0)
    remembered = (
        correlation._columns,
        correlation._lattice,
        distribution._groups,
        distribution._windows,
        maps._groups,
        maps._lattice,
        weights._boxes,
    )
    for snapshot in map(widened, other_layouts(rng)):
        after_others = digests(make_frame(snapshot))
        for build in remembered:
            build.cache_clear()

        assert digests(make_frame(snapshot)) == after_others


def widened(snapshot):
    """With original filters for every channel, so that any may be shown."""
    layers = [
        dataclasses.replace(
            layer,
            original_filters=np.append(
                layer.original_filters, layer.original_filters[-1] + np.arange(1, 9)
            ).astype(np.int32),
        )
        for layer in snapshot.layers
    ]
    return dataclasses.replace(snapshot, layers=tuple(layers))


def test_geometry_of_the_same_layers_is_built_once():
    """A frame of other values has the very same cells and ids as the one before."""
    rng = np.random.default_rng(0)
    first, second = (make_frame(make_snapshot(rng)).datasets for _ in range(2))
    for view, cells in (
        ("weights", "Strips"),
        ("distribution", "Strips"),
        ("maps", "Polys"),
        ("maps", "Points"),
        ("correlation", "Polys"),
        ("correlation", "Points"),
    ):
        assert getattr(first[view], f"Get{cells}")() is getattr(second[view], f"Get{cells}")()
        layers = (datasets[view].GetCellData().GetArray("layer") for datasets in (first, second))
        assert next(layers) is next(layers)


def test_a_later_frame_leaves_earlier_ones_as_they_were():
    """What frames share is not written to again."""
    rng = np.random.default_rng(0)
    frame = make_frame(make_snapshot(rng))
    before = digests(frame)
    for snapshot in (make_snapshot(rng, step=200), *map(widened, other_layouts(rng))):
        make_frame(snapshot)

    assert digests(frame) == before


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_that_was_not_asked_for_is_empty_and_still_there(view):
    """Whatever the snapshot carries for other views."""
    others = tuple(name for name in VIEWS if name != view)
    for form in ("cells", "atlas"):
        snapshot = make_snapshot(np.random.default_rng(0), views=others, form=form)
        datasets = make_frame(snapshot).datasets

        assert datasets[view].GetNumberOfCells() == 0
        if f"{view}_atlas" in datasets:
            assert datasets[f"{view}_atlas"].GetNumberOfBlocks() == 0
        assert columns(datasets[view].GetFieldData())["step"].tolist() == [150]


def test_a_layer_without_content_keeps_its_panel_and_title():
    """The layers beside it stay where they are, and ``layer`` counts it."""
    rng = np.random.default_rng(0)
    bare = dataclasses.replace(
        make_layer(rng, name="bare", filters=4), weights=None, activations=None, trajectories=()
    )
    for form in ("cells", "atlas"):
        snapshot = make_snapshot(rng, layers=[bare, make_layer(rng, name="full")], form=form)
        datasets = make_frame(snapshot).datasets
        for channel in ("weights", "distribution", "maps", "correlation", "trajectory"):
            dataset = datasets[channel]

            assert set(columns(dataset.GetCellData())["layer"].tolist()) <= {1}
            assert texts(dataset)["layer_titles"][0].startswith("bare  Conv2d")
            if dataset.GetNumberOfPoints():
                assert points(dataset)[:, 0].min() >= 1.12 - 1e-6
        for channel in ATLAS_CHANNELS:
            assert set(blocks(datasets[channel])) <= {"full"}


def test_a_run_without_losses_or_layers_makes_a_frame():
    """The loss is NaN and every dataset is empty."""
    snapshot = make_snapshot(np.random.default_rng(0), layers=[])
    snapshot = dataclasses.replace(
        snapshot, scalars={}, trajectory_steps=np.empty(0, np.int64), trajectory_losses=np.empty(0)
    )
    frame = make_frame(snapshot)
    for channel in POLYDATA_CHANNELS:
        dataset = frame.datasets[channel]

        assert dataset.GetNumberOfCells() == 0
        assert np.isnan(columns(dataset.GetFieldData())["loss"]).all()


def test_f5_strange_layer_names_are_text_everywhere():
    """Names that would break a file appear as strings and block names, NUL encoded."""
    rng = np.random.default_rng(0)
    names = ['a<b&"c"', "..\n/x", "nul\0", "ünïcode"]
    layers = [make_layer(rng, name=name) for name in names]
    datasets = make_frame(make_snapshot(rng, layers=layers, form="atlas")).datasets
    shown = ['a<b&"c"', "..\n/x", "nul%00", "ünïcode"]

    assert texts(datasets["weights"])["layers"] == shown
    assert list(blocks(datasets["weights_atlas"])) == shown


def test_paraview_colours_by_the_right_array_at_once():
    """The array to colour by is the active one: ParaView picks it when a dataset is first shown."""
    frame = make_frame(make_snapshot(np.random.default_rng(0)))
    active = {}
    for channel, dataset in frame.datasets.items():
        if dataset.IsA("vtkPolyData"):
            attributes = (
                dataset.GetPointData() if channel == "trajectory" else dataset.GetCellData()
            )
            active[channel] = attributes.GetScalars() and attributes.GetScalars().GetName()

    assert active == {
        "weights": "weight_scaled",
        "trajectory": "step",
        "distribution": "group",
        "maps": "activation_scaled",
        "correlation": "pcc",
        "scalars": None,
    }


@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_filters_can_be_followed_through_removals(form):
    """Beside the number that a filter has is the one that it had at first, in every view."""
    rng = np.random.default_rng(0)
    layers = [make_layer(rng, name="plain"), make_layer(rng, name="pruned", removed=2)]
    datasets = make_frame(make_snapshot(rng, layers=layers, form=form)).datasets
    for channel in ("weights", "distribution", "maps", "correlation"):
        cells = columns(datasets[channel].GetCellData())
        names = [name for name in ("filter", "filter_a", "filter_b") if name in cells]

        assert names
        for name in names:
            shift = 2 * (cells["layer"] == 1)
            assert (cells[f"original_{name}"] == cells[name] + shift).all()
            assert cells[f"original_{name}"].dtype == np.int32
    for channel in ATLAS_CHANNELS if form == "atlas" else ():
        for name, image in blocks(datasets[channel]).items():
            field = columns(image.GetFieldData())
            shift = 2 * (name == "pruned")
            assert (field["tile_original_filters"] == field["tile_filters"] + shift).all()
