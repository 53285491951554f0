"""Weights: one box a weight, its height and colour by value; filters as tiles, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.worker.views.atlas import AtlasImage
from tensorview.worker.views.datasets import array, equal_cells, image, join, polydata
from tensorview.worker.views.layout import TileGrid, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    from tensorview.snapshot import Layer, Weights
    from tensorview.worker.views.layout import Panel, PanelLayer

CELL_LIMIT = 20_000
"""Weights of a layer above which it goes to the atlas."""
HEIGHT = 0.12
"""Largest height of a weight at the end of its layer's range, in panel units."""
BLOCKS_HIGH = 2
"""The same in widths of a block: higher ones would hide their neighbours in a fine grid."""
MAX_HEIGHT = 2 * HEIGHT
"""Height at which outliers are cut."""
MIN_HEIGHT = 0.002
"""Height of a zero weight, so that it is a visible tile."""
MIN_BLOCK_PIXELS = 3
"""Width of a weight in screen pixels below which gaps would only make moire patterns."""

_DTYPES = {
    "layer": np.int32,
    "weight": np.float32,
    "weight_scaled": np.float32,
    "filter": np.int32,
    "in_channel": np.int32,
    "row": np.int32,
    "col": np.int32,
}

# Corner k of a box lies at x, y, z = bits 0, 1, 2 of k. The strip closes the box, every one of its
# 12 triangles turned outwards.
_BOX_STRIP = np.array([0, 1, 4, 5, 7, 1, 3, 0, 2, 4, 6, 7, 2, 3], np.int32)


def size(layer: Layer) -> int:
    """Cells of a layer."""
    return 0 if layer.weights is None else int(layer.weights.values.size)


def detail(layer: Layer) -> str:
    """What a title says: shape, how the weights were reduced, display range."""
    shape = " x ".join(map(str, layer.weight_shape))
    if layer.weights is None:
        return shape
    reduced = f"  ({layer.weights.reduced})" if layer.weights.reduced else ""
    return f"{shape}{reduced}  ±{layer.weights.range:.3g}"


def cells(layers: Sequence[PanelLayer]) -> vtkPolyData:
    """Draw layers as boxes.

    Cells are in id order: layer, filter, input channel, row, column. Array ``weight`` holds the
    values bit for bit, ``weight_scaled`` their share of the layer's range.
    """
    shown = [(entry, w) for entry in layers if (w := entry.layer.weights) is not None]
    tables = [_table(weights, index=entry.index) for entry, weights in shown]
    boxes = [_boxes(weights, panel=entry.panel) for entry, weights in shown]
    points = np.concatenate([np.empty((0, 8, 3), np.float32), *boxes])
    first = np.arange(0, 8 * len(points), 8, dtype=np.int32)
    return polydata(
        points,
        strips=equal_cells(first[:, None] + _BOX_STRIP),
        cell_data=join(tables, dtypes=_DTYPES),
    )


def atlas(entry: PanelLayer) -> AtlasImage:
    """Draw a layer as an image with one pixel a weight; its tiles are the filters.

    Filters keep a gutter even where their weights are too small for gaps between boxes.
    """
    weights = entry.layer.weights
    assert weights is not None
    windows, tiles = grids(weights.values.shape, panel=entry.panel, min_gutter=1)
    pixels = tiles.mosaic(windows.mosaic(weights.values))
    drawn = image({"weight": pixels}, placement=place(tiles, entry.panel))
    for name, values in (
        ("windows", (windows.columns, windows.rows, *weights.values.shape[:1:-1], windows.gutter)),
        ("window_channels", weights.in_channels),
        ("tile_first_channels", _first_channels(weights)),
    ):
        drawn.GetFieldData().AddArray(array(name, np.array(values, np.int32)))
    return AtlasImage(
        image=drawn,
        tiles=(tiles.columns, tiles.rows, tiles.tile_width, tiles.tile_height, tiles.gutter),
        filters=weights.filters,
        groups=None,
        color_array="weight",
        color_range=(-weights.range, weights.range),
    )


def grids(
    shape: tuple[int, ...], *, panel: Panel, min_gutter: int = 0
) -> tuple[TileGrid, TileGrid]:
    """Grid of one filter's windows, and grid of the filters, for weights of ``(F, I, h, w)``.

    Windows of more than one weight are one pixel apart and filters one pixel more, as long as a
    weight is at least `MIN_BLOCK_PIXELS` wide on the screen; else there are no gaps between
    windows, then only *min_gutter* between filters.
    """
    _, in_channels, rows, cols = shape
    apart = 1 if rows * cols > 1 and in_channels > 1 else 0
    for window_gap, filter_gap in ((apart, apart + 1), (0, 1)):
        windows, tiles = _grids(shape, window_gap=window_gap, filter_gap=filter_gap)
        placement = place(tiles, panel)
        block = min(placement.pixel_width, placement.pixel_height) * panel.screen_pixels
        if block >= MIN_BLOCK_PIXELS:
            return windows, tiles
    return _grids(shape, window_gap=0, filter_gap=min_gutter)


def _grids(
    shape: tuple[int, ...], *, window_gap: int, filter_gap: int
) -> tuple[TileGrid, TileGrid]:
    filters, in_channels, rows, cols = shape
    windows = TileGrid(count=in_channels, tile_width=cols, tile_height=rows, gutter=window_gap)
    tiles = TileGrid(
        count=filters, tile_width=windows.width, tile_height=windows.height, gutter=filter_gap
    )
    return windows, tiles


def _table(weights: Weights, *, index: int) -> dict[str, NDArray[Any]]:
    """Columns of one layer's cells."""
    values = weights.values
    filters, in_channels, rows, cols = np.ix_(
        weights.filters,
        weights.in_channels,
        np.arange(values.shape[2], dtype=np.int32),
        np.arange(values.shape[3], dtype=np.int32),
    )
    true_channels = _first_channels(weights)[:, None, None, None] + in_channels
    columns = {"filter": filters, "in_channel": true_channels, "row": rows, "col": cols}
    with np.errstate(over="ignore", under="ignore"):
        scaled = (values / weights.range).astype(np.float32)
    return {
        "layer": np.full(values.size, index, np.int32),
        "weight": values.reshape(-1),
        "weight_scaled": scaled.reshape(-1),
        **{
            name: np.broadcast_to(column, values.shape).reshape(-1).astype(np.int32, copy=False)
            for name, column in columns.items()
        },
    }


def _first_channels(weights: Weights) -> NDArray[Any]:
    """First input channel of the convolution group of every filter, shape ``(F,)``."""
    filters_per_group = max(weights.out // weights.conv_groups, 1)
    return weights.filters // filters_per_group * weights.in_per_group


def _boxes(weights: Weights, *, panel: Panel) -> NDArray[Any]:
    """Corners of one layer's boxes, shape ``(cells, 8, 3)``, float32."""
    values = weights.values
    windows, tiles = grids(values.shape, panel=panel)
    placement = place(tiles, panel)
    filter_left, filter_top = tiles.corners()
    window_left, window_top = windows.corners()
    column = (
        filter_left[:, None, None, None] + window_left[:, None, None] + np.arange(values.shape[3])
    )
    row = (
        filter_top[:, None, None, None]
        + window_top[:, None, None]
        + np.arange(values.shape[2])[:, None]
    )
    block = min(placement.pixel_width, placement.pixel_height)
    unit = min(HEIGHT, BLOCKS_HIGH * block)
    with np.errstate(over="ignore", under="ignore"):
        height = np.clip(values / weights.range * unit, -2 * unit, 2 * unit)
    height = np.where(np.isfinite(values), height, 0)
    height = np.copysign(np.maximum(np.abs(height), MIN_HEIGHT), height)
    corners = np.empty((*values.shape, 2, 2, 2, 3), np.float32)  # z, y, x
    corners[..., 0, 0] = placement.x(column)[..., None, None]
    corners[..., 1, 0] = placement.x(column + 1)[..., None, None]
    corners[..., 0, :, 1] = placement.y(row + 1)[..., None, None]
    corners[..., 1, :, 1] = placement.y(row)[..., None, None]
    corners[..., 0, :, :, 2] = np.minimum(height, 0)[..., None, None]
    corners[..., 1, :, :, 2] = np.maximum(height, 0)[..., None, None]
    return corners.reshape(values.size, 8, 3)
