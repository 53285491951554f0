"""The paths of a trajectory's polydata, put together again from their segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.worker.datasets import arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData


class Path(NamedTuple):
    """One path.

    Attributes:
        layer: whose path, an index into ``layers``.
        subspace: number of the subspace within the layer.
        cell: id of its first segment's cell.
        segments: ids of the points of each segment, none empty; filters or inputs were removed
            between two of them.
        begins: whether the first segment, too, follows a removal.
    """

    layer: int
    subspace: int
    cell: int
    segments: tuple[NDArray[Any], ...]
    begins: bool

    @property
    def ids(self) -> NDArray[Any]:
        """Ids of all points that are drawn."""
        return np.concatenate(self.segments)

    @property
    def marked(self) -> NDArray[Any]:
        """Ids of the first points after removals."""
        starts = self.segments if self.begins else self.segments[1:]
        return np.array([ids[0] for ids in starts], np.int64)

    @property
    def jumps(self) -> NDArray[Any]:
        """Ids of the points before and after each removal, shape ``(n, 2)``."""
        ends = [(a[-1], b[0]) for a, b in zip(self.segments, self.segments[1:], strict=False)]
        return np.array(ends, np.int64).reshape(-1, 2)


def read_paths(polydata: vtkPolyData) -> list[Path]:
    """Return all paths, in order of layer and subspace; of a run without segments, one each."""
    data = arrays(polydata.GetCellData())
    if "subspace" not in data:
        return []
    points = [*_points(polydata.GetVerts()), *_points(polydata.GetLines())]
    segment = data.get("segment", np.zeros_like(data["layer"]))
    keys = np.stack([data["layer"], data["subspace"], segment])
    cells: dict[tuple[int, int], list[int]] = {}
    for cell in np.lexsort(keys[::-1]).tolist():
        layer, subspace, _ = keys[:, cell].tolist()
        cells.setdefault((layer, subspace), []).append(cell)
    return [
        Path(
            layer=layer,
            subspace=subspace,
            cell=own[0],
            segments=tuple(points[cell] for cell in own),
            begins=bool(keys[2, own[0]]),
        )
        for (layer, subspace), own in cells.items()
    ]


def _points(cells: Any) -> list[NDArray[Any]]:
    if not cells.GetNumberOfCells():
        return []
    offsets = vtk_to_numpy(cells.GetOffsetsArray())
    return np.split(vtk_to_numpy(cells.GetConnectivityArray()), offsets[1:-1])
