"""Atlas: the same values in the same places as the cells, as one image a layer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from tensorview.worker.views import correlation, make_frame, maps, weights
from tensorview.worker.views.atlas import AtlasView, split
from tensorview.worker.views.layout import PanelLayer, panels
from tests.snapshots import make_layer, make_snapshot
from tests.views.reading import blocks, columns, connectivity, pixels, points, texts
from tests.views.strategies import snapshots

ARRAYS = {"weights": "weight", "maps": "activation", "correlation": "pcc"}


def in_forms(snapshot, view):
    """The view as cells and as images by layer."""
    as_cells = make_frame(dataclasses.replace(snapshot, form="cells")).datasets
    as_images = make_frame(dataclasses.replace(snapshot, form="atlas")).datasets
    return as_cells[view], blocks(as_images[f"{view}_atlas"])


def centres(polydata):
    """Centre of every cell seen from above: of the box round its points."""
    corners = points(polydata)[:, :2]
    cells = connectivity(polydata.GetPolys()) + connectivity(polydata.GetStrips())
    return np.array([(corners[c].min(axis=0) + corners[c].max(axis=0)) / 2 for c in cells])


@pytest.mark.parametrize("view", sorted(ARRAYS))
@settings(max_examples=20)
@given(snapshot=snapshots())
def test_a_pixel_has_the_value_of_the_cell_at_its_place(view, snapshot):
    """Looking up every cell's centre in the image gives the cell's value, bit for bit."""
    polydata, images = in_forms(snapshot, view)
    cells = columns(polydata.GetCellData())
    content = np.ones(len(cells["layer"]), bool)
    if view == "maps":
        content = cells["row"] >= 0
    middle = centres(polydata).reshape(-1, 2)
    for index, layer in enumerate(snapshot.layers):
        own = content & (cells["layer"] == index)
        if not own.any():
            assert layer.name not in images
            continue
        image = images[layer.name]
        values = pixels(image, ARRAYS[view])
        origin, spacing = np.array(image.GetOrigin()[:2]), np.array(image.GetSpacing()[:2])
        column, from_below = ((middle[own] - origin) / spacing).astype(int).T
        found = values[values.shape[0] - 1 - from_below, column]

        assert (
            found.astype(cells[ARRAYS[view]].dtype).tobytes() == cells[ARRAYS[view]][own].tobytes()
        )


@settings(max_examples=30)
@given(snapshots(forms=("atlas",)))
def test_tiles_in_field_data_find_every_filter(snapshot):
    """Cutting tiles as the field data says gives each filter's values, and NaN between them."""
    datasets = make_frame(snapshot).datasets
    for layer in snapshot.layers:
        for view in ("weights", "maps"):
            image = blocks(datasets[f"{view}_atlas"]).get(layer.name)
            if image is None:
                continue
            field = columns(image.GetFieldData())
            tile_columns, rows, width, height, gutter = field["tiles"]
            values = pixels(image, ARRAYS[view])
            filters = layer.activations.maps[0] if view == "maps" else layer.weights.values
            seen = np.zeros(values.shape, bool)
            for k, number in enumerate(field["tile_filters"]):
                top, left = np.divmod(k, tile_columns) * np.array([height + gutter, width + gutter])
                tile = np.s_[top : top + height, left : left + width]
                seen[tile] = True
                expected = np.sort(filters[number].reshape(-1))
                actual = np.sort(values[tile].reshape(-1))[: expected.size]

                assert np.array_equal(expected, actual, equal_nan=True)
            assert np.isnan(values[~seen]).all()
            assert values.shape == (
                rows * (height + gutter) - gutter,
                tile_columns * (width + gutter) - gutter,
            )
            assert gutter >= 1


@settings(max_examples=30)
@given(snapshots(forms=("atlas",)))
def test_windows_in_field_data_find_every_weight(snapshot):
    """Filter, true input channel, row and column of every weight follow from the field data."""
    datasets = make_frame(snapshot).datasets
    as_cells = make_frame(dataclasses.replace(snapshot, form="cells")).datasets["weights"]
    cells = columns(as_cells.GetCellData())
    for index, layer in enumerate(snapshot.layers):
        image = blocks(datasets["weights_atlas"]).get(layer.name)
        if image is None:
            continue
        field, values = columns(image.GetFieldData()), pixels(image, "weight")
        found = []
        for f, first in enumerate(field["tile_first_channels"]):
            tile = corner(field["tiles"], f)
            for i, channel in enumerate(field["window_channels"]):
                left, top = tile + corner(field["windows"], i)
                width, height = field["windows"][2:4]
                window = values[top : top + height, left : left + width]
                found += [
                    (field["tile_filters"][f], first + channel, row, col, window[row, col])
                    for row in range(height)
                    for col in range(width)
                ]
        own = cells["layer"] == index
        names = ("filter", "in_channel", "row", "col", "weight")

        for name, actual in zip(names, zip(*found, strict=True), strict=True):
            assert np.array_equal(cells[name][own], actual, equal_nan=True)


def corner(grid, index):
    """Left and top pixel of the tile *index* of a grid as in field data."""
    grid_columns, _, width, height, gutter = grid
    row, column = divmod(index, grid_columns)
    return np.array([column * (width + gutter), row * (height + gutter)])


def test_filters_keep_a_gutter_where_weights_are_too_small_for_gaps():
    """Fifty layers of 4,096 weights: no gaps between boxes, one pixel between tiles."""
    shape = (64, 64, 1, 1)
    panel = panels(50)[0]

    assert weights.grids(shape, panel=panel)[1].gutter == 0
    layer = make_layer(np.random.default_rng(0), filters=64, in_channels=64, kernel=(1, 1))
    assert weights.atlas(PanelLayer(0, layer, panel)).tiles == (8, 8, 8, 8, 1)


def test_images_carry_groups_ranges_and_samples():
    """The layer's own display range, the groups of its channels, one array a sample."""
    layer = make_layer(np.random.default_rng(0), filters=3, samples=2)
    snapshot = make_snapshot(np.random.default_rng(0), layers=[layer], form="atlas")
    datasets = make_frame(snapshot).datasets
    of_weights, of_maps, of_pairs = (
        blocks(datasets[f"{view}_atlas"])["conv1"] for view in ("weights", "maps", "correlation")
    )
    sample = layer.activations.maps[2]

    assert "tile_groups" not in columns(of_weights.GetFieldData())
    assert columns(of_maps.GetFieldData())["tile_groups"].tolist() == [0, 0, -2]
    assert columns(of_pairs.GetFieldData())["tiles"].tolist() == [1, 3, 3, 1, 0]
    assert [texts(i)["color_array"] for i in (of_weights, of_maps, of_pairs)] == [
        ["weight"],
        ["activation"],
        ["pcc"],
    ]
    assert np.array_equal(pixels(of_maps, "activation_sample_1")[:6, :5], sample[0])
    for image, low, high in (
        (of_weights, -layer.weights.range, layer.weights.range),
        (of_maps, *layer.activations.map_range),
        (of_pairs, -1, 1),
    ):
        assert columns(image.GetFieldData())["color_range"].tolist() == [low, high]


def test_large_layers_become_images_and_small_ones_stay_cells():
    """A layer at the limit is cells, one above it an image, unless a form is forced."""
    rng = np.random.default_rng(0)
    small, large = make_layer(rng, name="small"), make_layer(rng, name="large", filters=7)
    layers = [PanelLayer(k, layer, panels(2)[k]) for k, layer in enumerate((small, large))]
    view = AtlasView(weights.size, weights.size(small), 10**6, weights.atlas)

    def names(form):
        return tuple([e.layer.name for e in part] for part in split(layers, form=form, view=view))

    assert names("auto") == (["small"], ["large"])
    assert names("cells") == (["small", "large"], [])
    assert names("atlas") == ([], ["small", "large"])


def test_many_small_layers_do_not_make_a_large_view():
    """Where they are too many cells together, the largest become images until the rest fits."""
    rng = np.random.default_rng(0)
    layers = [
        make_layer(rng, name=name, filters=n) for name, n in zip("abcd", (3, 8, 2, 5), strict=True)
    ]
    entries = [PanelLayer(k, layer, panels(4)[k]) for k, layer in enumerate(layers)]
    room = sum(weights.size(layer) for layer in (layers[0], layers[2], layers[3]))

    def names(budget):
        view = AtlasView(weights.size, 10**6, budget, weights.atlas)
        parts = split(entries, form="auto", view=view)
        return tuple("".join(entry.layer.name for entry in part) for part in parts)

    assert names(10**6) == ("abcd", "")
    assert names(room) == ("acd", "b")
    assert names(room - 1) == ("ac", "bd")
    assert names(0) == ("", "abcd")


def test_limits_are_those_documented():
    """20,000 weights, 100,000 pixels of maps, 20,000 pairs; a frame follows them."""
    layer = make_layer(np.random.default_rng(0), filters=142, kernel=(1, 1), in_channels=141)
    frame = make_frame(make_snapshot(np.random.default_rng(0), layers=[layer]))

    assert (weights.CELL_LIMIT, maps.CELL_LIMIT, correlation.CELL_LIMIT) == (
        20_000,
        100_000,
        20_000,
    )
    assert (weights.CELL_BUDGET, maps.CELL_BUDGET, correlation.CELL_BUDGET) == (
        50_000,
        100_000,
        100_000,
    )
    assert list(blocks(frame.datasets["weights_atlas"])) == ["conv1"]
    assert list(blocks(frame.datasets["correlation_atlas"])) == ["conv1"]
    assert list(blocks(frame.datasets["maps_atlas"])) == []
    assert frame.datasets["weights"].GetNumberOfCells() == 0
    assert frame.datasets["maps"].GetNumberOfPolys() == 142 * 30


def test_an_image_lies_exactly_in_its_panel():
    """Its upper left is the panel's, its longer side the panel's width, its z is 0."""
    rng = np.random.default_rng(0)
    layers = [make_layer(rng, name=name, filters=10) for name in ("a", "b")]
    frame = make_frame(make_snapshot(rng, layers=layers, form="atlas"))
    left, right, bottom, top, *depth = blocks(frame.datasets["weights_atlas"])["b"].GetBounds()

    assert (left, right, top) == pytest.approx((1.12, 2.12, 1))
    assert 0 < bottom < top
    assert depth == [0, 0]
