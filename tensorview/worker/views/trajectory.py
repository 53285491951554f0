"""Trajectory: each layer's path through a three-dimensional subspace of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.worker.views.datasets import array, polydata, ragged_cells, strings
from tensorview.worker.views.layout import near_square

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    from tensorview.snapshot import Layer, Trajectory
    from tensorview.worker.views.layout import Panel, PanelLayer

BOX_SHARE = 0.92
"""Side of a subspace's box as a share of its place in the panel, where there are several."""


class _Path(NamedTuple):
    """One path: where it belongs, and the ids of its finite points in the polydata."""

    layer: int
    subspace: int
    trajectory: Trajectory
    drawn: NDArray[Any]


def detail(layer: Layer) -> str:
    """What a title says: each subspace and the variance that its axes explain."""
    return "  ".join(map(_describe, layer.trajectories))


def box_side(trajectories: Sequence[Trajectory]) -> float:
    """Side of the box of one subspace, in panel units."""
    columns, _ = near_square(len(trajectories))
    return BOX_SHARE / columns if columns > 1 else 1.0


def cells(
    layers: Sequence[PanelLayer], *, steps: NDArray[Any], losses: NDArray[Any]
) -> vtkPolyData:
    """Draw a polyline for every subspace of every layer, a vertex where only one point is finite.

    Every point of a trajectory is a point here, in order of layer, subspace, step. One that is not
    finite lies in the lowest corner of its box and belongs to no cell; array ``coordinate`` holds
    all of them bit for bit. Field arrays ``subspaces`` and ``explained_variance`` have one row a
    cell; vertices come before polylines.

    Args:
        layers: what to draw.
        steps: shape ``(T,)``, int64, of every trajectory's points.
        losses: shape ``(T,)``, float64.
    """
    paths: list[_Path] = []
    points = [np.empty((0, 3))]
    first = 0
    for entry in layers:
        trajectories = entry.layer.trajectories
        for subspace, trajectory in enumerate(trajectories):
            finite = np.isfinite(trajectory.points).all(axis=1)
            corner = _corner(subspace, trajectories=trajectories, panel=entry.panel)
            points.append(corner + box_side(trajectories) * _within_extent(trajectory))
            paths.append(_Path(entry.index, subspace, trajectory, first + np.flatnonzero(finite)))
            first += len(finite)
    dots = [path for path in paths if len(path.drawn) == 1]
    curves = [path for path in paths if len(path.drawn) > 1]
    result = polydata(
        np.concatenate(points),
        verts=_cells(dots),
        lines=_cells(curves),
        point_data={
            "step": np.tile(steps, len(paths)),
            "loss": np.tile(losses, len(paths)),
            "coordinate": np.concatenate(
                [np.empty((0, 3)), *(path.trajectory.points for path in paths)]
            ),
        },
        cell_data={
            "layer": np.array([path.layer for path in dots + curves], np.int32),
            "subspace": np.array([path.subspace for path in dots + curves], np.int32),
        },
    )
    drawn = [path.trajectory for path in dots + curves]
    result.GetFieldData().AddArray(strings("subspaces", [t.subspace for t in drawn]))
    explained = np.array([t.explained_variance for t in drawn], np.float64).reshape(-1, 3)
    result.GetFieldData().AddArray(array("explained_variance", explained))
    return result


def _describe(trajectory: Trajectory) -> str:
    shares = trajectory.explained_variance
    if not np.isfinite(shares).all():
        return trajectory.subspace
    return f"{trajectory.subspace} " + " + ".join(f"{share:.0%}" for share in shares)


def _corner(subspace: int, *, trajectories: Sequence[Trajectory], panel: Panel) -> NDArray[Any]:
    """Lowest corner of the box of one subspace, shape ``(3,)``."""
    columns, rows = near_square(len(trajectories))
    step = 1 / columns
    inset = (step - box_side(trajectories)) / 2
    return np.array(
        [
            panel.left + subspace % columns * step + inset,
            panel.bottom + (rows - 1 - subspace // columns) * step + inset,
            0.0,
        ]
    )


def _within_extent(trajectory: Trajectory) -> NDArray[Any]:
    """Points as shares of the trajectory's extent, shape ``(T, 3)``, all within [0, 1]."""
    low, high = trajectory.extent.T
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # Halves, because the difference of two finite numbers may be infinite.
        shares = (trajectory.points / 2 - low / 2) / (high / 2 - low / 2)
    finite = np.isfinite(trajectory.points).all(axis=1, keepdims=True)
    return np.where(finite, np.clip(shares, 0, 1), 0)


def _cells(paths: Sequence[_Path]) -> vtkCellArray:
    sizes = np.array([len(path.drawn) for path in paths], np.int32)
    drawn = [np.empty(0, np.int32), *(path.drawn for path in paths)]
    return ragged_cells(sizes, np.concatenate(drawn))
