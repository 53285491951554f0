"""Maps: every feature map as an image of quads, framed by a strip that carries its group."""

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
    of_ids,
    points_at,
    polydata,
)
from tensorview.worker.views.layout import Placement, TileGrid, channel_count, place
from tensorview.worker.views.quads import quads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonCore import vtkDataArray, vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    from tensorview.snapshot import Activations, Layer
    from tensorview.worker.views.layout import Panel, PanelLayer

CELL_LIMIT = CELL_BUDGET = 100_000
"""Pixels of a layer above which it goes to the atlas, and of all layers above which the largest go
there, too."""
GUTTER_SHARE = 24
"""A gutter is one pixel, and one more for this many pixels of the longer side of a map."""
FRAME_OF_GUTTER, FRAME_OF_MAP = 0.35, 0.08
"""Width of a frame as a share of the gutter, and at most as a share of a map's longer side."""

# Corners of a frame: 0 to 3 inner, 4 to 7 outer, each from the lower left against the clock.
_FRAME_STRIP = np.array([0, 4, 1, 5, 2, 6, 3, 7, 0, 4], np.int32)


class _Form(NamedTuple):
    """What the maps of a layer have in common from capture to capture.

    Attributes:
        layer: number of the layer.
        grid: of its maps.
        placement: of the grid.
        channels: number of each map's filter, int32.
        original_filters: what these were before any was removed, int32.
    """

    layer: int
    grid: TileGrid
    placement: Placement
    channels: bytes
    original_filters: bytes


class _Lattice(NamedTuple):
    """What is drawn of forms alone.

    Attributes:
        points: of quads, then of frames.
        polys: quads.
        strips: frames.
        columns: cell arrays that say whose pixel a quad is, and whose frame a frame.
    """

    points: vtkPoints
    polys: vtkCellArray
    strips: vtkCellArray
    columns: dict[str, vtkDataArray]


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
    forms = tuple(_form(entry, activations) for entry, activations in shown)
    lattice = _lattice(forms)
    groups = tuple(ids(activations.groups) for _, activations in shown)
    count = lattice.polys.GetNumberOfCells()
    pixels = {
        name: allocate(name, shape=(count + lattice.strips.GetNumberOfCells(),), dtype=np.float32)
        for name in (
            "activation",
            "activation_scaled",
            *map(_sample_name, sorted({sample for _, a in shown for sample in a.map_samples})),
        )
    }
    for _, memory in pixels.values():
        memory[count:] = np.nan
    first = 0
    for _, activations in shown:
        own = slice(first, first + activations.maps[0].size)
        for name, (_, memory) in pixels.items():
            memory[own] = _pixels(activations, name)
        first = own.stop
    return polydata(
        lattice.points,
        polys=lattice.polys,
        strips=lattice.strips,
        cell_data={
            **{name: column for name, (column, _) in pixels.items()},
            **lattice.columns,
            "group": _groups(forms, groups),
        },
    )


def atlas(entry: PanelLayer) -> AtlasImage:
    """Draw a layer as an image with one pixel a quad; there are no frames."""
    activations = entry.layer.activations
    assert activations is not None
    grid = _grid(activations)
    names = ["activation", *map(_sample_name, activations.map_samples)]
    drawn, memory = image(
        names,
        shape=(grid.height, grid.width),
        dtype=activations.maps.dtype,
        placement=_place(grid, entry.panel),
    )
    for pixels, maps in zip(memory, activations.maps, strict=True):
        pixels.fill(np.nan)
        for channels, places in grid.places(pixels):
            places[...] = maps[channels].reshape(places.shape)
    return AtlasImage(
        image=drawn,
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


def _form(entry: PanelLayer, activations: Activations) -> _Form:
    grid = _grid(activations)
    return _Form(
        layer=entry.index,
        grid=grid,
        placement=_place(grid, entry.panel),
        channels=ids(activations.channels),
        original_filters=ids(entry.layer.original_filters[activations.channels]),
    )


@functools.lru_cache(maxsize=1)
def _lattice(forms: tuple[_Form, ...]) -> _Lattice:
    points, corners = quads([(form.grid, form.placement) for form in forms])
    frames = [np.empty((0, 8, 3), np.float32), *map(_frames, forms)]
    frame_points = np.concatenate(frames)
    first = len(points) + np.arange(0, 8 * len(frame_points), 8, dtype=np.int32)
    tables = [*map(_table, forms), *map(_frame_table, forms)]
    return _Lattice(
        points=points_at(np.concatenate([points, frame_points.reshape(-1, 3)])),
        polys=equal_cells(corners),
        strips=equal_cells(first[:, None] + _FRAME_STRIP),
        columns={
            name: joined(name, [table[name] for table in tables], dtype=np.int32)
            for name in ("layer", "filter", "original_filter", "row", "col")
        },
    )


def _table(form: _Form) -> dict[str, NDArray[Any]]:
    """Columns of one layer's quads."""
    shape = (form.grid.count, form.grid.tile_height, form.grid.tile_width)
    columns: dict[str, Any] = {
        "layer": np.int32(form.layer),
        "filter": of_ids(form.channels)[:, None, None],
        "original_filter": of_ids(form.original_filters)[:, None, None],
        "row": np.arange(shape[1], dtype=np.int32)[:, None],
        "col": np.arange(shape[2], dtype=np.int32),
    }
    return {name: np.broadcast_to(column, shape).reshape(-1) for name, column in columns.items()}


def _frame_table(form: _Form) -> dict[str, NDArray[Any]]:
    """Columns of one layer's frames."""
    none = np.full(form.grid.count, -1, np.int32)
    return {
        "layer": np.full(form.grid.count, form.layer, np.int32),
        "filter": of_ids(form.channels),
        "original_filter": of_ids(form.original_filters),
        "row": none,
        "col": none,
    }


@functools.lru_cache(maxsize=1)
def _groups(forms: tuple[_Form, ...], groups: tuple[bytes, ...]) -> vtkDataArray:
    """Cell array of groups: each layer's quads, then each layer's frames."""
    by_map = [of_ids(key) for key in groups]
    by_pixel = [
        np.repeat(own, form.grid.tile_height * form.grid.tile_width)
        for form, own in zip(forms, by_map, strict=True)
    ]
    return joined("group", [*by_pixel, *by_map], dtype=np.int32)


def _pixels(activations: Activations, name: str) -> NDArray[Any]:
    """Values of one layer's quads, NaN where it has none of that name; broadcasts to them."""
    of_samples = zip(map(_sample_name, activations.map_samples), activations.maps[1:], strict=True)
    mean = activations.maps[0]
    found: NDArray[Any] | None = {"activation": mean, **dict(of_samples)}.get(name)
    if name == "activation_scaled":
        low, high = activations.map_range
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            shares = np.subtract(mean, low, dtype=np.float64)
            shares /= high - low
            found = shares.astype(np.float32)
    return np.array(np.nan) if found is None else found.reshape(-1)


def _frames(form: _Form) -> NDArray[Any]:
    """Corners of one layer's frames, shape ``(count, 8, 3)``, float32."""
    grid = form.grid
    left, top = grid.corners()
    sides = np.array([[0, 1, 1, 0]] * 2), np.array([[1, 1, 0, 0]] * 2)
    outwards = np.array([[0.0], [_frame_width(grid)]])
    column = sides[0] * grid.tile_width + outwards * (2 * sides[0] - 1)
    row = sides[1] * grid.tile_height + outwards * (2 * sides[1] - 1)
    result = np.zeros((grid.count, 8, 3), np.float32)
    result[..., 0] = form.placement.x(left[:, None] + column.reshape(-1))
    result[..., 1] = form.placement.y(top[:, None] + row.reshape(-1))
    return result
