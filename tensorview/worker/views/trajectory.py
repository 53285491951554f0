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


class _Segment(NamedTuple):
    """A path between two removals: where it belongs, and its finite points' ids, at least one."""

    layer: int
    subspace: int
    number: int
    trajectory: Trajectory
    drawn: NDArray[Any]


def detail(layer: Layer) -> str:
    """What a title says: each subspace and the variance that its axes explain, and removals."""
    said = [
        removals(trajectory.pruned, happened=bool(trajectory.segment[-1:].any()))
        for trajectory in layer.trajectories[:1]
    ]
    return "  ".join(filter(None, [*map(_describe, layer.trajectories), *said]))


def removals(pruned: NDArray[Any], *, happened: bool) -> str:
    """Say what was removed along a path: ``"pruned: 2 filters"``.

    Args:
        pruned: shape ``(T,)``, filters removed before each point.
        happened: whether anything was; inputs alone where it was no filter.
    """
    count = int(pruned.sum())
    if not happened:
        return ""
    return f"pruned: {count} filter{'s' * (count > 1)}" if count else "pruned: inputs"


def box_side(trajectories: Sequence[Trajectory]) -> float:
    """Side of the box of one subspace, in panel units."""
    columns, _ = near_square(len(trajectories))
    return BOX_SHARE / columns if columns > 1 else 1.0


def cells(
    layers: Sequence[PanelLayer], *, steps: NDArray[Any], losses: NDArray[Any]
) -> vtkPolyData:
    """Draw a polyline for every segment of every path, a vertex where only one point is finite.

    A segment ends where filters or inputs of the layer were removed. Every point of a trajectory is
    a point here, in order of layer, subspace, step. One that is not finite lies in the lowest
    corner of its box and belongs to no cell; array ``coordinate`` holds all of them bit for bit.
    Field arrays ``subspaces`` and ``explained_variance`` have one row a cell; vertices come before
    polylines.

    Args:
        layers: what to draw.
        steps: shape ``(T,)``, int64, of every trajectory's points.
        losses: shape ``(T,)``, float64.
    """
    trajectories: list[Trajectory] = []
    segments: list[_Segment] = []
    points = [np.empty((0, 3))]
    for entry in layers:
        own = entry.layer.trajectories
        for subspace, trajectory in enumerate(own):
            corner = _corner(subspace, trajectories=own, panel=entry.panel)
            points.append(corner + box_side(own) * _within_extent(trajectory))
            first = len(trajectories) * len(steps)
            finite = np.isfinite(trajectory.points).all(axis=1)
            for number in np.unique(trajectory.segment[finite]).tolist():
                drawn = first + np.flatnonzero(finite & (trajectory.segment == number))
                segments.append(_Segment(entry.index, subspace, number, trajectory, drawn))
            trajectories.append(trajectory)
    dots = [segment for segment in segments if len(segment.drawn) == 1]
    curves = [segment for segment in segments if len(segment.drawn) > 1]
    drawn_cells = dots + curves
    result = polydata(
        np.concatenate(points),
        verts=_cells(dots),
        lines=_cells(curves),
        point_data={
            "step": np.tile(steps, len(trajectories)),
            "loss": np.tile(losses, len(trajectories)),
            "coordinate": np.concatenate([np.empty((0, 3)), *(t.points for t in trajectories)]),
            "pruned": np.concatenate([np.empty(0, np.int32), *(t.pruned for t in trajectories)]),
        },
        cell_data={
            "layer": np.array([segment.layer for segment in drawn_cells], np.int32),
            "subspace": np.array([segment.subspace for segment in drawn_cells], np.int32),
            "segment": np.array([segment.number for segment in drawn_cells], np.int32),
        },
    )
    drawn_paths = [segment.trajectory for segment in drawn_cells]
    result.GetFieldData().AddArray(strings("subspaces", [t.subspace for t in drawn_paths]))
    explained = np.array([t.explained_variance for t in drawn_paths], np.float64).reshape(-1, 3)
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


def _cells(segments: Sequence[_Segment]) -> vtkCellArray:
    sizes = np.array([len(segment.drawn) for segment in segments], np.int32)
    drawn = [np.empty(0, np.int32), *(segment.drawn for segment in segments)]
    return ragged_cells(sizes, np.concatenate(drawn))
