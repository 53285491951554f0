"""The picture of the trajectories: every path in a box of its own, seen from a corner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.worker.datasets import arrays
from tensorview.worker.pictures import colours, props
from tensorview.worker.pictures.content import (
    Cells,
    Place,
    cells,
    layers,
    places,
    reading_order,
)
from tensorview.worker.pictures.legend import Bar, Key
from tensorview.worker.pictures.scene import SUPERSAMPLING, Eye, Rectangle, box_corners
from tensorview.worker.pictures.ticks import label, ticks
from tensorview.worker.views.trajectory import BOX_SHARE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkRenderingCore import vtkRenderer

    from tensorview.worker.frame import Frame
    from tensorview.worker.pictures.part import Part, Slot

TITLE = "Trajectory of the weights"
EYE = Eye(elevation=24.0, azimuth=-32.0)
LINE_PIXELS, SHADOW_PIXELS, DOT_PIXELS = 3.4, 1.4, 5.5
LABELLED = 12.0
"""Least width of a panel whose axes are named, in font sizes."""
SHADOW = (0.8, 0.81, 0.83)


class _Path(NamedTuple):
    """One path and its box.

    Attributes:
        place: what to write above it.
        points: shape ``(n, 3)``.
        steps: shape ``(n,)``.
        box: ``x0 x1 y0 y1 z0 z1``.
        axes: what each axis is.
    """

    place: Place
    points: NDArray[Any]
    steps: NDArray[Any]
    box: tuple[float, ...]
    axes: list[str]


def draw(part: Part, frame: Frame, *, last: Frame) -> None:
    """Draw the trajectories of a frame.

    Each capture turns the axes, and lays the whole path anew. So that a film shows one movement,
    paths, axes and boxes are those of *last*, up to the step of *frame*.

    Args:
        part: of a picture, empty.
        frame: what to draw.
        last: whose paths are shown; one that begins after *frame* knows nothing of it.
    """
    source = last if _paths(last, until=frame.step) else frame
    paths = _paths(source, until=frame.step)
    if not paths:
        part.nothing()
        return
    polydata: Any = source.datasets["trajectory"]
    end = float(arrays(polydata.GetFieldData())["color_range"][1])
    unit_box = box_corners((0, 1, 0, 1, 0, 1)) @ EYE.axes()[:2].T
    width, height = np.ptp(unit_box, axis=0)
    rows: list[_Path | Place] = [*paths]
    known = {path.place.name for path in paths}
    rows += [place for place in layers(source) if place.name not in known]
    rows.sort(key=lambda row: reading_order(row.place if isinstance(row, _Path) else row))
    for row, slot in zip(rows, part.grid(len(rows), aspect=float(width / height)), strict=True):
        if isinstance(row, _Path):
            _draw_path(part, slot, row, end=end)
        else:
            part.absent(slot, row.name, lacks="path")
    marks = [(step, label(step)) for step in ticks(0, end, count=5) if step == round(step)]
    part.legend.bars(Bar(colours.STEPS, 0, end, marks), title="step")
    part.legend.keys(
        [
            Key(colours.ramp_colour(0, colours.STEPS), "first capture", "dot"),
            Key(colours.ramp_colour(1, colours.STEPS), "last capture", "dot"),
            Key(SHADOW, "shadow on the floor", "line"),
        ]
    )


def _draw_path(part: Part, slot: Slot, path: _Path, *, end: float) -> None:
    part.panel_title(slot, path.place)
    font = part.small_font(slot)
    labelled = slot.rectangle.width > LABELLED * font
    left, right, bottom, top = slot.rectangle
    room = font if labelled else 0.0  # for names of axes, at the left and below
    rectangle = Rectangle(left + 1.6 * room, right - 0.4 * room, bottom + 1.2 * room, top)
    renderer, projection = part.scene.panel(
        rectangle, bounds=_grown(path.box), eye=EYE, background=colours.PAGE
    )
    props.light(renderer)
    pixel = 1 / projection.scale
    thin = min(1.0, slot.rectangle.width / (300 * part.unit)) ** 0.5 * part.unit
    _add_box(renderer, path, width=SUPERSAMPLING * thin)
    shadow = path.points * [1, 1, 0] + [0, 0, path.box[4]]
    count = len(path.points)
    if count > 1:
        ids = np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
        tone = np.broadcast_to(np.array(SHADOW), (count - 1, 3))
        width = SHADOW_PIXELS * SUPERSAMPLING * thin
        renderer.AddActor(props.lines(shadow, ids, colours=tone, width=width))
        tones = colours.ramp_colours(
            path.steps, colours.STEPS, low=0, high=end, not_finite=colours.UNDEFINED
        )
        radius = LINE_PIXELS / 2 * thin * pixel
        renderer.AddActor(props.tube(path.points, colours=tones, radius=radius))
    for index in (0, -1)[: len(path.points)]:
        # The first of all captures is the last one, too.
        share = 1.0 if end <= 1 else float(path.steps[index]) / end
        colour = colours.ramp_colour(share, colours.STEPS)
        radius = DOT_PIXELS * thin * pixel
        renderer.AddActor(props.ball(path.points[index], radius=radius, colour=colour))
    if labelled:
        _label_axes(part, path, projection(box_corners(path.box)), font=font, slot=slot)


def _grown(box: tuple[float, ...]) -> NDArray[Any]:
    """Give the edges of a box room for half their width."""
    return np.array(box) + 0.01 * (box[1] - box[0]) * np.array([-1, 1, -1, 1, -1, 1])


def _add_box(renderer: vtkRenderer, path: _Path, *, width: float) -> None:
    corners = box_corners(path.box)
    edges = np.array([(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit])
    tones = np.broadcast_to(np.array(colours.LINE), (len(edges), 3))
    renderer.AddActor(props.lines(corners, edges, colours=tones, width=width))


def _label_axes(part: Part, path: _Path, corners: NDArray[Any], *, font: float, slot: Slot) -> None:
    """Write along the lowest edge of each horizontal axis, and the leftmost vertical one."""
    middle = corners.mean(axis=0)
    for axis, bit in enumerate((1, 2, 4)):
        edges = [(corners[i], corners[i | bit]) for i in range(8) if not i & bit]
        side = 0 if bit == 4 else 1
        start, end = min(edges, key=lambda edge: edge[0][side] + edge[1][side])
        at = (start + end) / 2
        outwards = np.array([end[1] - start[1], start[0] - end[0]]) / np.hypot(*(end - start))
        at += outwards * np.copysign(0.6 * font, outwards @ (at - middle))
        align = "centre" if bit == 4 else "right" if at[0] < middle[0] else "left"
        room = {
            "centre": slot.rectangle.height,
            "right": at[0] - slot.rectangle.left,
            "left": slot.rectangle.left + slot.room - at[0],
        }[align]
        text = path.axes[axis]
        if part.canvas.width_of(text, size=font) > room:
            text = part.canvas.fit(text.partition(" ")[0], width=room, size=font)
        part.canvas.text(
            float(at[0]),
            float(at[1]),
            text,
            size=font,
            colour=colours.MUTED,
            align=align,
            vertical="bottom" if bit == 4 else "top",
            angle=90 if bit == 4 else 0,
        )


def _paths(frame: Frame, *, until: int) -> list[_Path]:
    """Read every path up to a step, in the order of panels and subspaces.

    Returns:
        None at all where all of them begin later.
    """
    polydata: Any = frame.datasets["trajectory"]
    found: list[tuple[tuple[float, float], int, _Path]] = []
    for layer, place in enumerate(places(polydata)):
        for kind in ("verts", "lines"):
            group = cells(polydata, kind, layer=layer)
            for row in range(0 if group is None else len(group.sizes)):
                assert group is not None
                path = _path(polydata, group, row=row, place=place)
                subspace = int(group.data["subspace"][row])
                found.append((reading_order(place), subspace, path))
    paths = [path for *_, path in sorted(found, key=lambda entry: entry[:2])]
    past = [path.steps <= until for path in paths]
    if not any(steps.any() for steps in past):
        return []
    return [
        path._replace(points=path.points[steps], steps=path.steps[steps])
        for path, steps in zip(paths, past, strict=True)
    ]


def _path(polydata: Any, group: Cells, *, row: int, place: Place) -> _Path:
    field = arrays(polydata.GetFieldData())
    subspace = str(field["subspaces"][group.first + row])
    shares = np.asarray(field["explained_variance"]).reshape(-1, 3)[group.first + row]
    begin = int(group.sizes[:row].sum())
    ids = group.connectivity[begin : begin + int(group.sizes[row])]
    points = group.points[ids].astype(float)
    axes = [f"PC{i + 1}" for i in range(3)]
    title = f"{place.name}  {subspace}"
    if subspace != "PCA":
        axes = [f"{name}]" for name in subspace.rstrip("]").split("] ")]
    elif np.isfinite(shares).all():
        axes = [f"{name} {share:.0%}" for name, share in zip(axes, shares, strict=True)]
        title += f"  {shares.sum():.0%} of variance"
    return _Path(
        place=Place(place.name, title, place.bounds),
        points=points,
        steps=np.asarray(group.point_data["step"])[ids].astype(float),
        box=_box(points, place),
        axes=axes,
    )


def _box(points: NDArray[Any], place: Place) -> tuple[float, ...]:
    """Return the box of the subspace that *points* lie in."""
    left, _, bottom, _, low, high = place.bounds
    side = high - low
    pitch = 1 / max(1, round(BOX_SHARE / side)) if side < 1 else 1.0
    inset = (pitch - side) / 2
    column, row = np.floor((points[0, :2] - [left, bottom]) / pitch * (1 - 1e-6))
    x0, y0 = left + column * pitch + inset, bottom + row * pitch + inset
    return (x0, x0 + side, y0, y0 + side, low, high)
