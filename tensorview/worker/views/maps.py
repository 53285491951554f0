"""Maps: every feature map as an image of quads, framed by a strip that carries its group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.worker.views.atlas import AtlasImage
from tensorview.worker.views.datasets import equal_cells, image, join, polydata
from tensorview.worker.views.layout import TileGrid, channel_count, place
from tensorview.worker.views.quads import quads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    from tensorview.snapshot import Activations, Layer
    from tensorview.worker.views.layout import Panel, PanelLayer, Placement

CELL_LIMIT = 250_000
"""Pixels of a layer above which it goes to the atlas."""
GUTTER_SHARE = 24
"""A gutter is one pixel, and one more for this many pixels of the longer side of a map."""
FRAME_OF_GUTTER, FRAME_OF_MAP = 0.35, 0.08
"""Width of a frame as a share of the gutter, and at most as a share of a map's longer side."""

_DTYPES = {
    "layer": np.int32,
    "activation": np.float32,
    "activation_scaled": np.float32,
    "filter": np.int32,
    "group": np.int32,
    "row": np.int32,
    "col": np.int32,
}

# Corners of a frame: 0 to 3 inner, 4 to 7 outer, each from the lower left against the clock.
_FRAME_STRIP = np.array([0, 4, 1, 5, 2, 6, 3, 7, 0, 4], np.int32)


def size(layer: Layer) -> int:
    """Quads of a layer, without frames."""
    return 0 if layer.activations is None else int(layer.activations.maps[0].size)


def detail(layer: Layer) -> str:
    """What a title says: channels, size of their maps and any averaging, display range."""
    activations = layer.activations
    if activations is None:
        return ""
    height, width = activations.maps.shape[2:]
    low, high = activations.map_range
    stride = activations.map_stride
    averaged = f" (means of {stride} x {stride})" if stride > 1 else ""
    count = channel_count(activations)
    return f"{count}  {height} x {width}{averaged}  {low:.3g} to {high:.3g}"


def cells(layers: Sequence[PanelLayer]) -> vtkPolyData:
    """Draw layers as quads, then all their frames.

    Quads are in id order: layer, filter, row from the top, column; frames in order of layer,
    filter, with NaN for activations and -1 for row and column. ``activation`` is the mean over the
    probe, ``activation_sample_<i>`` sample i of it (NaN in layers that lack it), and
    ``activation_scaled`` the mean's place in the layer's range.
    """
    shown = [(entry, a) for entry in layers if (a := entry.layer.activations) is not None]
    samples = sorted({sample for _, a in shown for sample in a.map_samples})
    grids = [(grid := _grid(a), _place(grid, entry.panel)) for entry, a in shown]
    points, corners = quads(grids)
    frames = [_frames(grid, placement) for grid, placement in grids]
    frame_points = np.concatenate([np.empty((0, 8, 3), np.float32), *frames])
    first = len(points) + np.arange(0, 8 * len(frame_points), 8, dtype=np.int32)
    tables = [_table(a, index=entry.index, samples=samples) for entry, a in shown]
    tables += [_frame_table(a, index=entry.index, samples=samples) for entry, a in shown]
    dtypes = _DTYPES | {_sample_name(sample): np.float32 for sample in samples}
    return polydata(
        np.concatenate([points, frame_points.reshape(-1, 3)]),
        polys=equal_cells(corners),
        strips=equal_cells(first[:, None] + _FRAME_STRIP),
        cell_data=join(tables, dtypes=dtypes),
    )


def atlas(entry: PanelLayer) -> AtlasImage:
    """Draw a layer as an image with one pixel a quad; there are no frames."""
    activations = entry.layer.activations
    assert activations is not None
    grid = _grid(activations)
    names = ["activation", *map(_sample_name, activations.map_samples)]
    return AtlasImage(
        image=image(
            dict(zip(names, grid.mosaic(activations.maps), strict=True)),
            placement=_place(grid, entry.panel),
        ),
        tiles=(grid.columns, grid.rows, grid.tile_width, grid.tile_height, grid.gutter),
        filters=activations.channels,
        groups=activations.groups,
        color_array="activation",
        color_range=activations.map_range,
    )


def _sample_name(sample: int) -> str:
    return f"activation_sample_{sample}"


def _grid(activations: Activations) -> TileGrid:
    count, height, width = activations.maps.shape[1:]
    return TileGrid(
        count=count,
        tile_width=width,
        tile_height=height,
        gutter=1 + max(width, height) // GUTTER_SHARE,
    )


def _place(grid: TileGrid, panel: Panel) -> Placement:
    return place(grid, panel, margin=_frame_width(grid))


def _frame_width(grid: TileGrid) -> float:
    """Width of a frame in pixels."""
    return min(FRAME_OF_GUTTER * grid.gutter, FRAME_OF_MAP * max(grid.tile_width, grid.tile_height))


def _table(
    activations: Activations, *, index: int, samples: Sequence[int]
) -> dict[str, NDArray[Any]]:
    """Columns of one layer's quads."""
    count, height, width = activations.maps.shape[1:]
    mean = activations.maps[0].reshape(-1)
    low, high = activations.map_range
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled = ((mean.astype(np.float64) - low) / (high - low)).astype(np.float32)
    pixels = (count, height, width)
    by_sample = dict(zip(activations.map_samples, activations.maps[1:], strict=True))
    missing = np.full(mean.size, np.nan, np.float32)
    return {
        "layer": np.full(mean.size, index, np.int32),
        "activation": mean,
        "activation_scaled": scaled,
        "filter": np.repeat(activations.channels, height * width),
        "group": np.repeat(activations.groups, height * width),
        "row": np.broadcast_to(np.arange(height, dtype=np.int32)[:, None], pixels).reshape(-1),
        "col": np.broadcast_to(np.arange(width, dtype=np.int32), pixels).reshape(-1),
        **{_sample_name(s): by_sample.get(s, missing).reshape(-1) for s in samples},
    }


def _frame_table(
    activations: Activations, *, index: int, samples: Sequence[int]
) -> dict[str, NDArray[Any]]:
    """Columns of one layer's frames."""
    count = activations.maps.shape[1]
    nan, none = np.full(count, np.nan, np.float32), np.full(count, -1, np.int32)
    return {
        "layer": np.full(count, index, np.int32),
        "activation": nan,
        "activation_scaled": nan,
        "filter": activations.channels,
        "group": activations.groups,
        "row": none,
        "col": none,
        **{_sample_name(s): nan for s in samples},
    }


def _frames(grid: TileGrid, placement: Placement) -> NDArray[Any]:
    """Corners of one layer's frames, shape ``(count, 8, 3)``, float32."""
    left, top = grid.corners()
    sides = np.array([[0, 1, 1, 0]] * 2), np.array([[1, 1, 0, 0]] * 2)
    outwards = np.array([[0.0], [_frame_width(grid)]])
    column = sides[0] * grid.tile_width + outwards * (2 * sides[0] - 1)
    row = sides[1] * grid.tile_height + outwards * (2 * sides[1] - 1)
    result = np.zeros((grid.count, 8, 3), np.float32)
    result[..., 0] = placement.x(left[:, None] + column.reshape(-1))
    result[..., 1] = placement.y(top[:, None] + row.reshape(-1))
    return result
