"""Correlation: a heat map of all pairs, groups side by side."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings

from tensorview.worker.views import make_frame
from tests.snapshots import make_layer, make_snapshot
from tests.views.reading import columns, connectivity, points, texts
from tests.views.strategies import snapshots


def draw(*layers):
    snapshot = make_snapshot(np.random.default_rng(0), layers=layers, form="cells")
    return make_frame(snapshot).datasets["correlation"]


def grouped_layer():
    """Five channels of a larger layer: groups 1, none, 0, dead, 1."""
    rng = np.random.default_rng(0)
    layer = make_layer(rng, filters=5)
    activations = dataclasses.replace(
        layer.activations,
        channels=np.array([2, 3, 5, 7, 11], np.int32),
        out=12,
        groups=np.array([1, -1, 0, -2, 1], np.int32),
        pcc=np.arange(25, dtype=np.float32).reshape(5, 5) / 25,
    )
    return dataclasses.replace(
        layer, activations=activations, original_filters=np.arange(12, dtype=np.int32)
    )


@settings(max_examples=50)
@given(snapshots(forms=("cells",)))
def test_a_quad_for_every_pair_with_its_own_value(snapshot):
    """Counts follow from the channels, and a pair's value is found under its two ids."""
    polydata = make_frame(snapshot).datasets["correlation"]
    cells = columns(polydata.GetCellData())
    layers = [layer.activations for layer in snapshot.layers]

    assert polydata.GetNumberOfCells() == sum(len(a.channels) ** 2 for a in layers)
    assert polydata.GetNumberOfPoints() == sum((len(a.channels) + 1) ** 2 for a in layers)
    assert np.isfinite(points(polydata)).all()
    for index, activations in enumerate(layers):
        own = {name: values[cells["layer"] == index] for name, values in cells.items()}
        expected = activations.pcc[own["filter_a"], own["filter_b"]]
        assert expected.tobytes() == own["pcc"].tobytes()
        assert len({*zip(own["filter_a"], own["filter_b"], strict=True)}) == expected.size


def test_rows_and_columns_are_ordered_by_group():
    """Groups in order, then those in none, then the dead; by channel within each."""
    cells = columns(draw(grouped_layer()).GetCellData())

    assert cells["filter_a"].reshape(5, 5)[:, 0].tolist() == [5, 2, 11, 3, 7]
    assert cells["filter_b"].reshape(5, 5)[0].tolist() == [5, 2, 11, 3, 7]
    assert (cells["pcc"].reshape(5, 5)[0] * 25).round().tolist() == [12, 10, 14, 11, 13]


def test_a_pair_has_a_group_only_where_both_are_in_it():
    """Two filters of no group, or two dead ones, are not of one group."""
    cells = columns(draw(grouped_layer()).GetCellData())

    assert cells["group"].reshape(5, 5).tolist() == [
        [0, -1, -1, -1, -1],
        [-1, 1, 1, -1, -1],
        [-1, 1, 1, -1, -1],
        [-1, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1],
    ]


def test_the_diagonal_runs_from_the_upper_left():
    """The first row is at the top of the panel, the first column on its left."""
    polydata = draw(grouped_layer())
    corners = points(polydata)[np.array(connectivity(polydata.GetPolys()))]
    centres = corners.mean(axis=1).reshape(5, 5, 3)

    assert (np.diff(centres[..., 0], axis=1) > 0).all()
    assert (np.diff(centres[..., 1], axis=0) < 0).all()
    assert corners[0].min(axis=0)[0] == 0
    assert corners[0].max(axis=0)[1] == 1


def test_colours_span_all_correlations_and_the_title_counts_groups():
    """The range is -1 to 1 whatever the values."""
    polydata = draw(grouped_layer(), make_layer(np.random.default_rng(0), filters=3))

    assert columns(polydata.GetFieldData())["color_range"].tolist() == [-1, 1]
    assert texts(polydata)["layer_titles"] == [
        "conv1  Conv2d  5 of 12 channels  2 groups",
        "conv1  Conv2d  3 channels  1 group",
    ]
