"""The picture of the trajectories: every path in a box of its own, seen from a corner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.worker.datasets import arrays
from tensorview.worker.paths import read_paths
from tensorview.worker.pictures import colours, props
from tensorview.worker.pictures.content import Place, layers, places, reading_order
from tensorview.worker.pictures.legend import Bar, Key
from tensorview.worker.pictures.scene import SUPERSAMPLING, Eye, Rectangle, box_corners
from tensorview.worker.pictures.ticks import label, ticks
from tensorview.worker.views.trajectory import BOX_SHARE, removals

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkRenderingCore import vtkRenderer

    from tensorview.worker.frame import Frame
    from tensorview.worker.paths import Path
    from tensorview.worker.pictures.part import Part, Slot

TITLE = "Trajectory of the weights"
EYE = Eye(elevation=24.0, azimuth=-32.0)
LINE_PIXELS, SHADOW_PIXELS, JUMP_PIXELS = 3.4, 1.4, 1.2
DOT_PIXELS, MARK_PIXELS = 5.5, 6.0
LABELLED = 12.0
"""Least width of a panel whose axes are named, in font sizes."""
SHADOW = (0.8, 0.81, 0.83)


class _Path(NamedTuple):
    """One path and its box.

    Attributes:
        place: what to write above it.
        segments: points between removals, shape ``(n, 3)`` each, none empty.
        steps: of each, shape ``(n,)``.
        begins: whether the first segment, too, follows a removal.
        box: ``x0 x1 y0 y1 z0 z1``.
        axes: what each axis is.
    """

    place: Place
    segments: list[NDArray[Any]]
    steps: list[NDArray[Any]]
    begins: bool
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
    keys = [
        Key(colours.ramp_colour(0, colours.STEPS), "first capture", "dot"),
        Key(colours.ramp_colour(1, colours.STEPS), "last capture", "dot"),
        Key(SHADOW, "shadow on the floor", "line"),
    ]
    if any(path.segments[not path.begins :] for path in paths):
        keys.append(Key(colours.INK, "pruned", "dot"))
    part.legend.keys(keys)


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
    floor = np.array([0, 0, path.box[4]])
    for points, steps in zip(path.segments, path.steps, strict=True):
        if len(points) > 1:
            _add_line(
                renderer,
                points * [1, 1, 0] + floor,
                tone=SHADOW,
                width=SHADOW_PIXELS * SUPERSAMPLING * thin,
            )
            tones = colours.ramp_colours(
                steps, colours.STEPS, low=0, high=end, not_finite=colours.UNDEFINED
            )
            radius = LINE_PIXELS / 2 * thin * pixel
            renderer.AddActor(props.tube(points, colours=tones, radius=radius))
    for before, after in zip(path.segments, path.segments[1:], strict=False):
        jump = np.stack([before[-1], after[0]])
        width = JUMP_PIXELS * SUPERSAMPLING * thin
        _add_line(renderer, jump, tone=colours.INK, width=width)
    radius = DOT_PIXELS * thin * pixel
    for index in (0, -1) if path.segments else ():
        # The first of all captures is the last one, too.
        share = 1.0 if end <= 1 else float(path.steps[index][index]) / end
        colour = colours.ramp_colour(share, colours.STEPS)
        renderer.AddActor(props.ball(path.segments[index][index], radius=radius, colour=colour))
    for points in path.segments[not path.begins :]:
        # Larger, since it may be the last one, too.
        centre, radius = points[0], MARK_PIXELS * thin * pixel
        renderer.AddActor(props.ball(centre, radius=radius, colour=colours.INK))
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


def _add_line(
    renderer: vtkRenderer, points: NDArray[Any], *, tone: colours.Colour, width: float
) -> None:
    count = len(points)
    ids = np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
    tones = np.broadcast_to(np.array(tone), (count - 1, 3))
    renderer.AddActor(props.lines(points, ids, colours=tones, width=width))


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
    panels = places(polydata)
    found = [(path, panels[path.layer]) for path in read_paths(polydata)]
    found.sort(key=lambda entry: (reading_order(entry[1]), entry[0].subspace))
    paths = [_read(polydata, path, place=place, until=until) for path, place in found]
    if not any(path.segments for path in paths):
        return []
    return paths


def _read(polydata: Any, path: Path, *, place: Place, until: int) -> _Path:
    field, data = arrays(polydata.GetFieldData()), arrays(polydata.GetPointData())
    points = vtk_to_numpy(polydata.GetPoints().GetData()).astype(float)
    steps = np.asarray(data["step"])
    past = [own for ids in path.segments if len(own := ids[steps[ids] <= until])]
    subspace = str(field["subspaces"][path.cell])
    shares = np.asarray(field["explained_variance"]).reshape(-1, 3)[path.cell]
    axes = [f"PC{i + 1}" for i in range(3)]
    title = f"{place.name}  {subspace}"
    if subspace != "PCA":
        axes = [f"{name}]" for name in subspace.rstrip("]").split("] ")]
    elif np.isfinite(shares).all():
        axes = [f"{name} {share:.0%}" for name, share in zip(axes, shares, strict=True)]
        title += f"  {shares.sum():.0%} of variance"
    if past and path.subspace == 0 and "pruned" in data:  # the same for all of a layer
        # Of points that are not drawn, too: weights may be not finite right after a removal.
        pruned = data["pruned"][path.ids[0] : past[-1][-1] + 1]
        said = removals(pruned, happened=bool(past[not path.begins :]))
        title += f"  {said}" * bool(said)
    return _Path(
        place=Place(place.name, title, place.bounds),
        segments=[points[ids] for ids in past],
        steps=[steps[ids].astype(float) for ids in past],
        begins=path.begins,
        box=_box(points[path.ids], place),
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
