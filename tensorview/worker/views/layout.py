"""Where everything lies: panels of layers, windows of filters, pixels of windows.

All lengths are in panel units: every layer has a panel of 1 x 1 with room for its title above, at
the same place in every view. Within a panel, content is laid out on a lattice of pixels, which is
the same for a view's polydata (a pixel is a cell) and its atlas (a pixel is a pixel).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tensorview.snapshot import Activations, Layer

PANEL_GAP = 0.12
LABEL_GAP = 0.22
PICTURE_PIXELS = 1000
"""Width of the picture for which gaps are decided, in screen pixels."""
MAX_TILE_ASPECT = 4
"""Tiles that are longer than this are stretched across, so that 1 x 100 maps can be seen."""


class Panel(NamedTuple):
    """The place of one layer: its lower left corner, and its width in screen pixels."""

    left: float
    bottom: float
    screen_pixels: float


@dataclass(frozen=True)
class PanelLayer:
    """A layer to be drawn, its index in the snapshot, and its panel."""

    index: int
    layer: Layer
    panel: Panel


def channel_count(activations: Activations) -> str:
    """How many channels are shown, and of how many."""
    shown, out = len(activations.channels), activations.out
    return f"{shown} channels" if shown == out else f"{shown} of {out} channels"


@functools.cache
def near_square(count: int) -> tuple[int, int]:
    """Columns and rows of the near-square grid that holds *count* things, at least 1 x 1."""
    columns = max(1, math.isqrt(max(count, 1) - 1) + 1)
    return columns, max(1, -(-count // columns))


@functools.lru_cache(maxsize=8)
def panels(count: int) -> tuple[Panel, ...]:
    """Lay out *count* panels in a near-square grid, row by row from the top."""
    columns, _ = near_square(count)
    screen_pixels = PICTURE_PIXELS / (columns + (columns - 1) * PANEL_GAP)
    return tuple(
        Panel(
            left=(index % columns) * (1 + PANEL_GAP),
            bottom=-(index // columns) * (1 + LABEL_GAP),
            screen_pixels=screen_pixels,
        )
        for index in range(count)
    )


def panel_bounds(panel: Panel, *, depth: tuple[float, float]) -> tuple[float, ...]:
    """Bounds ``x0 x1 y0 y1 z0 z1`` of a panel without its title; *depth* is ``z0 z1``."""
    return (panel.left, panel.left + 1, panel.bottom, panel.bottom + 1, *depth)


def view_bounds(count: int, *, depth: tuple[float, float]) -> tuple[float, ...]:
    """Bounds ``x0 x1 y0 y1 z0 z1`` of *count* panels (at least one) with their titles."""
    columns, rows = near_square(count)
    return (
        0.0,
        columns + (columns - 1) * PANEL_GAP,
        -(rows - 1) * (1 + LABEL_GAP),
        1 + LABEL_GAP,
        *depth,
    )


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Equal tiles in a near-square grid, row by row from the top, on a lattice of pixels.

    Attributes:
        count: number of tiles; the last row may be incomplete.
        tile_width: in pixels.
        tile_height: in pixels.
        gutter: pixels between neighbouring tiles; none around the grid.
    """

    count: int
    tile_width: int
    tile_height: int
    gutter: int

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return near_square(self.count)[0]

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return near_square(self.count)[1]

    @property
    def width(self) -> int:
        """Width of the grid in pixels."""
        return self.columns * (self.tile_width + self.gutter) - self.gutter

    @property
    def height(self) -> int:
        """Height of the grid in pixels."""
        return self.rows * (self.tile_height + self.gutter) - self.gutter

    def corners(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Left and top pixel of every tile, counted from the left and from the top.

        Returns:
            Two arrays of shape ``(count,)``, int64.
        """
        index = np.arange(self.count)
        return (
            index % self.columns * (self.tile_width + self.gutter),
            index // self.columns * (self.tile_height + self.gutter),
        )

    def places(self, image: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Find the tiles in images of this grid: first the full rows of them, then the last one.

        Args:
            image: shape ``(..., height, width)``, row 0 at the top.

        Yields:
            Which tiles, and their pixels in *image*, shape
            ``(..., tile rows, tile columns, tile_height, tile_width)``. Either may be none.
        """
        down, across = image.strides[-2:]
        step_down, step_across = self.tile_height + self.gutter, self.tile_width + self.gutter
        tiles = np.lib.stride_tricks.as_strided(
            image,
            (*image.shape[:-2], self.rows, self.columns, self.tile_height, self.tile_width),
            (*image.strides[:-2], step_down * down, step_across * across, down, across),
        )
        full, rest = divmod(self.count, self.columns)
        yield slice(full * self.columns), tiles[..., :full, :, :, :]
        yield slice(full * self.columns, None), tiles[..., full:, :rest, :, :]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How a lattice of pixels lies in a panel.

    Attributes:
        left: x of the left edge of pixel column 0.
        top: y of the top edge of pixel row 0.
        pixel_width: along x.
        pixel_height: along y.
    """

    left: float
    top: float
    pixel_width: float
    pixel_height: float

    def x(self, column: NDArray[Any]) -> NDArray[Any]:
        """X of the left edges of pixel columns; a pixel ends where the next one begins."""
        return self.left + self.pixel_width * column

    def y(self, row: NDArray[Any]) -> NDArray[Any]:
        """Y of the top edges of pixel rows, counted from the top."""
        return self.top - self.pixel_height * row


def place(grid: TileGrid, panel: Panel, *, margin: float = 0.0) -> Placement:
    """Fit a grid into the upper left of its panel, under the title, its longer side filling it.

    Args:
        grid: what to place.
        panel: where.
        margin: pixels to leave free around the grid.
    """
    taller = max(1.0, grid.tile_width / (MAX_TILE_ASPECT * max(grid.tile_height, 1)))
    wider = max(1.0, grid.tile_height / (MAX_TILE_ASPECT * max(grid.tile_width, 1)))
    width, height = (grid.width + 2 * margin) * wider, (grid.height + 2 * margin) * taller
    scale = 1 / max(width, height, 1)
    return Placement(
        left=panel.left + margin * wider * scale,
        top=panel.bottom + 1 - margin * taller * scale,
        pixel_width=wider * scale,
        pixel_height=taller * scale,
    )
