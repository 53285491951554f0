"""Correlation: a heat map of Pearson r between a layer's channels, reordered by group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.snapshot import GROUP_DEAD, GROUP_NONE
from tensorview.worker.views.atlas import AtlasImage
from tensorview.worker.views.datasets import equal_cells, image, join, polydata
from tensorview.worker.views.layout import TileGrid, channel_count, place
from tensorview.worker.views.quads import quads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    from tensorview.snapshot import Activations, Layer
    from tensorview.worker.views.layout import PanelLayer

CELL_LIMIT = 20_000
"""Pairs of a layer above which it goes to the atlas."""
COLOR_RANGE = (-1.0, 1.0)

_DTYPES = {
    "layer": np.int32,
    "pcc": np.float32,
    "filter_a": np.int32,
    "filter_b": np.int32,
    "group": np.int32,
}


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
    last = np.select([groups == GROUP_DEAD, groups == GROUP_NONE], [2, 1], 0)
    return np.lexsort((activations.channels, groups, last))


def cells(layers: Sequence[PanelLayer]) -> vtkPolyData:
    """Draw layers as quads, row by row from the top."""
    shown = [(entry, a) for entry in layers if (a := entry.layer.activations) is not None]
    grids = [(entry.panel, _grid(activations)) for entry, activations in shown]
    points, corners = quads([(grid, place(grid, panel)) for panel, grid in grids])
    tables = [_table(activations, index=entry.index) for entry, activations in shown]
    return polydata(points, polys=equal_cells(corners), cell_data=join(tables, dtypes=_DTYPES))


def atlas(entry: PanelLayer) -> AtlasImage:
    """Draw a layer as an image with one pixel a pair; its tiles are the rows."""
    activations = entry.layer.activations
    assert activations is not None
    entries = order(activations)
    count = len(entries)
    return AtlasImage(
        image=image(
            {"pcc": activations.pcc[np.ix_(entries, entries)]},
            placement=place(_grid(activations), entry.panel),
        ),
        tiles=(1, count, count, 1, 0),
        filters=activations.channels[entries],
        groups=activations.groups[entries],
        color_array="pcc",
        color_range=COLOR_RANGE,
    )


def _grid(activations: Activations) -> TileGrid:
    count = len(activations.channels)
    return TileGrid(count=1, tile_width=count, tile_height=count, gutter=0)


def _table(activations: Activations, *, index: int) -> dict[str, NDArray[Any]]:
    """Columns of one layer's cells."""
    entries = order(activations)
    count = len(entries)
    channels, groups = activations.channels[entries], activations.groups[entries]
    common = (groups[:, None] == groups) & (groups >= 0)
    return {
        "layer": np.full(count * count, index, np.int32),
        "pcc": activations.pcc[np.ix_(entries, entries)].reshape(-1),
        "filter_a": np.repeat(channels, count),
        "filter_b": np.tile(channels, count),
        "group": np.where(common, groups, GROUP_NONE).reshape(-1),
    }
