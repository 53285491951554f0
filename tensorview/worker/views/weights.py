"""Weights: one box a weight, its height and colour by value; filters as tiles, row by row."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.worker.views.atlas import AtlasImage
from tensorview.worker.views.datasets import (
    allocate,
    equal_cells,
    ids,
    image,
    joined,
    numbers,
    of_ids,
    points_at,
    polydata,
)
from tensorview.worker.views.layout import Panel, TileGrid, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonCore import vtkDataArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    from tensorview.snapshot import Layer, Weights
    from tensorview.worker.views.layout import PanelLayer

CELL_LIMIT = 20_000
"""Weights of a layer above which it goes to the atlas."""
CELL_BUDGET = 50_000
"""Weights of all layers above which the largest go there, too."""
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

# Corner k of a box lies at x, y, z = bits 0, 1, 2 of k. The strip closes the box, every one of its
# 12 triangles turned outwards.
_BOX_STRIP = np.array([0, 1, 4, 5, 7, 1, 3, 0, 2, 4, 6, 7, 2, 3], np.int32)


class _Form(NamedTuple):
    """What the boxes of a layer have in common from capture to capture.

    Attributes:
        layer: number of the layer.
        panel: where it lies.
        shape: of the weights, ``(F, I, h, w)``.
        filters: number of each filter, int32.
        first_channels: first input channel of each filter's convolution group, int32.
        in_channels: number of each input channel within the convolution group, int32.
        original_filters: what each filter was before any was removed, int32.
    """

    layer: int
    panel: Panel
    shape: tuple[int, ...]
    filters: bytes
    first_channels: bytes
    in_channels: bytes
    original_filters: bytes


class _Boxes(NamedTuple):
    """What is drawn of forms alone.

    Attributes:
        corners: of boxes without height, shape ``(cells, 8, 3)``, float32.
        strips: one a box.
        columns: cell arrays that say whose weight a box shows.
    """

    corners: NDArray[Any]
    strips: vtkCellArray
    columns: dict[str, vtkDataArray]


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
    boxes = _boxes(tuple(_form(entry, weights) for entry, weights in shown))
    corners, memory = allocate("Points", shape=(8 * len(boxes.corners), 3), dtype=np.float32)
    memory[...] = boxes.corners.reshape(-1, 3)
    scaled, shares = allocate("weight_scaled", shape=(len(boxes.corners),), dtype=np.float32)
    ends = memory.reshape(-1, 2, 4, 3)[..., 2]
    first = 0
    for entry, weights in shown:
        own = slice(first, first + weights.values.size)
        with np.errstate(over="ignore", under="ignore"):
            np.divide(weights.values.reshape(-1), weights.range, out=shares[own])
        heights = _heights(weights, panel=entry.panel)
        np.minimum(heights, 0, out=ends[own, 0], casting="same_kind")
        np.maximum(heights, 0, out=ends[own, 1], casting="same_kind")
        first = own.stop
    values = [weights.values.reshape(-1) for _, weights in shown]
    return polydata(
        points_at(corners),
        strips=boxes.strips,
        cell_data={
            "weight": joined("weight", values, dtype=np.float32),
            "weight_scaled": scaled,
            **boxes.columns,
        },
    )


def atlas(entry: PanelLayer) -> AtlasImage:
    """Draw a layer as an image with one pixel a weight; its tiles are the filters.

    Filters keep a gutter even where their weights are too small for gaps between boxes.
    """
    weights = entry.layer.weights
    assert weights is not None
    windows, tiles = grids(weights.values.shape, panel=entry.panel, min_gutter=1)
    drawn, (pixels,) = image(
        ["weight"],
        shape=(tiles.height, tiles.width),
        dtype=weights.values.dtype,
        placement=place(tiles, entry.panel),
    )
    pixels.fill(np.nan)
    for filters, places in tiles.places(pixels):
        for channels, kernels in windows.places(places):
            kernels[...] = weights.values[filters, channels].reshape(kernels.shape)
    for name, values in (
        ("windows", (windows.columns, windows.rows, *weights.values.shape[:1:-1], windows.gutter)),
        ("window_channels", weights.in_channels),
        ("tile_first_channels", _first_channels(weights)),
    ):
        drawn.GetFieldData().AddArray(numbers(name, values, dtype=np.int32))
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


def _form(entry: PanelLayer, weights: Weights) -> _Form:
    return _Form(
        layer=entry.index,
        panel=entry.panel,
        shape=weights.values.shape,
        filters=ids(weights.filters),
        first_channels=ids(_first_channels(weights)),
        in_channels=ids(weights.in_channels),
        original_filters=ids(entry.layer.original_filters[weights.filters]),
    )


def _first_channels(weights: Weights) -> NDArray[Any]:
    """First input channel of the convolution group of every filter, shape ``(F,)``."""
    filters_per_group = max(weights.out // weights.conv_groups, 1)
    return weights.filters // filters_per_group * weights.in_per_group


@functools.lru_cache(maxsize=1)
def _boxes(forms: tuple[_Form, ...]) -> _Boxes:
    columns: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("layer", "filter", "in_channel", "row", "col", "original_filter")
    }
    for form in forms:
        filters, first, channels, originals = (
            of_ids(key)
            for key in (form.filters, form.first_channels, form.in_channels, form.original_filters)
        )
        rows, cols = (np.arange(extent, dtype=np.int32) for extent in form.shape[2:])
        for name, column in (
            ("layer", np.int32(form.layer)),
            ("filter", filters[:, None, None, None]),
            ("in_channel", (first[:, None] + channels)[:, :, None, None]),
            ("row", rows[:, None]),
            ("col", cols),
            ("original_filter", originals[:, None, None, None]),
        ):
            columns[name].append(np.broadcast_to(column, form.shape).reshape(-1))
    corners = [np.empty((0, 8, 3), np.float32), *map(_corners, forms)]
    flat = np.concatenate(corners)
    first = np.arange(0, 8 * len(flat), 8, dtype=np.int32)
    return _Boxes(
        corners=flat,
        strips=equal_cells(first[:, None] + _BOX_STRIP),
        columns={name: joined(name, parts, dtype=np.int32) for name, parts in columns.items()},
    )


def _corners(form: _Form) -> NDArray[Any]:
    """Corners of one layer's boxes without height, shape ``(cells, 8, 3)``, float32."""
    windows, tiles = grids(form.shape, panel=form.panel)
    placement = place(tiles, form.panel)
    filter_left, filter_top = tiles.corners()
    window_left, window_top = windows.corners()
    column = filter_left[:, None, None, None] + window_left[:, None, None]
    column = column + np.arange(form.shape[3])
    row = filter_top[:, None, None, None] + window_top[:, None, None]
    row = row + np.arange(form.shape[2])[:, None]
    corners = np.zeros((*form.shape, 2, 2, 2, 3), np.float32)  # z, y, x
    corners[..., 0, 0] = placement.x(column)[..., None, None]
    corners[..., 1, 0] = placement.x(column + 1)[..., None, None]
    corners[..., 0, :, 1] = placement.y(row + 1)[..., None, None]
    corners[..., 1, :, 1] = placement.y(row)[..., None, None]
    return corners.reshape(-1, 8, 3)


def _heights(weights: Weights, *, panel: Panel) -> NDArray[Any]:
    """Height of every box, shape ``(cells, 1)``, never 0."""
    values = weights.values.reshape(-1, 1)
    _, tiles = grids(weights.values.shape, panel=panel)
    placement = place(tiles, panel)
    unit = min(HEIGHT, BLOCKS_HIGH * min(placement.pixel_width, placement.pixel_height))
    with np.errstate(over="ignore", under="ignore"):
        height = np.clip(values / weights.range * unit, -2 * unit, 2 * unit)
    height = np.where(np.isfinite(values), height, 0)
    return np.copysign(np.maximum(np.abs(height), MIN_HEIGHT), height)
