"""Pages: one view, or several side by side, below one header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorview.worker.frame import POLYDATA_CHANNELS
from tensorview.worker.pictures import (
    colours,
    correlation,
    distribution,
    maps,
    scalars,
    trajectory,
    weights,
)
from tensorview.worker.pictures.content import header
from tensorview.worker.pictures.part import Part
from tensorview.worker.pictures.scene import Rectangle, Scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tensorview.worker.frame import Frame
    from tensorview.worker.pictures.content import Header
    from tensorview.worker.pictures.scene import Stage

VIEWS = POLYDATA_CHANNELS
DESIGN_SIZE = (1280, 960)
"""Picture for which the sizes below are given, in pixels; others scale."""
MARGIN, HEADER, PARTS_GAP = 28.0, 84.0, 30.0
UNIT_OF_PART = 0.82
"""By how much letters and legends are smaller where a view shares a page."""

_MODULES: dict[str, Any] = {
    "weights": weights,
    "trajectory": trajectory,
    "distribution": distribution,
    "correlation": correlation,
    "scalars": scalars,
}


def draw(
    views: Sequence[str],
    frame: Frame,
    *,
    stage: Stage,
    title: str = "",
    last: Frame | None = None,
    sample: int | None = None,
) -> NDArray[Any]:
    """Draw a page.

    Ends the process where there is no OpenGL library: ask `opengl.missing` first.

    Args:
        views: one to four of `VIEWS`, in reading order.
        frame: of any source: made, read back, or received.
        stage: where to render; from about 640 x 480 on, and twice that for several views, all
            text has its place.
        title: of a page of several views; a view alone has its own.
        last: the frame that ranges, axes and boxes are taken from, so that they are the same on
            every page of a film; None for *frame* itself.
        sample: of the probe, for ``maps``; None for the mean over it.

    Returns:
        Shape ``(height, width, 3)``, uint8, row 0 at the top. Same frames, same pixels on the same
        machine.

    Raises:
        ConfigurationError: the frame has no maps of *sample*.
    """
    scene = Scene(stage, background=colours.PAGE)
    unit = min(side / design for side, design in zip(stage.size, DESIGN_SIZE, strict=True))
    alone = len(views) == 1
    _add_header(scene, _title(views[0], sample) if alone else title, header(frame), unit=unit)
    for view, rectangle in zip(views, _rectangles(len(views), stage.size, unit), strict=True):
        part = Part(
            scene,
            rectangle,
            unit=unit if alone else unit * UNIT_OF_PART,
            title="" if alone else _title(view, sample),
        )
        if view == "maps":
            maps.draw(part, frame, last=last or frame, sample=sample)
        else:
            _MODULES[view].draw(part, frame, last=last or frame)
    return scene.render()


def _title(view: str, sample: int | None) -> str:
    return maps.title(sample) if view == "maps" else str(_MODULES[view].TITLE)


def _rectangles(count: int, size: tuple[int, int], unit: float) -> list[Rectangle]:
    """Divide a page among parts: four in two rows, fewer in one."""
    width, height = size
    margin, gap = MARGIN * unit, PARTS_GAP * unit
    columns = 2 if count == 4 else count
    rows = -(-count // columns)
    top = height - HEADER * unit
    part_width = (width - 2 * margin - (columns - 1) * gap) / columns
    part_height = (top - margin - (rows - 1) * gap) / rows
    result = []
    for index in range(count):
        left = margin + index % columns * (part_width + gap)
        high = top - index // columns * (part_height + gap)
        result.append(Rectangle(left, left + part_width, high - part_height, high))
    return result


def _add_header(scene: Scene, title: str, said: Header, *, unit: float) -> None:
    width, height = scene.size
    margin, canvas = MARGIN * unit, scene.canvas
    line = height - margin - 16 * unit
    canvas.text(margin, line, title, size=26 * unit, bold=True)
    used = canvas.width_of(title, size=26 * unit, bold=True) + 16 * unit
    run = canvas.fit(said.run, width=width - 2 * margin - used, size=22 * unit)
    canvas.text(margin + used, line, run, size=22 * unit, colour=colours.MUTED)
    canvas.text(
        margin,
        line - 13 * unit,
        said.progress,
        size=16 * unit,
        colour=colours.MUTED,
        vertical="top",
    )
