"""The picture of the weights: blocks seen from above at a tilt, large layers as images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensorview.worker.pictures import colours, props
from tensorview.worker.pictures.content import Cells, Place, Tiles, cells, gather
from tensorview.worker.pictures.legend import Bar, Key
from tensorview.worker.pictures.scene import Eye

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData
    from vtkmodules.vtkRenderingCore import vtkActor

    from tensorview.worker.frame import Frame
    from tensorview.worker.pictures.part import Part

    _Content: TypeAlias = "Cells | Tiles"

TITLE = "Weights"
EYE = Eye(elevation=64.0)
DEPTH = (-0.1, 0.13)
"""Heights that the panel has room for, in panel units: a weight at the end of its range is 0.12."""
BORDER = 0.035
LEAST_BOX = 1.5
"""Width of a weight, in pixels, below which only its top is drawn: a sixth of the work."""


def draw(part: Part, frame: Frame, *, last: Frame) -> None:
    """Draw the weights of a frame.

    Args:
        part: of a picture, empty.
        frame: what to draw.
        last: where the ranges of layers are taken from.
    """
    found = _gather(frame)
    if not found:
        part.nothing()
        return
    ranges = {place.name: _range(content) for place, content in _gather(last)}
    tall = (1 + 2 * BORDER) * np.sin(np.radians(EYE.elevation))
    tall += (DEPTH[1] - DEPTH[0]) * np.cos(np.radians(EYE.elevation))
    broken = crowded = False
    grid = part.grid(len(found), aspect=(1 + 2 * BORDER) / tall)
    for (place, flat), slot in zip(found, grid, strict=True):
        if flat is None:
            part.absent(slot, place.name, lacks="weights")
            continue
        content = _filling(flat, place)
        own = _range(content)
        full = ranges.get(place.name) or own
        part.panel_title(slot, _with_range(place, full))
        x0, x1, y0, y1 = place.bounds[:4]
        bounds = (x0 - BORDER, x1 + BORDER, y0 - BORDER, y1 + BORDER, *DEPTH)
        renderer, projection = part.scene.panel(
            slot.rectangle, bounds=bounds, eye=EYE, background=colours.PANEL
        )
        if isinstance(content, Tiles):
            x0, x1, y0, y1 = content.extent
            width, height = projection.scale * (x1 - x0), projection.scale * (y1 - y0)
            crowded |= width < content.between().shape[1]
            size = (height * np.sin(np.radians(EYE.elevation)), width)
            pixels, has_broken = _image(content, size=size, full=full or 1.0)
            renderer.AddActor(props.image(pixels, content.extent, screen_width=width))
            broken |= has_broken
        else:
            share = own / full if own and full else 1.0
            values = content.data["weight_scaled"]
            props.light(renderer)
            blocks = _blocks(content, colours=_colours(values * share), scale=projection.scale)
            blocks.SetScale(1, 1, share)
            renderer.AddActor(blocks)
            broken |= not np.isfinite(values).all()
    marks = [(-1, "-range"), (-0.5, ""), (0, "0"), (0.5, ""), (1, "+range")]
    part.legend.bars(Bar(colours.WEIGHTS, -1, 1, marks), title="weight\nby range of its layer")
    if broken:
        part.legend.keys([Key(colours.NOT_FINITE, "not finite")])
    if crowded:
        part.legend.note("where a pixel holds several\nweights: the furthest from 0")


def _blocks(boxes: Cells, *, colours: NDArray[Any], scale: float) -> vtkActor:
    """Draw boxes, or their tops alone where they are too small for their sides to be seen.

    Args:
        boxes: of a layer, eight points each, the upper ones last.
        colours: shape ``(cells, 3)``.
        scale: pixels a unit of the world.
    """
    corners = boxes.points.reshape(-1, 8, 3)
    if scale * float(np.ptp(corners[0, :, 0])) >= LEAST_BOX:
        return props.strips(boxes, colours=colours, lit=True)
    return props.quads(corners[:, [4, 5, 7, 6]], colours=colours)


def _gather(frame: Frame) -> list[tuple[Place, _Content | None]]:
    return gather("weights", frame, from_cells=_boxes, from_tiles=_tiles)


def _filling(content: _Content, place: Place) -> _Content:
    """Stretch kernels of one row, which have no shape to keep, over the height of their panel."""
    bottom, top = place.bounds[2:4]
    if isinstance(content, Tiles):
        _, _, columns, rows, *_ = content.windows
        x0, x1, _, y1 = content.extent
        return content._replace(extent=(x0, x1, bottom, y1)) if columns > rows == 1 else content
    if content.data["row"].max() > 0 or content.data["col"].max() == 0:
        return content
    points = content.points.copy()
    used = top - float(points[:, 1].min())
    points[:, 1] = top - (top - points[:, 1]) * ((top - bottom) / used)
    return content._replace(points=points)


def _range(content: _Content | None) -> float | None:
    """Return the weight that is shown at the end of the ramp, None where nothing tells it."""
    if content is None:
        return None
    if isinstance(content, Tiles):
        return content.color_range[1]
    scaled = np.nan_to_num(content.data["weight_scaled"], nan=0, posinf=0, neginf=0)
    largest = int(np.abs(scaled).argmax())
    if scaled[largest] == 0:
        return None
    return float(content.data["weight"][largest]) / float(scaled[largest])


def _with_range(place: Place, full: float | None) -> Place:
    """Name the range that colours are drawn with, which is the last part of the title."""
    head, sign, _ = place.title.rpartition("±")
    return place._replace(title=f"{head}{sign}{full:.3g}") if sign and full else place


def _boxes(polydata: vtkPolyData, layer: int) -> _Content | None:
    return cells(polydata, "strips", layer=layer)


def _tiles(tiles: Tiles) -> _Content:
    return tiles


def _colours(scaled: NDArray[Any]) -> NDArray[Any]:
    return colours.ramp_colours(
        scaled, colours.WEIGHTS, low=-1, high=1, not_finite=colours.NOT_FINITE
    )


def _image(tiles: Tiles, *, size: tuple[float, float], full: float) -> tuple[NDArray[Any], bool]:
    """Colour an image by *full* range, and say whether any weight in it is not finite."""
    values, empty = _shrunk(tiles.pixels["weight"], _between_weights(tiles), size=size)
    pixels = _colours(values / full)
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
    values: NDArray[Any], empty: NDArray[Any], *, size: tuple[float, float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make an image no larger than it is drawn: of all weights in a pixel, the furthest from zero.

    A mean would turn every large layer white. What is not finite counts as furthest.

    Args:
        values: shape ``(height, width)``.
        empty: where there is no weight, same shape.
        size: height and width in pixels of the picture that it is drawn at.

    Returns:
        Both, smaller; NaN stands for any value that is not finite.
    """
    shares = [min(1.0, drawn / side) for drawn, side in zip(size, values.shape, strict=True)]
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
