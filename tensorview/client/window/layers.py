"""The layers that the user has chosen, laid out as if there were no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkMultiBlockDataSet, vtkPolyData

from tensorview.client.window.notes import leaves
from tensorview.worker.datasets import arrays
from tensorview.worker.pictures.content import tiles
from tensorview.worker.views.atlas import blocks
from tensorview.worker.views.datasets import array, equal_cells, join, polydata, ragged_cells
from tensorview.worker.views.layout import (
    LABEL_GAP,
    PANEL_GAP,
    panel_bounds,
    panels,
    view_bounds,
)
from tensorview.worker.views.maps import FRAME_OF_GUTTER, FRAME_OF_MAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonCore import vtkAbstractArray
    from vtkmodules.vtkCommonDataModel import (
        vtkDataObject,
        vtkDataSetAttributes,
        vtkFieldData,
        vtkImageData,
    )

PER_CELL = ("subspaces", "explained_variance")
"""Arrays of the field data that have one row a cell."""
OF_FRAMES = ("layer", "filter", "group")
"""Cell arrays of frames."""

_KINDS = ("verts", "lines", "polys", "strips")
_NOWHERE = (np.nan,) * 6
# Corners of a frame: 0 to 3 inner, 4 to 7 outer, each from the lower left against the clock.
_CORNERS = np.array([[0, 2], [1, 2], [1, 3], [0, 3]])
_FRAME_STRIP = np.array([0, 4, 1, 5, 2, 6, 3, 7, 0, 4], np.int32)


class Chosen(NamedTuple):
    """What is left of a dataset.

    Attributes:
        shown: polydata of a view without frames, or an atlas with named images.
        frames: those around feature maps, with the cell arrays `OF_FRAMES`; else empty.
    """

    shown: vtkPolyData | vtkMultiBlockDataSet
    frames: vtkPolyData


def chosen(dataset: vtkDataObject, names: Sequence[str] | None) -> Chosen:
    """Take the chosen layers out of a view, and move their panels together.

    All arrays are kept bit for bit. In the field data, ``layer_bounds`` and ``bounds`` are those
    of the new layout, NaN for what is not shown; ``layers`` stays whole, so that the ``layer`` of a
    cell keeps its meaning. Images also get the array that the cells of their view are coloured by.

    Args:
        dataset: polydata of a view, its atlas, or a single image of one. What is returned shares
            memory with it. One that says nothing of layers is returned as it is.
        names: of the layers to be shown, in the order of their panels; None for all of them. A name
            that the run does not have must not be among those for an atlas, which could not know.
    """
    if dataset.IsA("vtkPolyData"):
        return _of_cells(dataset, names)
    return _of_images(leaves(dataset), names)


def box_labels(names: Sequence[str]) -> list[str]:
    """Name check boxes: as the layers, and numbered where ParaView, which sorts, would mix them."""
    if list(names) == sorted(names):
        return list(names)
    digits = len(str(len(names)))
    return [f"{index:0{digits}}  {name}" for index, name in enumerate(names, start=1)]


def _of_cells(cells: vtkPolyData, names: Sequence[str] | None) -> Chosen:
    notes = arrays(cells.GetFieldData())
    if "layers" not in notes:
        return Chosen(_copy(cells), vtkPolyData())
    layers = [str(name) for name in notes["layers"]]
    every = list(range(len(layers)))
    order = every if names is None else [layers.index(name) for name in names if name in layers]
    has_frames = bool(cells.GetCellData().HasArray("activation"))
    if order == every and not has_frames:
        return Chosen(_copy(cells), vtkPolyData())
    former = np.asarray(notes["layer_bounds"], float).reshape(-1, 6)
    boxes = np.full_like(former, np.nan)
    places = zip(order, panels(len(order)), strict=True)
    for index, panel in places:
        boxes[index] = panel_bounds(panel, depth=(former[index, 4], former[index, 5]))
    shown, frames = _copy(cells), vtkPolyData()
    if cells.GetNumberOfCells():
        moves = (boxes - former)[:, [0, 2]]
        rows = np.isfinite(moves[:, 0])[vtk_to_numpy(cells.GetCellData().GetArray("layer"))]
        is_frame = np.zeros(len(rows), bool)
        if has_frames:
            is_frame[len(rows) - cells.GetNumberOfStrips() :] = True
            frames = _taken(cells, rows & is_frame, moves=moves)
            for name in set(arrays(frames.GetCellData())) - set(OF_FRAMES):
                frames.GetCellData().RemoveArray(name)
        shown = _taken(cells, rows & ~is_frame, moves=moves)
        shown.GetFieldData().ShallowCopy(cells.GetFieldData())
        for name in set(PER_CELL) & set(notes):
            shown.GetFieldData().AddArray(
                _rows_of(cells.GetFieldData().GetAbstractArray(name), rows)
            )
    _note(shown.GetFieldData(), boxes, whole=_whole(boxes[order]))
    return Chosen(shown, frames)


def _taken(cells: vtkPolyData, rows: NDArray[Any], *, moves: NDArray[Any]) -> vtkPolyData:
    """Take cells with their points and all their arrays, and move them by layer.

    Args:
        cells: with a cell array ``layer``; no point belongs to two layers.
        rows: which ones, shape ``(cells,)``, bool.
        moves: along x and y, shape ``(layers, 2)``.
    """
    layer = vtk_to_numpy(cells.GetCellData().GetArray("layer"))
    owner = np.full(cells.GetNumberOfPoints(), -1)
    drawn = {}
    first = 0
    for kind in _KINDS:
        group = getattr(cells, f"Get{kind.capitalize()}")()
        if not group.GetNumberOfCells():
            continue
        last = first + group.GetNumberOfCells()
        own = rows[first:last]
        sizes = np.diff(vtk_to_numpy(group.GetOffsetsArray()))
        ids = vtk_to_numpy(group.GetConnectivityArray())[np.repeat(own, sizes)]
        owner[ids] = np.repeat(layer[first:last][own], sizes[own])
        drawn[kind] = sizes[own], ids
        first = last
    used = owner >= 0
    number = np.cumsum(used) - 1
    points = vtk_to_numpy(cells.GetPoints().GetData())[used]
    points[:, :2] += moves[owner[used]]
    result = polydata(
        points, **{kind: ragged_cells(sizes, number[ids]) for kind, (sizes, ids) in drawn.items()}
    )
    _pass(cells.GetPointData(), result.GetPointData(), used)
    _pass(cells.GetCellData(), result.GetCellData(), rows)
    return result


def _pass(given: vtkDataSetAttributes, taken: vtkDataSetAttributes, rows: NDArray[Any]) -> None:
    for index in range(given.GetNumberOfArrays()):
        taken.AddArray(_rows_of(given.GetAbstractArray(index), rows))
    if given.GetScalars() is not None:
        taken.SetActiveScalars(given.GetScalars().GetName())


def _rows_of(given: vtkAbstractArray, rows: NDArray[Any]) -> vtkAbstractArray:
    """Take rows of an array of any type; *rows* is a bool a row."""
    result = given.NewInstance()
    result.SetName(given.GetName())
    result.SetNumberOfComponents(given.GetNumberOfComponents())
    result.SetNumberOfTuples(int(np.count_nonzero(rows)))
    if not result.GetNumberOfTuples():
        return result
    if given.IsA("vtkDataArray"):
        np.compress(rows, vtk_to_numpy(given), axis=0, out=vtk_to_numpy(result))
    else:
        for row, former in enumerate(np.flatnonzero(rows)):
            result.InsertTuple(row, int(former), given)
    return result


def _of_images(images: Sequence[vtkImageData], names: Sequence[str] | None) -> Chosen:
    shown, tables = [], []
    points = [np.empty((0, 8, 2))]
    for given in images:
        notes = arrays(given.GetFieldData())
        if "layers" not in notes or (names is not None and notes["layers"][0] not in names):
            continue
        image = _copy(given)
        _add_scaled(image, notes)
        box, whole = (np.asarray(notes[name], float) for name in ("layer_bounds", "bounds"))
        number = _number(box, whole)
        if names is not None:
            panel = panels(len(names))[names.index(notes["layers"][0])]
            depth = float(box[4]), float(box[5])
            x, y, z = image.GetOrigin()
            image.SetOrigin(x + panel.left - box[0], y + panel.bottom - box[2], z)
            box = np.array(panel_bounds(panel, depth=depth))
            _note(image.GetFieldData(), box, whole=view_bounds(len(names), depth=depth))
        shown.append((str(notes["layers"][0]), image))
        if "activation" in arrays(image.GetCellData()):
            corners, table = _frames(image, layer=number)
            points.append(corners)
            tables.append(table)
    flat = np.concatenate(points).reshape(-1, 2)
    first = np.arange(0, len(flat), 8, dtype=np.int32)
    frames = polydata(
        np.pad(flat, ((0, 0), (0, 1))),
        strips=equal_cells(first[:, None] + _FRAME_STRIP),
        cell_data=join(tables, dtypes=dict.fromkeys(OF_FRAMES, np.int32)),
    )
    return Chosen(blocks(shown), frames)


def _number(box: NDArray[Any], whole: NDArray[Any]) -> int:
    """Return the number of a layer in its run, which its image tells by its place only."""
    columns = round((whole[1] + PANEL_GAP) / (1 + PANEL_GAP))
    column, row = round(box[0] / (1 + PANEL_GAP)), round(-box[2] / (1 + LABEL_GAP))
    return int(row * columns + column)


def _add_scaled(image: vtkImageData, notes: dict[str, NDArray[Any]]) -> None:
    """Add what the cells of the view are coloured by: shares of the layer's range, float32."""
    pixels = arrays(image.GetCellData())
    low, high = (float(end) for end in notes["color_range"])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if "weight" in pixels:
            name, values = "weight_scaled", pixels["weight"] / high
        elif "activation" in pixels:
            name, values = (
                "activation_scaled",
                (pixels["activation"].astype(float) - low) / (high - low),
            )
        else:
            return
        image.GetCellData().AddArray(array(name, values.astype(np.float32)))
    image.GetCellData().SetActiveScalars(name)


def _frames(image: vtkImageData, *, layer: int) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Return the corners of the frames around tiles, shape ``(n, 8, 2)``, and a column an array."""
    found = tiles(image)
    inner = found.boxes()
    longer = max(found.tile_width, found.tile_height)
    width = min(FRAME_OF_GUTTER * found.gutter, FRAME_OF_MAP * longer)
    across, up = (width * length for length in image.GetSpacing()[:2])
    outer = inner + np.array([-across, across, -up, up])
    corners = np.concatenate([box[:, _CORNERS] for box in (inner, outer)], axis=1)
    assert found.groups is not None
    number = np.full(len(inner), layer, np.int32)
    return corners, {"layer": number, "filter": found.filters, "group": found.groups}


def _whole(boxes: NDArray[Any]) -> tuple[float, ...]:
    """Return the bounds of a view with these panels."""
    if not len(boxes):
        return _NOWHERE
    return view_bounds(len(boxes), depth=(float(boxes[:, 4].min()), float(boxes[:, 5].max())))


def _note(field_data: vtkFieldData, boxes: NDArray[Any], *, whole: tuple[float, ...]) -> None:
    field_data.AddArray(array("layer_bounds", boxes.reshape(-1)))
    field_data.AddArray(array("bounds", np.array(whole, float)))


def _copy(dataset: Any) -> Any:
    result = dataset.NewInstance()
    result.ShallowCopy(dataset)
    return result
