"""What data stand on or in: trays under weights, windows behind densities, boxes around paths.

They are drawn by VTK without proxies: they follow from the data, and are none.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkPolyData
from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

from tensorview.client.window.colour_maps import mapped
from tensorview.snapshot import GROUP_DEAD
from tensorview.worker.datasets import arrays
from tensorview.worker.paths import read_paths
from tensorview.worker.pictures.colours import GRID, INK, PANEL, UNDEFINED, WINDOW, to_bytes
from tensorview.worker.pictures.scene import box_corners
from tensorview.worker.views.datasets import equal_cells, polydata, ragged_cells
from tensorview.worker.views.trajectory import BOX_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tensorview.worker.pictures.content import Place

TRAY_BORDER, TRAY_DEPTH = 0.02, -0.08
"""Of a tray, in panel units: how far it sticks out, and how deep it lies under weights of zero.
Blocks that reach deeper go through it."""
SHADOW = (0.8, 0.81, 0.83)
FLOOR = (0.955, 0.957, 0.962)
BEHIND = -0.01
DOT_PIXELS = 11.0
"""More than those of a path that is one point only."""
_EDGES = np.array([(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit])


class Ground:
    """The ground of one view.

    Args:
        view: ParaView's render view.
    """

    def __init__(self, view: Any) -> None:
        self._mapper = vtkPolyDataMapper()
        self._mapper.SetInputData(vtkPolyData())
        self._mapper.SetColorModeToDirectScalars()
        actor = vtkActor()
        actor.SetMapper(self._mapper)
        actor.GetProperty().LightingOff()
        actor.GetProperty().SetPointSize(DOT_PIXELS)
        actor.GetProperty().SetRenderPointsAsSpheres(True)
        actor.SetPickable(False)
        view.GetClientSideObject().GetRenderer().AddActor(actor)

    def show(self, shape: vtkPolyData) -> None:
        """Show cells in their cell array ``colours``."""
        shape.GetCellData().SetActiveScalars("colours")
        self._mapper.SetInputData(shape)


def trays(_dataset: vtkPolyData, panels: Sequence[Place], _table: Any) -> vtkPolyData:
    """Make a tray a panel, since white weights on white paper could not be seen."""
    boxes = np.array([panel.bounds[:4] for panel in panels], float).reshape(-1, 4)
    boxes += TRAY_BORDER * np.array([-1, 1, -1, 1])
    return _rectangles(boxes, z=TRAY_DEPTH, colours=np.broadcast_to(PANEL, (len(boxes), 3)))


def windows(dataset: vtkPolyData, _panels: Sequence[Place], _table: Any) -> vtkPolyData:
    """Make a window behind every density and its bar, gray for dead filters.

    Strips come in pairs; a density ends at the right edge of its window, a bar begins at the left.
    """
    strips = dataset.GetStrips()
    if strips.GetNumberOfCells() < 2:
        return vtkPolyData()
    offsets = vtk_to_numpy(strips.GetOffsetsArray())[:-1]
    ids = vtk_to_numpy(strips.GetConnectivityArray())
    points = vtk_to_numpy(dataset.GetPoints().GetData())[ids]
    x0 = np.minimum.reduceat(points[:, 0], offsets)
    x0 = np.minimum(x0[::2], x0[1::2])
    x1 = np.maximum.reduceat(points[:, 0], offsets)[::2]
    y0 = np.minimum.reduceat(points[:, 1], offsets)[::2]
    groups = np.asarray(arrays(dataset.GetCellData())["group"])[::2]
    tones = np.where(groups[:, None] == GROUP_DEAD, UNDEFINED, WINDOW)
    boxes = np.stack([x0, x1, y0, y0 + (x1 - x0)], axis=1)
    return _rectangles(boxes, z=BEHIND, colours=tones)


def boxes(dataset: vtkPolyData, panels: Sequence[Place], table: Any) -> vtkPolyData:
    """Make a box with a floor around every path, its shadow on the floor, and dots on it.

    A dot in the colour of its step is where a path ends; a dark one, and a line that leads to it,
    where filters or inputs were removed.
    """
    paths = read_paths(dataset)
    names = arrays(dataset.GetFieldData()).get("layers", ())
    counts = Counter(str(names[path.layer]) for path in paths)
    found = [box for panel in panels for box in _boxes(panel, count=counts[panel.name])]
    corners = np.array([box_corners(box) for box in found], float).reshape(-1, 3)
    first = 8 * np.arange(len(found))[:, None]
    edges = (first[..., None] + _EDGES).reshape(-1, 2)
    floors = first + np.array([0, 1, 3, 2])
    lowered = corners + np.array([0, 0, BEHIND])  # below shadows and edges
    points = np.empty((0, 3))
    if dataset.GetNumberOfPoints():
        points = vtk_to_numpy(dataset.GetPoints().GetData())
    at_shadows, at_paths = 2 * len(corners), 2 * len(corners) + len(points)
    ends = np.array([path.ids[-1] for path in paths], int)
    marks = np.concatenate([np.empty(0, int), *(path.marked for path in paths)])
    # Dark ones last, over the end of a path that has just jumped.
    dots = np.concatenate([ends, marks])
    jumps = np.concatenate([np.empty((0, 2), int), *(path.jumps for path in paths)])
    shadows = [ids for path in paths for ids in path.segments]
    steps = np.asarray(arrays(dataset.GetPointData()).get("step", ()))
    tones = [
        mapped(steps[ends], table),
        *(
            np.tile(to_bytes(np.array(tone)), (count, 1))
            for tone, count in (
                (INK, len(marks)),
                (GRID, len(edges)),
                (INK, len(jumps)),
                (SHADOW, len(shadows)),
                (FLOOR, len(floors)),
            )
        ),
    ]
    straight = np.concatenate([edges, at_paths + jumps])
    return polydata(
        np.concatenate([corners, lowered, points * np.array([1, 1, 0]), points]),
        verts=equal_cells(at_paths + dots[:, None]),
        lines=ragged_cells(
            np.array([2] * len(straight) + [len(ids) for ids in shadows]),
            np.concatenate([straight.ravel(), *(at_shadows + ids for ids in shadows)]),
        ),
        polys=equal_cells(len(corners) + floors),
        cell_data={"colours": np.concatenate(tones)},
    )


def _boxes(panel: Place, *, count: int) -> list[tuple[float, ...]]:
    """Return the boxes of a layer's subspaces, row by row from the top."""
    left, _, bottom, _, low, high = panel.bounds
    side = high - low
    columns = max(1, round(BOX_SHARE / side)) if side < 1 else 1
    rows, pitch = max(1, math.ceil(count / columns)), 1 / columns
    inset = (pitch - side) / 2
    result: list[tuple[float, ...]] = []
    for index in range(count):
        x = left + index % columns * pitch + inset
        y = bottom + (rows - 1 - index // columns) * pitch + inset
        result.append((x, x + side, y, y + side, low, high))
    return result


def _rectangles(boxes: NDArray[Any], *, z: float, colours: NDArray[Any]) -> vtkPolyData:
    """Make rectangles of shape ``(n, 4)``, x0 x1 y0 y1, in a colour each, shape ``(n, 3)``."""
    x0, x1, y0, y1 = boxes.T
    height = np.full_like(x0, z)
    corners = np.array([[x0, y0, height], [x1, y0, height], [x1, y1, height], [x0, y1, height]])
    return polydata(
        corners.transpose(2, 0, 1).reshape(-1, 3),
        polys=equal_cells(np.arange(4 * len(boxes)).reshape(-1, 4)),
        cell_data={"colours": to_bytes(colours)},
    )
