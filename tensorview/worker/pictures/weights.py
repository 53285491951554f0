"""The picture of the weights: blocks seen from above at a tilt, large layers as images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.worker.pictures import colours, props
from tensorview.worker.pictures.content import Cells, Place, Tiles, cells, gather, header
from tensorview.worker.pictures.page import Key, Page
from tensorview.worker.pictures.scene import Eye

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    from tensorview.worker.frame import Frame

EYE = Eye(elevation=64.0)
DEPTH = (-0.1, 0.13)
"""Heights that the panel has room for, in panel units: a weight at the end of its range is 0.12."""
BORDER = 0.035


def draw(frame: Frame, *, size: tuple[int, int]) -> NDArray[Any]:
    """Draw the weights of a frame."""
    page = Page("Weights", header=header(frame), size=size)
    found: list[tuple[Place, Cells | Tiles]] = gather(
        "weights", frame, from_cells=_boxes, from_tiles=lambda tiles: tiles
    )
    if not found:
        page.nothing()
        return page.render()
    tall = (1 + 2 * BORDER) * np.sin(np.radians(EYE.elevation))
    tall += (DEPTH[1] - DEPTH[0]) * np.cos(np.radians(EYE.elevation))
    broken = crowded = False
    grid = page.grid(len(found), aspect=(1 + 2 * BORDER) / tall)
    for (place, content), slot in zip(found, grid, strict=True):
        x0, x1, y0, y1 = place.bounds[:4]
        bounds = (x0 - BORDER, x1 + BORDER, y0 - BORDER, y1 + BORDER, *DEPTH)
        renderer, projection = page.scene.panel(
            slot.rectangle, bounds=bounds, eye=EYE, background=colours.PANEL
        )
        page.panel_title(slot, place)
        if isinstance(content, Tiles):
            width = projection.scale * (content.extent[1] - content.extent[0])
            crowded |= width < content.between().shape[1]
            pixels, has_broken = _image(content, width=width)
            renderer.AddActor(props.image(pixels, content.extent, screen_width=width))
            broken |= has_broken
        else:
            values = content.data["weight_scaled"]
            props.light(renderer)
            renderer.AddActor(props.strips(content, colours=_colours(values), lit=True))
            broken |= not np.isfinite(values).all()
    page.colour_bar(
        colours.WEIGHTS,
        title="weight\nby range of its layer",
        low=-1,
        high=1,
        labels=[(-1, "-range"), (-0.5, ""), (0, "0"), (0.5, ""), (1, "+range")],
    )
    if broken:
        page.legend([Key(colours.NOT_FINITE, "not finite")])
    if crowded:
        page.note("where a pixel holds several\nweights: the furthest from 0")
    return page.render()


def _boxes(polydata: vtkPolyData, layer: int) -> Cells | None:
    return cells(polydata, "strips", layer=layer)


def _colours(scaled: NDArray[Any]) -> NDArray[Any]:
    return colours.ramp_colours(
        scaled, colours.WEIGHTS, low=-1, high=1, not_finite=colours.NOT_FINITE
    )


def _image(tiles: Tiles, *, width: float) -> tuple[NDArray[Any], bool]:
    """Colour an image, and say whether any weight in it is not finite."""
    values, empty = _shrunk(tiles.pixels["weight"], _between_weights(tiles), width=width)
    pixels = _colours(values / tiles.color_range[1])
    pixels[empty] = colours.PANEL
    return pixels, bool((np.isnan(values) & ~empty).any())


def _between_weights(tiles: Tiles) -> NDArray[Any]:
    """Find the pixels of an image that hold no weight, shape ``(height, width)``, bool."""
    columns, _, width, height, gap, count = tiles.windows
    row, column = np.ogrid[: tiles.tile_height, : tiles.tile_width]
    window = row // (height + gap) * columns + column // (width + gap)
    outside = (row % (height + gap) >= height) | (column % (width + gap) >= width)
    left, top = tiles.corners()
    result = tiles.between()
    rows = top[:, None, None] + np.arange(tiles.tile_height)[:, None]
    result[rows, left[:, None, None] + np.arange(tiles.tile_width)] = outside | (window >= count)
    return result


def _shrunk(
    values: NDArray[Any], empty: NDArray[Any], *, width: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make an image no wider than it is drawn: of all weights in a pixel, the furthest from zero.

    A mean would turn every large layer white. What is not finite counts as furthest.

    Args:
        values: shape ``(height, width)``.
        empty: where there is no weight, same shape.
        width: in pixels of the picture that it is drawn at.

    Returns:
        Both, smaller; NaN stands for any value that is not finite.
    """
    share = width / values.shape[1]
    shares = min(1.0, share * np.sin(np.radians(EYE.elevation))), min(1.0, share)
    finite = np.isfinite(values)
    known = np.where(finite & ~empty, values, 0)

    def over_blocks(reduce: np.ufunc, of: NDArray[Any]) -> NDArray[Any]:
        for axis, side in enumerate(of.shape):
            blocks = max(1, round(side * shares[axis]))
            of = reduce.reduceat(of, np.arange(blocks) * side // blocks, axis=axis)
        return of

    highest, lowest = over_blocks(np.maximum, known), over_blocks(np.minimum, known)
    furthest = np.where(highest > -lowest, highest, lowest)
    broken = over_blocks(np.logical_or, ~finite & ~empty)
    return np.where(broken, np.nan, furthest), over_blocks(np.logical_and, empty)
