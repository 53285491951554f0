"""Lattices of quads: one a pixel, corners shared within a tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tensorview.worker.views.layout import Placement, TileGrid


def quads(grids: Sequence[tuple[TileGrid, Placement]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make the quads of all pixels of all tiles of *grids*.

    Returns:
        Points, shape ``(n, 3)``, float32, ``(tile_height + 1) * (tile_width + 1)`` a tile, and
        their ids by quad, shape ``(pixels, 4)``, int32. Quads come in the order of grid, tile, row
        from the top, column; they face +z.
    """
    points = [np.empty((0, 3), np.float32)]
    corners = [np.empty((0, 4), np.int32)]
    first = 0
    for grid, placement in grids:
        points.append(_points(grid, placement))
        corners.append(_corners(grid) + np.int32(first))
        first += len(points[-1])
    return np.concatenate(points), np.concatenate(corners)


def _points(grid: TileGrid, placement: Placement) -> NDArray[Any]:
    left, top = grid.corners()
    result = np.zeros((grid.count, grid.tile_height + 1, grid.tile_width + 1, 3), np.float32)
    result[..., 0] = placement.x(left[:, None] + np.arange(grid.tile_width + 1))[:, None, :]
    result[..., 1] = placement.y(top[:, None] + np.arange(grid.tile_height + 1))[:, :, None]
    return result.reshape(-1, 3)


def _corners(grid: TileGrid) -> NDArray[Any]:
    height, width = grid.tile_height, grid.tile_width
    stride = width + 1
    upper_left = (
        np.arange(grid.count, dtype=np.int32)[:, None, None] * ((height + 1) * stride)
        + np.arange(height, dtype=np.int32)[:, None] * stride
        + np.arange(width, dtype=np.int32)
    )
    around = np.array([stride, stride + 1, 1, 0], np.int32)
    return (upper_left.reshape(-1, 1) + around).astype(np.int32, copy=False)
