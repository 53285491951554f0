"""The picture of the distributions: a window a filter, its density in the colour of its group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.snapshot import GROUP_DEAD
from tensorview.worker.pictures import colours, props
from tensorview.worker.pictures.content import Cells, cells, gather
from tensorview.worker.pictures.groups import group_keys
from tensorview.worker.pictures.legend import Key
from tensorview.worker.pictures.scene import SUPERSAMPLING, Eye

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    from tensorview.worker.frame import Frame
    from tensorview.worker.pictures.content import Place
    from tensorview.worker.pictures.part import Part

TITLE = "Distribution of activations"
BORDER = 0.01
ZEROS_LIGHTER = 0.5
"""How much lighter the bar of zeros is than the density."""


def draw(part: Part, frame: Frame, *, last: Frame) -> None:
    """Draw the distributions of a frame.

    Args:
        part: of a picture, empty.
        frame: what to draw.
        last: its groups are in the legend, too.
    """
    found = _gather(frame)
    if not found:
        part.nothing()
        return
    grid = part.grid(len(found))
    for (place, shapes), slot in zip(found, grid, strict=True):
        if shapes is None:
            part.absent(slot, place.name, lacks="activations")
            continue
        x0, x1, y0, y1 = place.bounds[:4]
        renderer, projection = part.scene.panel(
            slot.rectangle,
            bounds=(x0 - BORDER, x1 + BORDER, y0 - BORDER, y1 + BORDER, 0, 0),
            eye=Eye(),
            background=colours.PAGE,
        )
        part.panel_title(slot, place)
        windows = _windows(shapes)
        side = projection.scale * float(windows[0, 1] - windows[0, 0])
        corners = _corners(windows)
        is_dead = shapes.data["group"][::2, None] == GROUP_DEAD
        fill = np.where(is_dead, colours.UNDEFINED, colours.WINDOW)
        renderer.AddActor(props.quads(corners, colours=fill))
        tone = colours.group_colours(shapes.data["group"])
        tone[1::2] = colours.lighter(tone[1::2], by=ZEROS_LIGHTER)
        renderer.AddActor(props.strips(shapes, colours=tone))
        ids = 4 * np.arange(len(windows))[:, None, None]
        edges = (ids + np.array([[0, 1], [1, 2], [2, 3], [3, 0]])).reshape(-1, 2)
        line = np.broadcast_to(np.array(colours.LINE), (len(edges), 3))
        width = SUPERSAMPLING * part.unit * min(1.0, side / 24)
        renderer.AddActor(
            props.lines(corners.reshape(-1, 3), edges, colours=line, width=max(width, 1.0))
        )
    groups = [shapes.data["group"] for _, shapes in found + _gather(last) if shapes is not None]
    part.legend.keys(group_keys(np.concatenate(groups)), title="density, by group")
    zeros = tuple(colours.lighter(colours.NO_GROUP, by=ZEROS_LIGHTER).tolist())
    part.legend.keys([Key(zeros, "share of zeros")], title="bar at the left")
    part.legend.note(
        "x: least to largest activation\nof each filter, y: density\nby its peak; bar: 0 to 100 %"
    )


def _gather(frame: Frame) -> list[tuple[Place, Cells | None]]:
    return gather("distribution", frame, from_cells=_shapes, from_tiles=_no_atlas)


def _shapes(polydata: vtkPolyData, layer: int) -> Cells | None:
    return cells(polydata, "strips", layer=layer)


def _no_atlas(_: object) -> Cells:
    raise AssertionError("distributions have no atlas")


def _windows(shapes: Cells) -> NDArray[Any]:
    """Return the squares that pairs of density and bar stand in, ``(filters, 4)``: x0 x1 y0 y1.

    The density ends at the right edge, and the bar begins at the left one.
    """
    starts = np.cumsum(shapes.sizes) - shapes.sizes
    points = shapes.points[shapes.connectivity]
    x0 = np.minimum.reduceat(points[:, 0], starts[::2])
    x1 = np.maximum.reduceat(points[:, 0], starts[::2])
    x0 = np.minimum(x0, np.minimum.reduceat(points[:, 0], starts)[1::2])
    y0 = np.minimum.reduceat(points[:, 1], starts)[::2]
    return np.stack([x0, x1, y0, y0 + (x1 - x0)], axis=1)


def _corners(windows: NDArray[Any]) -> NDArray[Any]:
    x0, x1, y0, y1 = windows.T
    z = np.full_like(x0, -0.01)
    corners = np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])
    return corners.transpose(2, 0, 1)
