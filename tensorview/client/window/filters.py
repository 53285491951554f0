"""Which filters the cells of a view belong to, and where each filter lies in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.worker.datasets import arrays

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

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


def owners(dataset: Any) -> Owners | None:
    """Find out to whom the cells of a view's polydata or of an atlas's image belong.

    Returns:
        None where cells belong to no filter, as those of a trajectory.
    """
    notes, cells = arrays(dataset.GetFieldData()), arrays(dataset.GetCellData())
    if "layers" not in notes:
        return None
    names = [str(name) for name in notes["layers"]]
    columns = [cells[name] for name in FILTER_ARRAYS if name in cells]
    if "layer" in cells and columns:
        return Owners(names, cells["layer"], tuple(columns))
    if "tiles" in notes:
        pixels = _of_pixels(notes, by_column=_is_correlation(dataset))
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
        notes = arrays(dataset.GetFieldData())
        wanted = filters.get(str(notes["layers"][0]), ()) if "tiles" in notes else ()
        chosen = np.isin(notes["tile_filters"], wanted) if wanted else np.zeros(0, bool)
        if not chosen.any():
            return np.empty((0, 4))
        boxes = [tile_boxes(dataset)[chosen]]
        if _is_correlation(dataset):
            boxes.append(_columns(dataset.GetBounds(), chosen))
    else:
        found = owners(dataset)
        if found is None:
            return np.empty((0, 4))
        boxes = [_extents(dataset, place) for place in found.places(filters)]
        if dataset.GetCellData().HasArray("zero_mass"):
            # Densities of all heights stand on the lower edges of windows, which are square.
            boxes[0][:, 3] = boxes[0][:, 2] + boxes[0][:, 1] - boxes[0][:, 0]
    if len(boxes) == 2:
        rows, columns = boxes
        boxes = [_joined(rows, along=2), _joined(columns, along=0)]
    return np.concatenate(boxes)


def tile_boxes(image: Any) -> NDArray[Any]:
    """Return the rectangles x0 x1 y0 y1 of an atlas image's tiles, shape ``(tiles, 4)``."""
    notes = arrays(image.GetFieldData())
    columns, _, width, height, gutter = (int(value) for value in notes["tiles"])
    down, across = np.divmod(np.arange(len(notes["tile_filters"])), columns)
    pixel_width, pixel_height, _ = image.GetSpacing()
    left, _, _, top, _, _ = image.GetBounds()
    x0 = left + across * (width + gutter) * pixel_width
    y1 = top - down * (height + gutter) * pixel_height
    return np.column_stack([x0, x0 + width * pixel_width, y1 - height * pixel_height, y1])


def _columns(bounds: tuple[float, ...], chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the rectangles of chosen columns of as many as fill *bounds*."""
    edges = np.linspace(bounds[0], bounds[1], len(chosen) + 1)
    whole = np.broadcast_to(bounds[2:4], (len(chosen), 2))
    return np.column_stack([edges[:-1], edges[1:], whole])[chosen]


def _is_correlation(image: Any) -> bool:
    return bool(image.GetCellData().HasArray("pcc"))


def _of_pixels(notes: Mapping[str, NDArray[Any]], *, by_column: bool) -> tuple[NDArray[Any], ...]:
    """Return the filters of an image's pixels, row by row from below as VTK counts them.

    Args:
        notes: field data of the image.
        by_column: whether its columns stand for the same filters as its rows.
    """
    columns, rows, width, height, gutter = (int(value) for value in notes["tiles"])
    tiles = np.full(columns * rows, NONE, np.int32)
    tiles[: len(notes["tile_filters"])] = notes["tile_filters"]

    def lattice(count: int, size: int) -> NDArray[Any]:
        """Number of the tile at each pixel of a side, *count* in the gutters."""
        numbers = np.repeat(np.arange(count), size + gutter)[: count * (size + gutter) - gutter]
        inside = np.arange(len(numbers)) % (size + gutter) < size
        return np.where(inside, numbers, count)

    grid = np.full((rows + 1, columns + 1), NONE, np.int32)
    grid[:rows, :columns] = tiles.reshape(rows, columns)
    down, across = lattice(rows, height)[::-1], lattice(columns, width)
    found = grid[np.ix_(down, across)]
    if not by_column:
        return (found.reshape(-1),)
    return found.reshape(-1), np.broadcast_to(tiles[:width], found.shape).reshape(-1)


def _extents(polydata: Any, places: NDArray[Any]) -> NDArray[Any]:
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
    """Return lower left and upper right corners of cells, shape ``(n, 2)`` each."""
    points = vtk_to_numpy(polydata.GetPoints().GetData())[:, :2].astype(np.float64)
    parts = polydata.GetVerts(), polydata.GetLines(), polydata.GetPolys(), polydata.GetStrips()
    sizes, corners = [], []
    for part in parts:
        if part.GetNumberOfCells():
            sizes.append(np.diff(vtk_to_numpy(part.GetOffsetsArray())))
            corners.append(vtk_to_numpy(part.GetConnectivityArray()))
    size, corner = np.concatenate(sizes), np.concatenate(corners)
    begin = np.cumsum(size) - size
    taken = size[ids]
    starts = np.cumsum(taken) - taken
    at = np.repeat(begin[ids] - starts, taken) + np.arange(taken.sum())
    around = points[corner[at]]
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
