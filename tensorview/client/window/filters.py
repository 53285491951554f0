"""Which filters the cells of a view belong to, and where each filter lies in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.worker.datasets import arrays
from tensorview.worker.pictures.content import tiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray

    Filters = Mapping[str, tuple[int, ...]]

FILTER_ARRAYS = ("filter", "filter_a", "filter_b")
"""Cell arrays of filters' numbers."""
NONE = -1
"""In place of a filter: a gutter of an atlas, a place of its grid that no filter takes."""


class Owners(NamedTuple):
    """To whom the cells of a dataset belong.

    Attributes:
        layers: names, indexed by *layer*.
        layer: shape ``(cells,)``.
        filters: shape ``(cells,)`` each, filters by number or `NONE`. There are two in a
            correlation: of the row, then of the column.
    """

    layers: list[str]
    layer: NDArray[Any]
    filters: tuple[NDArray[Any], ...]

    def touched(self, cells: NDArray[np.bool_]) -> dict[str, tuple[int, ...]]:
        """Return the filters, in order, that chosen *cells* belong to, by layer."""
        found: dict[str, tuple[int, ...]] = {}
        layer = self.layer[cells]
        columns = [column[cells] for column in self.filters]
        for index in np.unique(layer):
            numbers = np.unique(np.concatenate([column[layer == index] for column in columns]))
            if numbers[numbers != NONE].size and 0 <= index < len(self.layers):
                found[self.layers[index]] = tuple(numbers[numbers != NONE].tolist())
        return found

    def places(self, filters: Filters) -> list[NDArray[Any]]:
        """Number the filters in *filters*, in their order, and say to which a cell belongs.

        Returns:
            As many arrays as the dataset has of filters, shape ``(cells,)``, int64; -1 where a cell
            belongs to none of them.
        """
        count = 1 + max((int(column.max(initial=0)) for column in self.filters), default=0)
        # One more row and column, so that -1 and names that are not here find a place too.
        table = np.full((len(self.layers) + 1, count + 1), -1, np.int64)
        first = 0
        for name, numbers in filters.items():
            known = np.array([n for n in numbers if n < count], np.int64)
            if name in self.layers:
                table[self.layers.index(name), known] = first + np.arange(len(known))
            first += len(known)
        return [table[self.layer, column] for column in self.filters]


def owners(dataset: Any, *, layers: Sequence[str] = ()) -> Owners | None:
    """Find out to whom the cells of a view's polydata or of an atlas's image belong.

    Args:
        dataset: with or without filters.
        layers: names by id, for a dataset that does not carry them.

    Returns:
        None where cells belong to no filter, as those of a trajectory.
    """
    notes, cells = arrays(dataset.GetFieldData()), arrays(dataset.GetCellData())
    names = [str(name) for name in notes.get("layers", layers)]
    columns = [cells[name] for name in FILTER_ARRAYS if name in cells]
    if "layer" in cells and columns:
        return Owners(names, cells["layer"], tuple(columns))
    if "tiles" in notes:
        pixels = _of_pixels(dataset)
        return Owners(names, np.zeros(len(pixels[0]), np.int32), pixels)
    return None


def joined(parts: Iterable[Filters]) -> dict[str, tuple[int, ...]]:
    """Return the filters that are in any of *parts*, in order."""
    found: dict[str, set[int]] = {}
    for part in parts:
        for layer, numbers in part.items():
            found.setdefault(layer, set()).update(numbers)
    return {layer: tuple(sorted(found[layer])) for layer in sorted(found)}


def extents(dataset: Any, filters: Filters) -> NDArray[Any]:
    """Return rectangles around *filters*, one each, in a correlation around its row and its column.

    Args:
        dataset: a view's polydata or an atlas's image.
        filters: by layer; those that the dataset lacks are left out.

    Returns:
        Shape ``(n, 4)``, float64: x0 x1 y0 y1. Neighbouring rows and columns are joined.
    """
    if dataset.IsA("vtkImageData"):
        found = _tile_extents(dataset, filters)
    else:
        found = _cell_extents(dataset, filters)
    if len(found) == 2:
        found = [_joined(found[0], along=2), _joined(found[1], along=0)]
    return np.concatenate([np.empty((0, 4)), *found])


def _is_correlation(image: Any) -> bool:
    return bool(image.GetCellData().HasArray("pcc"))


def _of_pixels(image: Any) -> tuple[NDArray[Any], ...]:
    """Return the filters of an image's pixels, row by row from below as VTK counts them."""
    found = tiles(image)
    result = np.full(next(iter(found.pixels.values())).shape, NONE, np.int32)
    left, top = (corner[:, None, None] for corner in found.corners())
    rows, columns = top + np.arange(found.tile_height)[:, None], left + np.arange(found.tile_width)
    result[rows, columns] = found.filters[:, None, None]
    by_row = result[::-1].reshape(-1)
    if not _is_correlation(image):
        return (by_row,)
    return by_row, np.broadcast_to(found.filters, result.shape).reshape(-1)


def _tile_extents(image: Any, filters: Filters) -> list[NDArray[Any]]:
    notes = arrays(image.GetFieldData())
    if "tiles" not in notes:
        return []
    found = tiles(image)
    chosen = np.isin(found.filters, filters.get(str(notes["layers"][0]), ()))
    rows = found.boxes()[chosen]
    if not _is_correlation(image):
        return [rows]
    left, right, bottom, top = found.extent
    edges = np.linspace(left, right, len(chosen) + 1)
    whole = np.broadcast_to([bottom, top], (len(chosen), 2))
    return [rows, np.column_stack([edges[:-1], edges[1:], whole])[chosen]]


def _cell_extents(polydata: Any, filters: Filters) -> list[NDArray[Any]]:
    found = owners(polydata)
    if found is None:
        return []
    boxes = [_around(polydata, places) for places in found.places(filters)]
    if polydata.GetCellData().HasArray("zero_mass"):
        # Densities of all heights stand on the lower edges of windows, which are square.
        boxes[0][:, 3] = boxes[0][:, 2] + boxes[0][:, 1] - boxes[0][:, 0]
    return boxes


def _around(polydata: Any, places: NDArray[Any]) -> NDArray[Any]:
    """Return the rectangle around the cells of each place, those of -1 apart."""
    ids = np.flatnonzero(places >= 0)
    if not ids.size:
        return np.empty((0, 4))
    order = ids[np.argsort(places[ids], kind="stable")]
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    low, high = _cell_boxes(polydata, order)
    low = np.minimum.reduceat(low, starts, axis=0)
    high = np.maximum.reduceat(high, starts, axis=0)
    return np.stack([low, high], axis=2).reshape(-1, 4)


def _cell_boxes(polydata: Any, ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return lower left and upper right corners of cells, shape ``(n, 2)`` each, float64."""
    points = vtk_to_numpy(polydata.GetPoints().GetData())[:, :2]
    low, high = np.empty((2, len(ids), 2))
    first = 0
    for part in (
        polydata.GetVerts(),
        polydata.GetLines(),
        polydata.GetPolys(),
        polydata.GetStrips(),
    ):
        count = part.GetNumberOfCells()
        here = (ids >= first) & (ids < first + count)
        if here.any():
            low[here], high[here] = _boxes_of(part, ids[here] - first, points)
        first += count
    return low, high


def _boxes_of(
    part: vtkCellArray, ids: NDArray[Any], points: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    offsets = vtk_to_numpy(part.GetOffsetsArray())
    corners = vtk_to_numpy(part.GetConnectivityArray())
    sizes = np.diff(offsets)
    if (sizes == sizes[0]).all():  # as of a quarter of a million quads
        around = points[corners.reshape(-1, sizes[0])[ids].T]
        return around.min(axis=0), around.max(axis=0)
    taken = sizes[ids]
    starts = np.cumsum(taken) - taken
    around = points[corners[np.repeat(offsets[ids] - starts, taken) + np.arange(taken.sum())]]
    return np.minimum.reduceat(around, starts), np.maximum.reduceat(around, starts)


def _joined(boxes: NDArray[Any], *, along: int) -> NDArray[Any]:
    """Join rows that follow one another into one rectangle; *along* 0 joins columns, 2 rows."""
    if not len(boxes):
        return boxes
    order = np.lexsort((boxes[:, along], boxes[:, 2 - along], boxes[:, 3 - along]))
    boxes = boxes[order]
    other = [2 - along, 3 - along]
    size = (boxes[1:, along + 1] - boxes[1:, along]) / 4
    apart = (np.abs(boxes[1:, along] - boxes[:-1, along + 1]) > size) | (
        boxes[1:, other] != boxes[:-1, other]
    ).any(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], apart]))
    joined = boxes[starts]
    joined[:, along + 1] = np.maximum.reduceat(boxes[:, along + 1], starts)
    return joined
