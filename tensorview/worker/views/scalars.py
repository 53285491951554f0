"""Scalars: a table over captures, as the point arrays of a row of points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensorview.worker.views.datasets import equal_cells, polydata, safe_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData


def last_step(steps: NDArray[Any]) -> float:
    """Largest finite step, at least 1."""
    return float(np.max(steps, initial=1.0, where=np.isfinite(steps)))


def cells(columns: Mapping[str, NDArray[Any]]) -> vtkPolyData:
    """Make one point (and a vertex on it) a row and one float64 point array a column.

    Names are those of *columns*, percent-encoded where a VTK file could not hold them. x is the
    step as a share of the last one.
    """
    steps = np.array(columns.get("step", np.empty(0)), np.float64)
    points = np.zeros((len(steps), 3))
    points[:, 0] = np.where(np.isfinite(steps), steps, 0) / last_step(steps)
    return polydata(
        points,
        verts=equal_cells(np.arange(len(steps), dtype=np.int32)[:, None]),
        point_data={
            safe_name(name): np.array(values, np.float64) for name, values in columns.items()
        },
        cell_data={"layer": np.full(len(steps), -1, np.int32)},
    )
