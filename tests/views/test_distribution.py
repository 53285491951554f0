"""Distribution: two strips a channel, the density and the bar of zeros."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.worker.views import make_frame
from tensorview.worker.views.distribution import BAR, BASELINE, DENSITY
from tests.snapshots import make_layer, make_snapshot
from tests.views.reading import columns, connectivity, points, texts
from tests.views.strategies import snapshots

BINS = 16


def draw(*layers):
    snapshot = make_snapshot(np.random.default_rng(0), layers=layers)
    return make_frame(snapshot).datasets["distribution"]


def windows(polydata, *, bins=BINS):
    """Points of every channel's density and bar, as ``x, y`` in units of a single window."""
    corners = points(polydata)[:, :2].reshape(-1, 4 * bins + 4, 2)
    return corners[:, : 4 * bins], corners[:, 4 * bins :]


@settings(max_examples=50)
@given(snapshots())
def test_two_strips_for_every_channel_of_every_layer_kind(snapshot):
    """Counts follow from channels and bins; every point belongs to exactly one strip."""
    polydata = make_frame(snapshot).datasets["distribution"]
    channels = sum(len(layer.activations.channels) for layer in snapshot.layers)
    strips = connectivity(polydata.GetStrips())

    assert [len(strip) for strip in strips] == [4 * BINS, 4] * channels
    assert np.array_equal(np.concatenate([[], *strips]), np.arange(channels * (4 * BINS + 4)))
    assert polydata.GetNumberOfPoints() == channels * (4 * BINS + 4)
    assert np.isfinite(points(polydata)).all()


@settings(max_examples=50)
@given(snapshots())
def test_values_and_ids_are_those_of_the_snapshot(snapshot):
    """Density times bin width is the histogram, and both strips carry the channel's numbers."""
    polydata = make_frame(snapshot).datasets["distribution"]
    cells, at_points = columns(polydata.GetCellData()), columns(polydata.GetPointData())
    layers = [layer.activations for layer in snapshot.layers]
    density = at_points["density"].reshape(-1, 4 * BINS + 4)

    def join(values):
        return np.concatenate([np.empty(0), *values])

    assert np.array_equal(np.repeat(join(a.channels for a in layers), 2), cells["filter"])
    assert np.array_equal(np.repeat(join(a.groups for a in layers), 2), cells["group"])
    assert np.array_equal(np.repeat(join(a.zero_mass for a in layers), 2), cells["zero_mass"])
    owner = [np.full(2 * len(a.channels), index) for index, a in enumerate(layers)]
    assert np.array_equal(join(owner), cells["layer"])
    histogram = join(a.histogram.reshape(-1) for a in layers).reshape(-1, BINS)
    assert np.array_equal(histogram.repeat(4, axis=1) * BINS, density[:, : 4 * BINS])
    assert np.isnan(density[:, 4 * BINS :]).all()


def test_the_shape_is_the_histogram_and_the_bar_is_the_mass_at_zero():
    """The highest bin and a bar of all zeros reach the top of the window, others in proportion."""
    layer = make_layer(np.random.default_rng(0), filters=1)
    activations = dataclasses.replace(
        layer.activations,
        histogram=np.array([[0.1, 0.0, 0.4, 0.25]], np.float32),
        histogram_range=np.array([[-1, 3]], np.float32),
        zero_mass=np.array([0.25], np.float32),
    )
    polydata = draw(dataclasses.replace(layer, activations=activations))
    density, bar = (part[0].reshape(-1, 2, 2) for part in windows(polydata, bins=4))
    at_points = columns(polydata.GetPointData())

    def height(share):
        return BASELINE + (1 - BASELINE) * share

    edges = np.linspace(*DENSITY, 5)[[0, 1, 1, 2, 2, 3, 3, 4]]
    tops = [height(share) for share in (0.25, 0.25, 0, 0, 1, 1, 0.625, 0.625)]
    assert density[:, 0] == pytest.approx(np.stack([edges, tops], axis=1), abs=1e-6)
    assert density[:, 1] == pytest.approx(np.stack([edges, np.zeros(8)], axis=1), abs=1e-6)
    assert bar[:, 0] == pytest.approx(np.array([[x, height(0.25)] for x in BAR]), abs=1e-6)
    activation = at_points["activation"].reshape(-1, 2)[:, 0]
    assert activation.tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 0, 0]


def test_a_dead_channel_and_one_without_finite_values_are_flat_and_there():
    """Their density is the base line; the dead one's bar is full, the other's is empty."""
    layer = make_layer(np.random.default_rng(0), filters=2)
    activations = dataclasses.replace(
        layer.activations,
        groups=np.array([-2, -1], np.int32),
        histogram=np.array([[0] * BINS, [np.nan] * BINS], np.float32),
        zero_mass=np.array([1, np.nan], np.float32),
    )
    density, bar = windows(draw(dataclasses.replace(layer, activations=activations)))
    window = density[0, :, 0].max() - bar[0, :, 0].min()
    heights = np.stack([np.ptp(part[:, :, 1], axis=1) for part in (density, bar)], axis=1) / window

    assert heights == pytest.approx(np.array([[BASELINE, 1], [BASELINE, BASELINE]]), abs=1e-5)


def test_windows_are_disjoint_and_within_their_panel():
    """No channel's window reaches into another's, and none leaves the panel."""
    polydata = draw(make_layer(np.random.default_rng(0), filters=7))
    corners = points(polydata)[:, :2].reshape(7, -1, 2)
    low, high = corners.min(axis=1), corners.max(axis=1)
    apart = (high[:, None] < low[None]) | (low[:, None] > high[None])

    assert apart.any(axis=2)[~np.eye(7, dtype=bool)].all()
    assert (low >= -1e-6).all()
    assert (high <= 1 + 1e-6).all()


def test_group_colours_start_at_dead_and_keep_their_place():
    """The range covers eight groups or, where there are more, all of them."""
    layer = make_layer(np.random.default_rng(0), filters=3)
    many = dataclasses.replace(layer.activations, groups=np.array([0, 11, -2], np.int32))
    few_range = columns(draw(layer).GetFieldData())["color_range"]
    many_range = columns(draw(dataclasses.replace(layer, activations=many)).GetFieldData())

    assert few_range.tolist() == [-2, 7]
    assert many_range["color_range"].tolist() == [-2, 11]


def test_the_title_counts_the_dead():
    """Nothing is said of them where there are none."""
    rng = np.random.default_rng(0)
    polydata = draw(make_layer(rng, filters=4), make_layer(rng, name="fc", filters=2))

    assert texts(polydata)["layer_titles"] == [
        "conv1  Conv2d  4 channels  1 dead",
        "fc  Conv2d  2 channels",
    ]


def test_large_layers_have_coarser_bins():
    """Above the budget the largest do; shares of values stay; a layer in focus keeps its bins."""
    rng = np.random.default_rng(0)
    layers = [
        make_layer(rng, name=name, filters=filters, kernel=(1, 1), in_channels=1)
        for name, filters in (("wide", 1100), ("narrow", 8), ("other", 1000))
    ]
    snapshot = make_snapshot(rng, layers=layers, views=("distribution",))

    def bins(snapshot):
        drawn = make_frame(snapshot).datasets["distribution"]
        sizes = np.diff(vtk_to_numpy(drawn.GetStrips().GetOffsetsArray()))[::2] // 4
        own = vtk_to_numpy(drawn.GetCellData().GetArray("layer"))[::2]
        return [set(sizes[own == index].tolist()) for index in range(3)]

    assert bins(snapshot) == [{BINS // 4}, {BINS}, {BINS}]
    assert bins(dataclasses.replace(snapshot, focus="wide")) == [{BINS}] * 3
    drawn = make_frame(snapshot).datasets["distribution"]
    density = vtk_to_numpy(drawn.GetPointData().GetArray("density"))[:BINS:4]
    shares = layers[0].activations.histogram[0].reshape(-1, 4).sum(axis=1)
    assert density / (BINS // 4) == pytest.approx(shares, rel=1e-6)
