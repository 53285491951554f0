"""Distribution: one window a channel with the density of its normalised activations.

In a window, x runs over the activations from the channel's smallest to its largest (density) and
y over shares. Zeros, of which ReLU makes many, stand apart as a bar on the left whose full height
is all of them; the density is drawn to the height of its own peak.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.snapshot import GROUP_DEAD, GROUP_NONE
from tensorview.worker.views.datasets import (
    allocate,
    ids,
    joined,
    of_ids,
    points_at,
    polydata,
    ragged_cells,
)
from tensorview.worker.views.layout import Panel, TileGrid, channel_count, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonCore import vtkDataArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    from tensorview.snapshot import Activations, Layer
    from tensorview.worker.views.layout import PanelLayer

BAR = (0.0, 0.1)
"""Left and right end of the bar of zeros, as shares of the window."""
DENSITY = (0.14, 1.0)
"""Left and right end of the density."""
BASELINE = 0.02
"""Height of the base line below both, so that an empty window can be seen."""
LEAST_GROUPS = 8
"""Group colours are spread over at least this many, so that few groups keep their colours."""

WINDOW_BUDGET = 2048
"""Windows of all layers above which the largest layers have coarser bins."""
MERGED_BINS = 4
"""How many bins are one there."""

_WINDOW_PIXELS, _GUTTER_PIXELS = 8, 1


class _Form(NamedTuple):
    """What the windows of a layer have in common from capture to capture.

    Attributes:
        layer: number of the layer.
        panel: where it lies.
        bins: of its histograms.
        channels: number of each window's filter, int32.
        original_filters: what these were before any was removed, int32.
    """

    layer: int
    panel: Panel
    bins: int
    channels: bytes
    original_filters: bytes


class _Windows(NamedTuple):
    """What is drawn of forms alone.

    Attributes:
        points: of empty windows, shape ``(n, 3)``, float32.
        strips: two a channel.
        columns: cell arrays that say whose strips they are.
    """

    points: NDArray[Any]
    strips: vtkCellArray
    columns: dict[str, vtkDataArray]


def detail(layer: Layer) -> str:
    """What a title says: how many channels there are, and how many of them are dead."""
    activations = layer.activations
    if activations is None:
        return ""
    dead = int(np.count_nonzero(activations.groups == GROUP_DEAD))
    return channel_count(activations) + (f"  {dead} dead" if dead else "")


def color_range(layers: Sequence[Layer]) -> tuple[float, float]:
    """Range of ``group``, from the dead on."""
    shown = [layer.activations for layer in layers if layer.activations is not None]
    largest = max((int(a.groups.max(initial=GROUP_NONE)) for a in shown), default=GROUP_NONE)
    return float(GROUP_DEAD), float(max(LEAST_GROUPS - 1, largest))


def cells(layers: Sequence[PanelLayer], *, focus: str = "") -> vtkPolyData:
    """Draw layers as pairs of strips, density then bar of zeros, in order of layer and channel.

    Both cells exist for every channel, flat where there is nothing. At the points, ``density`` is
    the share of values per unit of normalised activation and ``activation`` the true value at that
    x; at the points of a bar they are NaN and 0.

    Args:
        layers: what to draw.
        focus: name of a layer whose bins are never merged.
    """
    shown = [
        (entry, dataclasses.replace(a, histogram=_coarser(a.histogram)) if coarse else a)
        for entry, coarse in _sized(layers, focus=focus)
        if (a := entry.layer.activations) is not None
    ]
    windows = _windows(
        tuple(
            _Form(
                layer=entry.index,
                panel=entry.panel,
                bins=activations.histogram.shape[1],
                channels=ids(activations.channels),
                original_filters=ids(entry.layer.original_filters[activations.channels]),
            )
            for entry, activations in shown
        )
    )
    total = len(windows.points)
    points, at = allocate("Points", shape=(total, 3), dtype=np.float32)
    density, shares = allocate("density", shape=(total,), dtype=np.float32)
    activation, values = allocate("activation", shape=(total,), dtype=np.float32)
    at[...] = windows.points
    first = 0
    for entry, activations in shown:
        count, bins = activations.histogram.shape
        own = slice(first, first + _points_of(count, bins))
        _raise(at[own], activations, panel=entry.panel)
        of_bins = shares[own].reshape(count, bins + 1, 4)
        of_bins[:, :bins] = (activations.histogram * np.float32(bins))[..., None]
        of_bins[:, bins] = np.nan
        ends = values[own].reshape(count, bins + 1, 2, 2)
        low, high = activations.histogram_range.astype(np.float64)[:, :, None, None].swapaxes(0, 1)
        ends[:, :bins] = (low + (high - low) * _edges(bins))[..., None]
        ends[:, bins] = 0
        first = own.stop
    return polydata(
        points_at(points),
        strips=windows.strips,
        point_data={"density": density, "activation": activation},
        cell_data={
            **windows.columns,
            "group": _groups(tuple(ids(a.groups) for _, a in shown)),
            "zero_mass": joined(
                "zero_mass", [np.repeat(a.zero_mass, 2) for _, a in shown], dtype=np.float32
            ),
        },
    )


@functools.lru_cache(maxsize=1)
def _windows(forms: tuple[_Form, ...]) -> _Windows:
    points = np.concatenate([np.empty((0, 3), np.float32), *map(_empty, forms)])
    channels = [of_ids(form.channels) for form in forms]
    sizes = [
        np.tile(np.array([4 * form.bins, 4], np.int32), len(own))
        for form, own in zip(forms, channels, strict=True)
    ]
    columns = {
        "layer": [
            np.full(len(own), form.layer, np.int32)
            for form, own in zip(forms, channels, strict=True)
        ],
        "filter": channels,
        "original_filter": [of_ids(form.original_filters) for form in forms],
    }
    return _Windows(
        points=points,
        strips=ragged_cells(
            np.concatenate([np.empty(0, np.int32), *sizes]), np.arange(len(points))
        ),
        columns={
            name: joined(name, [np.repeat(part, 2) for part in parts], dtype=np.int32)
            for name, parts in columns.items()
        },
    )


@functools.lru_cache(maxsize=1)
def _groups(layers: tuple[bytes, ...]) -> vtkDataArray:
    return joined("group", [np.repeat(of_ids(key), 2) for key in layers], dtype=np.int32)


def _sized(layers: Sequence[PanelLayer], *, focus: str) -> list[tuple[PanelLayer, bool]]:
    """Say of each layer whether its bins are merged: the smallest layers keep theirs."""

    def size(entry: PanelLayer) -> int:
        activations = entry.layer.activations
        return 0 if activations is None else len(activations.channels)

    room = WINDOW_BUDGET
    coarse = set()
    for entry in sorted(layers, key=size):
        room -= size(entry)
        if room < 0 and entry.layer.name != focus:
            coarse.add(entry.index)
    return [(entry, entry.index in coarse) for entry in layers]


def _coarser(histogram: NDArray[Any]) -> NDArray[Any]:
    """Merge neighbouring bins, shape ``(C, bins)``; as they are where they cannot be divided so."""
    count, bins = histogram.shape
    if bins % MERGED_BINS:
        return histogram
    merged: NDArray[Any] = histogram.reshape(count, -1, MERGED_BINS).sum(axis=2)
    return merged


def _points_of(count: int, bins: int) -> int:
    """Points of *count* windows: four a bin and four of the bar."""
    return count * 4 * (bins + 1)


def _grid(count: int) -> TileGrid:
    return TileGrid(
        count=count, tile_width=_WINDOW_PIXELS, tile_height=_WINDOW_PIXELS, gutter=_GUTTER_PIXELS
    )


def _empty(form: _Form) -> NDArray[Any]:
    """Corners of one layer's strips without height, shape ``(n, 3)``, float32."""
    count = len(of_ids(form.channels))
    across = DENSITY[0] + (DENSITY[1] - DENSITY[0]) * _edges(form.bins)
    x = np.concatenate([across.reshape(-1), [BAR[0], BAR[1]]])
    grid = _grid(count)
    placement = place(grid, form.panel)
    left, top = grid.corners()
    result = np.zeros((count, 2 * form.bins + 2, 2, 3), np.float32)
    result[..., 0] = placement.x(left[:, None] + _WINDOW_PIXELS * x)[..., None]
    result[..., 1] = placement.y(top[:, None, None] + _WINDOW_PIXELS)
    return result.reshape(-1, 3)


def _raise(points: NDArray[Any], activations: Activations, *, panel: Panel) -> None:
    """Lift the upper points of one layer's strips to their heights."""
    count, bins = activations.histogram.shape
    heights = np.empty((count, bins + 1))
    heights[:, :bins] = _share_of_peak(activations.histogram)
    heights[:, bins] = np.nan_to_num(activations.zero_mass, nan=0.0, posinf=0.0, neginf=0.0)
    y = BASELINE + (1 - BASELINE) * np.clip(heights, 0, 1)
    grid = _grid(count)
    _, top = grid.corners()
    raised = place(grid, panel).y(top[:, None] + _WINDOW_PIXELS * (1 - y))
    points.reshape(count, bins + 1, 2, 2, 3)[..., 0, 1] = raised[..., None]


def _edges(bins: int) -> NDArray[Any]:
    """Both ends of every bin within [0, 1], shape ``(bins, 2)``."""
    return (np.arange(bins)[:, None] + np.arange(2)) / bins


def _share_of_peak(histogram: NDArray[Any]) -> NDArray[Any]:
    """Rows divided by their largest value; 0 where that is 0 or anything is not finite."""
    finite = np.isfinite(histogram).all(axis=1, keepdims=True)
    peaks = np.where(finite, histogram, 0).max(axis=1, initial=0, keepdims=True)
    shares = np.zeros(histogram.shape)
    np.divide(histogram, peaks, out=shares, where=peaks > 0)
    return shares
