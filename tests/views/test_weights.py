"""Weights: one closed box a weight, in id order, its height by value."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from tensorview.worker.views import make_frame
from tensorview.worker.views.layout import panels
from tensorview.worker.views.weights import HEIGHT, MIN_HEIGHT, grids
from tests.snapshots import make_layer, make_snapshot, make_weights
from tests.views.reading import columns, connectivity, points, texts
from tests.views.strategies import snapshots


def draw(*layers, form="cells"):
    snapshot = make_snapshot(np.random.default_rng(0), layers=layers, form=form)
    return make_frame(snapshot).datasets["weights"]


def boxes(polydata):
    """Lowest and highest corner of every box, shape ``(cells, 2, 3)``."""
    corners = points(polydata).reshape(-1, 8, 3)
    return np.stack([corners.min(axis=1), corners.max(axis=1)], axis=1)


@settings(max_examples=50)
@given(snapshots(forms=("cells",)))
def test_a_box_for_every_weight_of_every_layer_kind(snapshot):
    """Cells, points and strip lengths follow from the shapes alone; coordinates are finite."""
    polydata = make_frame(snapshot).datasets["weights"]
    count = sum(layer.weights.values.size for layer in snapshot.layers)

    assert polydata.GetNumberOfCells() == polydata.GetNumberOfStrips() == count
    assert polydata.GetNumberOfPoints() == 8 * count
    assert {14} >= {len(strip) for strip in connectivity(polydata.GetStrips())}
    assert np.isfinite(points(polydata)).all()


@settings(max_examples=50)
@given(snapshots(forms=("cells",)))
def test_values_and_ids_are_those_of_the_snapshot(snapshot):
    """Bit for bit, with NaN, infinities and -0.0, in order of layer, filter, channel, row, col."""
    cells = columns(make_frame(snapshot).datasets["weights"].GetCellData())
    expected = collections.defaultdict(list)
    for index, layer in enumerate(snapshot.layers):
        weights = layer.weights
        for (f, i, row, col), value in np.ndenumerate(weights.values):
            group = f // (weights.out // weights.conv_groups)
            expected["layer"].append(index)
            expected["weight"].append(value)
            expected["filter"].append(f)
            expected["in_channel"].append(group * weights.in_per_group + i)
            expected["row"].append(row)
            expected["col"].append(col)

    for name, values in expected.items():
        assert np.array(values, cells[name].dtype).tobytes() == cells[name].tobytes()


def test_ids_of_reduced_weights_are_the_true_ones():
    """Filters and input channels that were chosen of more keep their numbers."""
    rng = np.random.default_rng(0)
    weights = dataclasses.replace(
        make_weights(rng, shape=(2, 2, 1, 1), conv_groups=2),
        filters=np.array([1, 6], np.int32),
        in_channels=np.array([0, 3], np.int32),
        in_per_group=4,
        out=8,
    )
    layer = make_layer(rng, filters=8, conv_groups=2)
    cells = columns(draw(dataclasses.replace(layer, weights=weights)).GetCellData())

    assert cells["filter"].tolist() == [1, 1, 6, 6]
    assert cells["in_channel"].tolist() == [0, 3, 4, 7]


def test_dtypes_are_as_documented():
    """Weights keep their precision; one float64 layer widens them all."""
    rng = np.random.default_rng(0)
    single, double = make_layer(rng), make_layer(rng, dtype=np.float64)

    assert columns(draw(single).GetCellData())["weight"].dtype == np.float32
    assert columns(draw(single, double).GetCellData())["weight"].dtype == np.float64
    assert columns(draw(double).GetCellData())["weight_scaled"].dtype == np.float32


def test_n1_height_follows_the_value_and_stays_finite():
    """Positive up, negative down, outliers cut at twice the range, not-finite as flat as zero."""
    rng = np.random.default_rng(0)
    values = np.array([0.5, -0.25, 0, 9, -9, np.nan, np.inf, -np.inf, 1e38], np.float32)
    weights = dataclasses.replace(
        make_weights(rng, shape=(1, 1, 3, 3)), values=values.reshape(1, 1, 3, 3), range=0.5
    )
    polydata = draw(dataclasses.replace(make_layer(rng), weights=weights))
    low, high = boxes(polydata)[:, :, 2].T
    thin, full = MIN_HEIGHT, HEIGHT

    assert high == pytest.approx([full, 0, thin, 2 * full, 0, thin, thin, thin, 2 * full])
    assert low == pytest.approx([0, -full / 2, 0, 0, -2 * full, 0, 0, 0, 0])
    scaled = columns(polydata.GetCellData())["weight_scaled"]
    assert np.array_equal(values / np.float32(0.5), scaled, equal_nan=True)


def test_every_box_is_closed_and_faces_outwards():
    """Every edge is walked once each way, and the enclosed volume is the box's own."""
    polydata = draw(make_layer(np.random.default_rng(0), filters=2, in_channels=1))
    corners = points(polydata).astype(np.float64)
    extents = boxes(polydata).astype(np.float64)
    for strip, (low, high) in zip(connectivity(polydata.GetStrips()), extents, strict=True):
        triangles = [
            (strip[k], strip[k + 1], strip[k + 2])
            if k % 2 == 0
            else (strip[k + 1], strip[k], strip[k + 2])
            for k in range(12)
        ]
        edges = collections.Counter((t[k], t[(k + 1) % 3]) for t in triangles for k in range(3))
        volume = sum(np.linalg.det(corners[list(t)]) for t in triangles) / 6

        assert all(edges[edge] == edges[edge[::-1]] == 1 for edge in edges)
        assert volume == pytest.approx(np.prod(high - low), rel=1e-3)


def test_boxes_are_disjoint_and_within_their_panels():
    """Seen from above no two boxes overlap, and none leaves its layer's panel."""
    polydata = draw(
        make_layer(np.random.default_rng(0), filters=5, in_channels=3),
        make_layer(np.random.default_rng(1), filters=7, in_channels=1, kernel=(1, 5)),
    )
    layer = columns(polydata.GetCellData())["layer"]
    panel = columns(polydata.GetFieldData())["layer_bounds"].reshape(-1, 3, 2)[layer]
    low, high = boxes(polydata).swapaxes(0, 1)

    assert (panel[..., 0] - 1e-6 <= low).all()
    assert (high <= panel[..., 1] + 1e-6).all()
    shrink = (high - low) * 1e-3
    apart = (high - shrink)[:, None, :2] <= (low + shrink)[None, :, :2]
    apart = (apart | apart.swapaxes(0, 1)).any(axis=2)
    assert apart[~np.eye(len(layer), dtype=bool)].all()


def test_windows_are_apart_only_where_a_block_is_three_pixels_wide():
    """Gaps between kernels and filters go first between kernels, then altogether."""
    (alone,) = panels(1)
    crowded = panels(50)[0]

    def gaps(shape, panel):
        return tuple(grid.gutter for grid in grids(shape, panel=panel))

    assert gaps((16, 4, 3, 3), alone) == (1, 2)
    assert gaps((16, 1, 3, 3), alone) == (0, 1)
    assert gaps((10, 64, 1, 1), alone) == (0, 1)
    assert gaps((128, 64, 3, 3), alone) == (0, 1)
    assert gaps((64, 64, 3, 3), crowded) == (0, 0)


def test_the_title_says_shape_and_range():
    """Shape as in PyTorch, how the weights were reduced, and the display range."""
    rng = np.random.default_rng(0)
    layer = make_layer(rng, name="features.0", filters=16, in_channels=1)
    weights = dataclasses.replace(layer.weights, range=0.5)
    reduced = dataclasses.replace(weights, reduced="kernel norms")
    polydata = draw(
        dataclasses.replace(layer, weights=weights), dataclasses.replace(layer, weights=reduced)
    )

    assert texts(polydata)["layer_titles"] == [
        "features.0  Conv2d  16 x 1 x 3 x 3  ±0.5",
        "features.0  Conv2d  16 x 1 x 3 x 3  (kernel norms)  ±0.5",
    ]
