"""Maps: one quad a pixel, one frame a map, row 0 at the top."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from tensorview.worker.views import make_frame
from tests.snapshots import make_layer, make_snapshot
from tests.views.reading import columns, connectivity, points, texts
from tests.views.strategies import snapshots


def draw(*layers, form="cells"):
    snapshot = make_snapshot(np.random.default_rng(0), layers=layers, form=form)
    return make_frame(snapshot).datasets["maps"]


@settings(max_examples=50)
@given(snapshots(forms=("cells",)))
def test_a_quad_for_every_pixel_and_a_frame_for_every_map(snapshot):
    """Counts follow from the shapes alone; coordinates are finite; quads come before frames."""
    polydata = make_frame(snapshot).datasets["maps"]
    shapes = [layer.activations.maps.shape[1:] for layer in snapshot.layers]

    assert polydata.GetNumberOfPolys() == sum(c * h * w for c, h, w in shapes)
    assert polydata.GetNumberOfStrips() == sum(c for c, _, _ in shapes)
    assert polydata.GetNumberOfPoints() == sum(c * ((h + 1) * (w + 1) + 8) for c, h, w in shapes)
    assert np.isfinite(points(polydata)).all()


@settings(max_examples=50)
@given(snapshots(forms=("cells",)))
def test_values_and_ids_are_those_of_the_snapshot(snapshot):
    """Mean and samples bit for bit, in order of layer, filter, row, column."""
    polydata = make_frame(snapshot).datasets["maps"]
    cells = columns(polydata.GetCellData())
    quads = slice(0, polydata.GetNumberOfPolys())
    layers = [layer.activations for layer in snapshot.layers]

    def join(values):
        return np.concatenate([np.empty(0), *(np.ravel(value) for value in values)])

    means = np.concatenate([np.empty(0, np.float32), *(a.maps[0].ravel() for a in layers)])
    assert means.tobytes() == cells["activation"][quads].tobytes()
    for sample in {sample for a in layers for sample in a.map_samples}:
        expected = join(
            a.maps[1 + a.map_samples.index(sample)]
            if sample in a.map_samples
            else np.full(a.maps.shape[1:], np.nan)
            for a in layers
        )
        actual = cells[f"activation_sample_{sample}"][quads]
        assert np.array_equal(expected, actual, equal_nan=True)
    grids = [np.indices(a.maps.shape[1:]) for a in layers]
    for axis, name in enumerate(("filter", "row", "col")):
        assert np.array_equal(join(grid[axis] for grid in grids), cells[name][quads])
    groups = [a.groups[grid[0]] for a, grid in zip(layers, grids, strict=True)]
    assert np.array_equal(join(groups), cells["group"][quads])
    owner = [np.full(a.maps[0].size, index) for index, a in enumerate(layers)]
    assert np.array_equal(join(owner), cells["layer"][quads])


def test_frames_carry_filter_and_group_and_no_activation():
    """So that colouring by group shows frames, and colouring by activation the maps."""
    layer = make_layer(np.random.default_rng(0), filters=3)
    cells = columns(draw(layer).GetCellData())
    frames = slice(-3, None)

    assert cells["filter"][frames].tolist() == [0, 1, 2]
    assert cells["group"][frames].tolist() == [0, 0, -2]
    assert cells["row"][frames].tolist() == cells["col"][frames].tolist() == [-1] * 3
    for name in ("activation", "activation_scaled", "activation_sample_0"):
        assert np.isnan(cells[name][frames]).all()


def test_quads_lie_where_their_row_and_column_say():
    """Row 0 is at the top, column 0 on the left, and every quad faces the viewer."""
    polydata = draw(make_layer(np.random.default_rng(0), filters=1, map_size=(4, 3)))
    corners = points(polydata)[np.array(connectivity(polydata.GetPolys()))]
    cells = columns(polydata.GetCellData())
    centre = corners.mean(axis=1)
    pixel = corners[0, :, 0].max() - corners[0, :, 0].min()
    edge_a, edge_b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1]

    offset = centre - centre[0]
    assert offset[:, 0] == pytest.approx(cells["col"][:12] * pixel, abs=1e-5)
    assert offset[:, 1] == pytest.approx(-cells["row"][:12] * pixel, abs=1e-5)
    assert (np.cross(edge_a, edge_b)[:, 2] > 0).all()


def test_a_frame_closes_around_its_map_without_touching_another():
    """The ring's inner edge is the map's edge; its outer edge stays within half the gutter."""
    polydata = draw(make_layer(np.random.default_rng(0), filters=5, map_size=(30, 30)))
    corners = points(polydata)
    maps = corners[: -8 * 5].reshape(5, -1, 3)
    rings = corners[-8 * 5 :].reshape(5, 2, 4, 3)
    strips = connectivity(polydata.GetStrips())

    for ring, content in zip(rings, maps, strict=True):
        assert np.array_equal(ring[0].min(axis=0), content.min(axis=0))
        assert np.array_equal(ring[0].max(axis=0), content.max(axis=0))
        assert (ring[1].min(axis=0)[:2] < content.min(axis=0)[:2]).all()
    for k, strip in enumerate(strips):
        assert strip[:2].tolist() == strip[-2:].tolist()
        assert set(strip - len(corners) + 40) == set(range(8 * k, 8 * k + 8))
    assert rings[0, 1, :, 0].max() < rings[1, 1, :, 0].min()
    assert rings[0, 1, :, 1].min() > rings[3, 1, :, 1].max()


def test_colours_are_shares_of_the_layers_own_steady_range():
    """``activation_scaled`` is 0 at the low end and 1 at the high end, NaN and inf kept."""
    layer = make_layer(np.random.default_rng(0), filters=1, map_size=(1, 5), samples=0)
    maps = np.array([[[[-1, 0, 3, np.nan, np.inf]]]], np.float32)
    activations = dataclasses.replace(layer.activations, maps=maps, map_range=(-1.0, 3.0))
    polydata = draw(dataclasses.replace(layer, activations=activations))

    scaled = columns(polydata.GetCellData())["activation_scaled"][:5]
    assert np.array_equal([0, 0.25, 1, np.nan, np.inf], scaled, equal_nan=True)
    assert columns(polydata.GetFieldData())["color_range"].tolist() == [0, 1]


def test_the_title_says_channels_size_and_range():
    """And how many of how many channels, and over which squares pixels were averaged."""
    layer = make_layer(np.random.default_rng(0), filters=4, map_size=(4, 3))
    activations = dataclasses.replace(layer.activations, map_range=(0.0, 1.5))
    reduced = dataclasses.replace(activations, out=64, map_stride=2)
    polydata = draw(
        dataclasses.replace(layer, activations=activations),
        dataclasses.replace(layer, activations=reduced),
    )

    assert texts(polydata)["layer_titles"] == [
        "conv1  Conv2d  4 channels  4 x 3  0 to 1.5",
        "conv1  Conv2d  4 of 64 channels  4 x 3 (means of 2 x 2)  0 to 1.5",
    ]
