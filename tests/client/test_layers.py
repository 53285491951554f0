"""The chosen layers are shown as if there were no others, and nothing else about them changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vtkmodules.vtkCommonDataModel import vtkMultiBlockDataSet, vtkPolyData

from tensorview.client.window.layers import OF_FRAMES, PER_CELL, box_labels, chosen
from tensorview.worker.views import make_frame
from tests.snapshots import make_layer, make_snapshot
from tests.views.reading import blocks, columns, connectivity, pixels, points, texts
from tests.views.strategies import snapshots

PROJECT = Path(__file__).parents[2]
VIEWS = ("weights", "trajectory", "distribution", "maps", "correlation")
COLOURED = {
    "weights": "weight_scaled",
    "maps": "activation_scaled",
    "correlation": "pcc",
}


@st.composite
def choices(draw, **options):
    """A snapshot and a choice among its layers, in their order."""
    snapshot = draw(snapshots(**options))
    return snapshot, [layer.name for layer in snapshot.layers if draw(st.booleans())]


def cells(dataset):
    """Ids of the points of every cell."""
    kinds = ("Verts", "Lines", "Polys", "Strips")
    return [ids for kind in kinds for ids in connectivity(getattr(dataset, f"Get{kind}")())]


def corners(dataset):
    """Coordinates of the points of every cell."""
    return [points(dataset)[ids] for ids in cells(dataset)]


def same(expected, actual):
    """The same arrays in the same order, bit for bit."""
    assert list(expected) == list(actual)
    for name, values in expected.items():
        assert values.dtype == actual[name].dtype
        assert values.tobytes() == actual[name].tobytes(), name


@pytest.mark.parametrize("view", VIEWS)
@settings(max_examples=30)
@given(choices(forms=("cells",)))
def test_what_is_kept_is_kept_bit_for_bit(view, choice):
    """Rows of all cell arrays, points of these cells, field data; frames go their own way."""
    snapshot, names = choice
    whole = make_frame(snapshot).datasets[view]
    shown, frames = chosen(whole, names)
    before = columns(whole.GetCellData())
    ids = [index for index, layer in enumerate(snapshot.layers) if layer.name in names]
    rows = np.isin(before["layer"], ids)
    is_frame = before["row"] < 0 if view == "maps" else np.zeros(len(rows), bool)
    first = columns(whole.GetFieldData())

    same({name: b[rows & ~is_frame] for name, b in before.items()}, columns(shown.GetCellData()))
    assert frames.GetNumberOfCells() == (rows & is_frame).sum()
    if frames.GetNumberOfCells():
        same(
            {name: before[name][rows & is_frame] for name in before if name in OF_FRAMES},
            columns(frames.GetCellData()),
        )
    kept = [cell for cell, of_shown in zip(cells(whole), rows & ~is_frame, strict=True) if of_shown]
    for name, values in columns(whole.GetPointData()).items():
        after = columns(shown.GetPointData())[name]
        for ids_before, ids_after in zip(kept, cells(shown), strict=True):
            assert values[ids_before].tobytes() == after[ids_after].tobytes()
    for name, values in columns(shown.GetFieldData()).items():
        if name not in ("layer_bounds", "bounds"):
            expected = first[name][rows] if name in PER_CELL else first[name]
            assert expected.tobytes() == values.tobytes(), name
    for name, values in texts(shown).items():
        of_whole = texts(whole)[name]
        assert values == (list(np.array(of_whole)[rows]) if name in PER_CELL else of_whole)


@pytest.mark.parametrize("view", VIEWS)
@settings(max_examples=30)
@given(choices(forms=("cells",)))
def test_what_is_chosen_lies_as_if_there_were_no_others(view, choice):
    """Panels, bounds and cells are where a run of only these layers would have them."""
    snapshot, names = choice
    fewer = [layer for layer in snapshot.layers if layer.name in names]
    whole = make_frame(snapshot).datasets[view]
    alone = make_frame(dataclasses.replace(snapshot, layers=tuple(fewer))).datasets[view]
    shown, frames = chosen(whole, names)
    after, expected = columns(shown.GetFieldData()), columns(alone.GetFieldData())
    boxes = after["layer_bounds"].reshape(-1, 6)
    ids = [index for index, layer in enumerate(snapshot.layers) if layer.name in names]

    assert np.array_equal(expected["layer_bounds"].reshape(-1, 6), boxes[ids])
    assert np.isnan(np.delete(boxes, ids, axis=0)).all()
    if names:
        assert np.array_equal(expected["bounds"], after["bounds"])
    found, wanted = corners(shown) + corners(frames), corners(alone)
    if view == "weights":  # how far boxes are apart depends on how large all of it is drawn
        layers = columns(shown.GetCellData())["layer"]
        for corner, layer in zip(found, layers, strict=True):
            x0, x1, y0, y1 = boxes[layer, :4]
            assert (corner[:, :2] >= [x0 - 1e-6, y0 - 1e-6]).all()
            assert (corner[:, :2] <= [x1 + 1e-6, y1 + 1e-6]).all()
        return
    for corner, other in zip(found, wanted, strict=True):
        assert np.allclose(corner, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("view", sorted(COLOURED))
@settings(max_examples=30)
@given(choices())
def test_images_follow_the_cells_of_their_view(view, choice):
    """Where a cell is, there is the pixel of its colour; frames are around the same maps."""
    snapshot, names = choice
    as_cells = make_frame(dataclasses.replace(snapshot, form="cells")).datasets[view]
    as_images = make_frame(dataclasses.replace(snapshot, form="atlas")).datasets[f"{view}_atlas"]
    quads, frames = chosen(as_cells, names)
    atlas, frames_of_atlas = chosen(as_images, names)
    data, places = columns(quads.GetCellData()), corners(quads)
    found = blocks(atlas)

    for corner, layer, value in zip(places, data["layer"], data[COLOURED[view]], strict=True):
        image = found[snapshot.layers[layer].name]
        middle = (corner[:, :2].min(axis=0) + corner[:, :2].max(axis=0)) / 2
        column, row = ((middle - image.GetOrigin()[:2]) / image.GetSpacing()[:2]).astype(int)
        pixel = pixels(image, COLOURED[view])[::-1][row, column]
        assert pixel.dtype == value.dtype
        assert pixel.tobytes() == value.tobytes()
    assert set(found) == {snapshot.layers[layer].name for layer in data["layer"]}
    assert frames.GetNumberOfCells() == frames_of_atlas.GetNumberOfCells()
    if view == "maps" and frames.GetNumberOfCells():
        same(columns(frames.GetCellData()), columns(frames_of_atlas.GetCellData()))
        expected, actual = np.array(corners(frames)), np.array(corners(frames_of_atlas))
        assert np.allclose(expected, actual, rtol=0, atol=1e-5)
        names_of_cells, notes = texts(quads)["layers"], columns(quads.GetFieldData())
        for name, image in found.items():
            place = notes["layer_bounds"].reshape(-1, 6)[names_of_cells.index(name)]
            assert np.array_equal(place, columns(image.GetFieldData())["layer_bounds"])


def test_all_layers_are_the_dataset_itself():
    """Nothing is copied: points, cells and arrays are the very same objects."""
    dataset = make_frame(make_snapshot(np.random.default_rng(0))).datasets["weights"]
    for names in (None, ["conv1", "conv2", "fc"]):
        shown, frames = chosen(dataset, names)

        assert shown is not dataset
        assert shown.GetPoints() is dataset.GetPoints()
        assert (
            shown.GetStrips().GetConnectivityArray() is dataset.GetStrips().GetConnectivityArray()
        )
        assert shown.GetCellData().GetArray("weight") is dataset.GetCellData().GetArray("weight")
        assert columns(shown.GetFieldData())["bounds"].tobytes() == (
            columns(dataset.GetFieldData())["bounds"].tobytes()
        )
        assert frames.GetNumberOfCells() == 0


def test_the_input_stays_as_it_is():
    """What others see of the source neither moves nor loses a layer."""
    for form in ("cells", "atlas"):
        datasets = make_frame(make_snapshot(np.random.default_rng(0), form=form)).datasets
        for channel, dataset in datasets.items():
            if channel == "scalars":
                continue
            leaves = blocks(dataset).values() if channel.endswith("_atlas") else [dataset]
            before = [(leaf.GetBounds(), leaf.GetNumberOfCells(), arrays(leaf)) for leaf in leaves]
            chosen(dataset, ["fc"])
            after = [(leaf.GetBounds(), leaf.GetNumberOfCells(), arrays(leaf)) for leaf in leaves]

            assert before == after


def arrays(dataset):
    """Names and values of all arrays."""
    kinds = (dataset.GetCellData(), dataset.GetPointData(), dataset.GetFieldData())
    return [{name: values.tobytes() for name, values in columns(kind).items()} for kind in kinds]


@pytest.mark.parametrize("view", VIEWS)
def test_no_layer_shows_nothing(view):
    """No cells, no points, no bounds; the layers' names stay. So it is for names nobody has."""
    for form in ("cells", "atlas"):
        datasets = make_frame(make_snapshot(np.random.default_rng(0), form=form)).datasets
        for names in ([], ["who"]):
            shown, frames = chosen(datasets[view], names)

            assert (shown.GetNumberOfCells(), shown.GetNumberOfPoints()) == (0, 0)
            assert frames.GetNumberOfCells() == 0
            assert np.isnan(columns(shown.GetFieldData())["layer_bounds"]).all()
            assert np.isnan(columns(shown.GetFieldData())["bounds"]).all()
            assert texts(shown)["layers"] == ["conv1", "conv2", "fc"]
        if f"{view}_atlas" in datasets:
            shown, frames = chosen(datasets[f"{view}_atlas"], [])
            assert (shown.GetNumberOfBlocks(), frames.GetNumberOfCells()) == (0, 0)


def test_unknown_names_take_no_room():
    """A name that the run does not have moves nothing."""
    dataset = make_frame(make_snapshot(np.random.default_rng(0))).datasets["correlation"]
    known, odd = chosen(dataset, ["conv2", "fc"]).shown, chosen(dataset, ["x", "conv2", "fc"]).shown

    assert points(known).tobytes() == points(odd).tobytes()
    assert arrays(known) == arrays(odd)


def test_what_says_nothing_of_layers_passes():
    """Empty datasets arrive without any field data from a live training."""
    for names in (None, ["conv1"]):
        assert chosen(vtkPolyData(), names).shown.GetNumberOfPoints() == 0
        assert chosen(vtkMultiBlockDataSet(), names).shown.GetNumberOfBlocks() == 0


def test_an_image_is_named_by_its_own_word():
    """ParaView's reader gives an atlas of one layer as a single image, and others without names."""
    odd = 'a\n"<&é☃;'
    rng = np.random.default_rng(0)
    snapshot = make_snapshot(rng, layers=[make_layer(rng, name=odd)], form="atlas")
    (image,) = blocks(make_frame(snapshot).datasets["maps_atlas"]).values()
    nested = vtkMultiBlockDataSet()
    nested.SetBlock(0, vtkMultiBlockDataSet())
    nested.GetBlock(0).SetBlock(0, image)

    for given_as in (image, nested):
        assert list(blocks(chosen(given_as, None).shown)) == [odd]
        assert list(blocks(chosen(given_as, [odd]).shown)) == [odd]


def test_check_boxes_keep_the_order_of_the_layers():
    """ParaView sorts them by what is written beside them."""
    assert box_labels(["conv1", "fc"]) == ["conv1", "fc"]
    assert box_labels(["fc", "conv1"]) == ["1  fc", "2  conv1"]
    many = box_labels([f"features.{index}" for index in range(12)])
    assert many == sorted(many)
    assert many[1:3] == ["02  features.1", "03  features.2"]
