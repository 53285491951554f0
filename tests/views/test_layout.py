"""Everything has its place, and no two things share one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorview.worker.views.layout import (
    LABEL_GAP,
    TileGrid,
    near_square,
    panel_bounds,
    panels,
    place,
    view_bounds,
)

GRIDS = st.builds(
    TileGrid,
    count=st.integers(1, 40),
    tile_width=st.integers(1, 30),
    tile_height=st.integers(1, 30),
    gutter=st.integers(0, 3),
)


@given(st.integers(1, 5000))
def test_a_grid_is_near_square_and_holds_all(count):
    """Columns exceed rows by at most one, and no row is empty."""
    columns, rows = near_square(count)

    assert columns * (rows - 1) < count <= columns * rows
    assert columns - rows in (0, 1)


@pytest.mark.parametrize("count", [1, 2, 5, 22])
def test_panels_with_their_titles_are_disjoint_and_within_the_view(count):
    """No panel reaches into another panel or its title, and all lie within the view's bounds."""
    boxes = [panel_bounds(panel, depth=(0, 0)) for panel in panels(count)]
    whole = view_bounds(count, depth=(0, 0))

    for a, b in itertools.combinations(boxes, 2):
        beside = a[1] < b[0] or b[1] < a[0]
        above = a[3] + LABEL_GAP <= b[2] + 1e-9 or b[3] + LABEL_GAP <= a[2] + 1e-9
        assert beside or above
    for box in boxes:
        assert whole[0] <= box[0] < box[1] <= whole[1] + 1e-12
        assert whole[2] <= box[2] < box[3] + LABEL_GAP <= whole[3] + 1e-12


def test_panels_run_row_by_row_from_the_top():
    """Five layers lie in three columns, the last two in a second row below."""
    corners = [(round(p.left, 2), round(p.bottom, 2)) for p in panels(5)]

    assert corners == [(0, 0), (1.12, 0), (2.24, 0), (0, -1.22), (1.12, -1.22)]


@given(GRIDS)
def test_tiles_are_disjoint_and_fill_the_grid(grid):
    """Every pixel belongs to at most one tile, and tiles reach all four edges."""
    owners = np.zeros((grid.height, grid.width), int)
    for left, top in zip(*grid.corners(), strict=True):
        owners[top : top + grid.tile_height, left : left + grid.tile_width] += 1

    assert owners.max() == 1
    assert owners.sum() == grid.count * grid.tile_height * grid.tile_width
    assert owners[0, 0] == owners[0, -1] == owners[-1, 0] == 1


@given(GRIDS, st.floats(0, 2))
def test_content_lies_within_its_panel_under_the_title(grid, margin):
    """With its margin it touches the upper left and one more side; tiles are at most 1 : 4."""
    panel = panels(5)[4]
    placement = place(grid, panel, margin=margin)
    left, right = placement.x(np.array([-margin, grid.width + margin]))
    top, bottom = placement.y(np.array([-margin, grid.height + margin]))
    width, height = right - left, top - bottom

    assert (left, top) == pytest.approx((panel.left, panel.bottom + 1))
    assert max(width, height) == pytest.approx(1)
    tile = placement.pixel_width * grid.tile_width, placement.pixel_height * grid.tile_height
    assert max(tile) / min(tile) <= 4 + 1e-9


@given(GRIDS)
def test_a_mosaic_holds_every_tile_in_its_place_and_nan_elsewhere(grid):
    """Cutting the tiles out again gives them back; nothing else is finite."""
    tiles = np.arange(grid.count * grid.tile_height * grid.tile_width, dtype=np.float32)
    tiles = tiles.reshape(grid.count, grid.tile_height, grid.tile_width)
    image = np.full((grid.height, grid.width), np.nan, np.float32)
    for which, pixels in grid.places(image):
        pixels[...] = tiles[which].reshape(pixels.shape)
    cut = [
        image[top : top + grid.tile_height, left : left + grid.tile_width]
        for left, top in zip(*grid.corners(), strict=True)
    ]

    assert image.shape == (grid.height, grid.width)
    assert np.array_equal(tiles, np.array(cut))
    assert np.count_nonzero(np.isfinite(image)) == tiles.size
