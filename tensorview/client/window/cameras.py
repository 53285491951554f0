"""Where a view's camera stands, so that all is seen and the margins stay free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.worker.pictures.scene import Eye, box_corners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

POINTS_AN_INCH = 72
"""As letters are measured. Qt tells of as many pixels, or of twice as many on a fine screen."""
LEAST_ROOM = 0.3
"""Share of a view that is left to what it shows, however small the view."""

CAMERA = (
    "CameraPosition",
    "CameraFocalPoint",
    "CameraViewUp",
    "CameraParallelScale",
    "CenterOfRotation",
)
"""ParaView's properties that say what a view shows."""


class Margins(NamedTuple):
    """What is kept free around the data, in points."""

    left: float
    right: float
    bottom: float
    top: float


def fitted(
    bounds: Sequence[float], *, eye: Eye, size: tuple[float, float], margins: Margins
) -> dict[str, Any]:
    """Return the properties of a parallel camera that shows a box as large as fits, at the top.

    Args:
        bounds: of the box, ``x0 x1 y0 y1 z0 z1``.
        eye: where from.
        size: of the view, in points.
        margins: what is to stay free.
    """
    axes, corners = eye.axes(), box_corners(bounds)
    across = corners @ axes[:2].T
    low, high = across.min(axis=0), across.max(axis=0)
    room = np.maximum(
        np.array(size) - [margins.left + margins.right, margins.bottom + margins.top],
        LEAST_ROOM * np.array(size),
    )
    point = float(max(np.max((high - low) / room), 1e-9))
    middle = (low + high) / 2 - (margins.left - margins.right) / 2 * point * np.array([1, 0])
    middle[1] = high[1] - (size[1] / 2 - margins.top) * point
    depths = corners @ axes[2]
    focal = middle @ axes[:2] + depths.mean() * axes[2]
    away = float(np.ptp(depths)) + float(np.max(high - low))
    return {
        "CameraPosition": (focal + away * axes[2]).tolist(),
        "CameraFocalPoint": focal.tolist(),
        "CameraViewUp": axes[1].tolist(),
        "CameraParallelScale": size[1] / 2 * point,
        "CenterOfRotation": corners.mean(axis=0).tolist(),
    }


def size_in_points(view: Any) -> tuple[float, float]:
    """Return width and height of a view in points, which are a pixel on most screens."""
    points = POINTS_AN_INCH / view.GetRenderWindow().GetDPI()
    width, height = view.ViewSize
    return max(1.0, width * points), max(1.0, height * points)


def point_size(view: Any) -> float:
    """Return how much of the world a point of a view covers."""
    return 2 * float(view.CameraParallelScale) / size_in_points(view)[1]


def pixel_size(view: Any) -> float:
    """Return how much of the world a pixel of a view covers."""
    return 2 * float(view.CameraParallelScale) / max(1, int(view.ViewSize[1]))


def screen_axes(view: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the world's directions that are right and up on the screen, shape ``(3,)`` each."""
    towards = np.array(view.CameraPosition, float) - np.array(view.CameraFocalPoint, float)
    right = np.cross(np.array(view.CameraViewUp, float), towards)
    up = np.cross(towards, right)
    return right / (np.linalg.norm(right) or 1.0), up / (np.linalg.norm(up) or 1.0)
