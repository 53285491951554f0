"""Correlation: a heat map of Pearson r between a layer's channels, reordered by group."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.snapshot import GROUP_DEAD, GROUP_NONE
from tensorview.worker.views.atlas import AtlasImage
from tensorview.worker.views.datasets import (
    allocate,
    equal_cells,
    ids,
    image,
    joined,
    of_ids,
    points_at,
    polydata,
)
from tensorview.worker.views.layout import Panel, TileGrid, channel_count, place
from tensorview.worker.views.quads import quads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonCore import vtkDataArray, vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    from tensorview.snapshot import Activations, Layer
    from tensorview.worker.views.layout import PanelLayer

CELL_LIMIT = 20_000
"""Pairs of a layer above which it goes to the atlas."""
CELL_BUDGET = 100_000
"""Pairs of all layers above which the largest go there, too."""
COLOR_RANGE = (-1.0, 1.0)


class _Pairs(NamedTuple):
    """Whose pairs a layer shows, and in which order.

    Attributes:
        layer: number of the layer.
        channels: number of each row's filter from the top, int32.
        original_filters: what these were before any was removed, int32.
        groups: of these, int32.
    """

    layer: int
    channels: bytes
    original_filters: bytes
    groups: bytes


def size(layer: Layer) -> int:
    """Cells of a layer."""
    return 0 if layer.activations is None else int(layer.activations.pcc.size)


def detail(layer: Layer) -> str:
    """What a title says: how many channels there are, and how many groups they form."""
    activations = layer.activations
    if activations is None:
        return ""
    groups = len(np.unique(activations.groups[activations.groups >= 0]))
    return f"{channel_count(activations)}  {groups} group{'' if groups == 1 else 's'}"


def order(activations: Activations) -> NDArray[Any]:
    """Entries by group, then those in none, then the dead ones; by channel within each.

    Returns:
        Shape ``(C,)``, indices into the arrays of *activations*.
    """
    groups = activations.groups
    last = 2 * (groups == GROUP_DEAD) + (groups == GROUP_NONE)
    return np.lexsort((activations.channels, groups, last))


def cells(layers: Sequence[PanelLayer]) -> vtkPolyData:
    """Draw layers as quads, row by row from the top."""
    shown = [(entry, a) for entry in layers if (a := entry.layer.activations) is not None]
    orders = [order(activations) for _, activations in shown]
    points, polys = _lattice(tuple((entry.panel, len(a.channels)) for entry, a in shown))
    columns = _columns(
        tuple(
            _Pairs(
                layer=entry.index,
                channels=ids(activations.channels[entries]),
                original_filters=ids(entry.layer.original_filters[activations.channels[entries]]),
                groups=ids(activations.groups[entries]),
            )
            for (entry, activations), entries in zip(shown, orders, strict=True)
        )
    )
    pcc, memory = allocate("pcc", shape=(polys.GetNumberOfCells(),), dtype=np.float32)
    first = 0
    for (_, activations), entries in zip(shown, orders, strict=True):
        own = slice(first, first + activations.pcc.size)
        memory[own] = _ordered(activations, entries).reshape(-1)
        first = own.stop
    return polydata(points, polys=polys, cell_data={"pcc": pcc, **columns})


def atlas(entry: PanelLayer) -> AtlasImage:
    """Draw a layer as an image with one pixel a pair; its tiles are the rows."""
    activations = entry.layer.activations
    assert activations is not None
    entries = order(activations)
    count = len(entries)
    grid = _grid(count)
    drawn, (pixels,) = image(
        ["pcc"],
        shape=(count, count),
        dtype=activations.pcc.dtype,
        placement=place(grid, entry.panel),
    )
    pixels[...] = _ordered(activations, entries)
    return AtlasImage(
        image=drawn,
        tiles=(1, count, count, 1, 0),
        filters=activations.channels[entries],
        groups=activations.groups[entries],
        color_array="pcc",
        color_range=COLOR_RANGE,
    )


def _grid(count: int) -> TileGrid:
    return TileGrid(count=1, tile_width=count, tile_height=count, gutter=0)


def _ordered(activations: Activations, entries: NDArray[Any]) -> NDArray[Any]:
    """Rows and columns of the matrix in the order of *entries*."""
    # Rows first: that moves whole lines.
    rows = activations.pcc.take(entries, axis=0)
    return rows.take(entries, axis=1)


@functools.lru_cache(maxsize=1)
def _lattice(layers: tuple[tuple[Panel, int], ...]) -> tuple[vtkPoints, vtkCellArray]:
    """Points and quads of layers, each with its panel and its number of channels."""
    grids = [(grid := _grid(count), place(grid, panel)) for panel, count in layers]
    points, corners = quads(grids)
    return points_at(points), equal_cells(corners)


@functools.lru_cache(maxsize=1)
def _columns(layers: tuple[_Pairs, ...]) -> dict[str, vtkDataArray]:
    """Cell arrays that say whose correlation a quad shows."""
    tables = [_table(pairs) for pairs in layers]
    return {
        name: joined(name, [table[name] for table in tables], dtype=np.int32)
        for name in (
            "layer",
            "filter_a",
            "filter_b",
            "group",
            "original_filter_a",
            "original_filter_b",
        )
    }


def _table(pairs: _Pairs) -> dict[str, NDArray[Any]]:
    """Columns of one layer's cells."""
    channels, originals, groups = map(
        of_ids, (pairs.channels, pairs.original_filters, pairs.groups)
    )
    count = len(channels)
    common = (groups[:, None] == groups) & (groups >= 0)
    return {
        "layer": np.full(count * count, pairs.layer, np.int32),
        "filter_a": np.repeat(channels, count),
        "filter_b": np.tile(channels, count),
        "group": np.where(common, groups, np.int32(GROUP_NONE)).reshape(-1),
        "original_filter_a": np.repeat(originals, count),
        "original_filter_b": np.tile(originals, count),
    }
