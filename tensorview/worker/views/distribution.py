"""Distribution: one window a channel with the density of its normalised activations.

In a window, x runs over the activations from the channel's smallest to its largest (density) and
y over shares. Zeros, of which ReLU makes many, stand apart as a bar on the left whose full height
is all of them; the density is drawn to the height of its own peak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.snapshot import GROUP_DEAD, GROUP_NONE
from tensorview.worker.views.datasets import join, polydata, ragged_cells
from tensorview.worker.views.layout import TileGrid, channel_count, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    from tensorview.snapshot import Activations, Layer
    from tensorview.worker.views.layout import Panel, PanelLayer

BAR = (0.0, 0.1)
"""Left and right end of the bar of zeros, as shares of the window."""
DENSITY = (0.14, 1.0)
"""Left and right end of the density."""
BASELINE = 0.02
"""Height of the base line below both, so that an empty window can be seen."""
LEAST_GROUPS = 8
"""Group colours are spread over at least this many, so that few groups keep their colours."""

_WINDOW_PIXELS, _GUTTER_PIXELS = 8, 1
_CELL_DTYPES = {
    "layer": np.int32,
    "filter": np.int32,
    "group": np.int32,
    "zero_mass": np.float32,
}
_POINT_DTYPES = {"density": np.float32, "activation": np.float32}


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


def cells(layers: Sequence[PanelLayer]) -> vtkPolyData:
    """Draw layers as pairs of strips, density then bar of zeros, in order of layer and channel.

    Both cells exist for every channel, flat where there is nothing. At the points, ``density`` is
    the share of values per unit of normalised activation and ``activation`` the true value at that
    x; at the points of a bar they are NaN and 0.
    """
    shown = [(entry, a) for entry in layers if (a := entry.layer.activations) is not None]
    points = [_points(a, panel=entry.panel) for entry, a in shown]
    sizes = [
        np.tile([4 * a.histogram.shape[1], 4], len(a.channels)).astype(np.int32) for _, a in shown
    ]
    joined = np.concatenate([np.empty((0, 3), np.float32), *points])
    return polydata(
        joined,
        strips=ragged_cells(
            np.concatenate([np.empty(0, np.int32), *sizes]), np.arange(len(joined))
        ),
        point_data=join([_point_table(a) for _, a in shown], dtypes=_POINT_DTYPES),
        cell_data=join([_cell_table(a, index=e.index) for e, a in shown], dtypes=_CELL_DTYPES),
    )


def _points(activations: Activations, *, panel: Panel) -> NDArray[Any]:
    """Corners of one layer's strips, shape ``(C * (4 * B + 4), 3)``, float32."""
    count, bins = activations.histogram.shape
    heights = _share_of_peak(activations.histogram)
    masses = np.nan_to_num(activations.zero_mass, nan=0.0, posinf=0.0, neginf=0.0)
    across = DENSITY[0] + (DENSITY[1] - DENSITY[0]) * _edges(bins)
    x = np.concatenate([across.reshape(-1), [BAR[0], BAR[1]]])
    tops = np.concatenate([np.repeat(heights, 2, axis=1), masses[:, None].repeat(2, axis=1)], 1)
    y = np.stack([BASELINE + (1 - BASELINE) * np.clip(tops, 0, 1), np.zeros_like(tops)], axis=2)

    grid = TileGrid(
        count=count, tile_width=_WINDOW_PIXELS, tile_height=_WINDOW_PIXELS, gutter=_GUTTER_PIXELS
    )
    placement = place(grid, panel)
    left, top = grid.corners()
    result = np.zeros((count, 2 * bins + 2, 2, 3), np.float32)
    result[..., 0] = placement.x(left[:, None] + _WINDOW_PIXELS * x)[..., None]
    result[..., 1] = placement.y(top[:, None, None] + _WINDOW_PIXELS * (1 - y))
    return result.reshape(-1, 3)


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


def _point_table(activations: Activations) -> dict[str, NDArray[Any]]:
    """Columns of one layer's points."""
    count, bins = activations.histogram.shape
    low, high = activations.histogram_range.astype(np.float64)[:, :, None, None].swapaxes(0, 1)
    at_edges = (low + (high - low) * _edges(bins)).astype(np.float32)
    density = np.full((count, 4 * bins + 4), np.nan, np.float32)
    density[:, : 4 * bins] = np.repeat(activations.histogram * np.float32(bins), 4, axis=1)
    activation = np.zeros((count, 4 * bins + 4), np.float32)
    activation[:, : 4 * bins] = at_edges.repeat(2, axis=2).reshape(count, 4 * bins)
    return {"density": density.reshape(-1), "activation": activation.reshape(-1)}


def _cell_table(activations: Activations, *, index: int) -> dict[str, NDArray[Any]]:
    """Columns of one layer's cells."""
    return {
        "layer": np.full(2 * len(activations.channels), index, np.int32),
        "filter": np.repeat(activations.channels, 2),
        "group": np.repeat(activations.groups, 2),
        "zero_mass": np.repeat(activations.zero_mass, 2),
    }
