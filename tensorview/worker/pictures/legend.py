"""What colours mean: bars, keys and notes, from the top of a box down, column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tensorview.worker.pictures import colours
from tensorview.worker.pictures.scene import Rectangle
from tensorview.worker.pictures.ticks import label, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorview.worker.pictures.canvas import Canvas
    from tensorview.worker.pictures.colours import Colour, Ramp

COLUMN, COLUMN_GAP = 168.0, 12.0
"""In units of the part, like all lengths here."""
BAR, BAR_WIDTH = 260.0, 20.0
BAR_SHARE = 0.25
"""Longest bar as a share of a box that has one column."""
BAR_STEPS = 128
FONT, SMALL_FONT = 13.0, 11.5
TITLE_PITCH, KEY_PITCH, NOTE_PITCH = 19.0, 19.0, 16.0


class Key(NamedTuple):
    """A line of a legend.

    Attributes:
        colour: of its swatch.
        label: behind it.
        mark: ``"box"``, ``"line"``, ``"dashed"``, ``"dot"`` or ``"frame"``.
    """

    colour: Colour
    label: str
    mark: str = "box"


class Bar(NamedTuple):
    """A colour bar.

    Attributes:
        ramp: of its colours.
        low: value at its lower end.
        high: value at its upper end.
        labels: values and what to write beside them; default: round numbers.
    """

    ramp: Ramp
    low: float
    high: float
    labels: Sequence[tuple[float, str]] = ()


class Legend:
    """A box that is filled by calls. What does not fit is counted or left out, never drawn beyond.

    Args:
        canvas: of the picture.
        box: as wide as one column, or as several.
        unit: pixels of the picture for one of the lengths above.
    """

    def __init__(self, canvas: Canvas, box: Rectangle, *, unit: float) -> None:
        self._canvas = canvas
        self._unit = unit
        self._box = box
        self._left, self._top = box.left, box.top
        gaps = (box.width + COLUMN_GAP * unit) / ((COLUMN + COLUMN_GAP) * unit)
        self._columns = max(1, int(gaps + 1e-6))

    def bars(self, *bars: Bar, title: str) -> None:
        """Draw colour bars beside each other.

        Args:
            bars: one or two.
            title: what is coloured; lines are divided by a line feed.
        """
        unit, box = self._unit, self._box
        self._title(title)
        room = BAR_SHARE * box.height if self._columns == 1 else self._top - box.bottom - 14 * unit
        length = min(BAR * unit, room)
        for index, bar in enumerate(bars):
            self._bar(bar, left=self._left + index * COLUMN / 2 * unit, length=length)
        self._top -= length + 30 * unit

    def keys(self, keys: Sequence[Key], *, title: str = "") -> None:
        """List what single colours mean; what does not fit is counted."""
        if not keys:
            return
        unit, pitch = self._unit, KEY_PITCH * self._unit
        self._start((TITLE_PITCH + 4) * unit * bool(title) + min(3, len(keys)) * pitch)
        if title:
            self._title(title)
        for number, key in enumerate(keys):
            self._start(pitch)
            y = self._top - 8 * unit
            if self._is_last_line(pitch) and number < len(keys) - 1:
                self._text(f"and {len(keys) - number} more", y=y, colour=colours.MUTED)
                self._top -= pitch
                break
            left, right = self._left, self._left + BAR_WIDTH * unit
            self._swatch(key, Rectangle(left, right, y - 7 * unit, y + 7 * unit))
            self._text(key.label, y=y, indent=BAR_WIDTH + 9)
            self._top -= pitch
        self._top -= 10 * unit

    def note(self, text: str) -> None:
        """Write small lines, divided by line feeds, where there is room for all of them."""
        unit, lines = self._unit, text.split("\n")
        height = len(lines) * NOTE_PITCH * unit
        self._start(height)
        if self._top - height < self._box.bottom - 2 * unit:
            return
        for line in lines:
            self._canvas.text(
                self._left,
                self._top,
                self._canvas.fit(line, width=COLUMN * unit, size=SMALL_FONT * unit),
                size=SMALL_FONT * unit,
                colour=colours.MUTED,
                vertical="top",
            )
            self._top -= NOTE_PITCH * unit
        self._top -= 10 * unit

    def _start(self, height: float) -> None:
        """Go to the next column, where there is one, unless *height* fits into this one."""
        pitch = (COLUMN + COLUMN_GAP) * self._unit
        used = round((self._left - self._box.left) / pitch) + 1
        fits = self._top - height >= self._box.bottom - 1
        if not fits and used < self._columns and self._top < self._box.top:
            self._left, self._top = self._left + pitch, self._box.top

    def _is_last_line(self, pitch: float) -> bool:
        used = round((self._left - self._box.left) / ((COLUMN + COLUMN_GAP) * self._unit)) + 1
        return used == self._columns and self._top - 2 * pitch < self._box.bottom - 1

    def _title(self, title: str) -> None:
        unit = self._unit
        for line in title.split("\n"):
            self._canvas.text(
                self._left,
                self._top,
                self._canvas.fit(line, width=COLUMN * unit, size=FONT * unit, bold=True),
                size=FONT * unit,
                bold=True,
                vertical="top",
            )
            self._top -= TITLE_PITCH * unit
        self._top -= 4 * unit

    def _bar(self, bar: Bar, *, left: float, length: float) -> None:
        unit = self._unit
        top = self._top - 4 * unit
        bottom, right = top - length, left + BAR_WIDTH * unit
        step = length / BAR_STEPS
        self._canvas.rectangles(
            [(left, right, bottom + i * step, bottom + (i + 1) * step) for i in range(BAR_STEPS)],
            colours=colours.ramp_colours(
                (np.arange(BAR_STEPS) + 0.5) / BAR_STEPS,
                bar.ramp,
                low=0,
                high=1,
                not_finite=colours.NOT_FINITE,
            ),
        )
        self._canvas.outline((left, right, bottom, top), colour=colours.LINE)
        few = 5 if length > 150 * unit else 3
        marks = bar.labels or [(v, label(v)) for v in ticks(bar.low, bar.high, count=few)]
        for value, text in marks:
            y = bottom + (value - bar.low) / (bar.high - bar.low) * length
            self._canvas.path([(right, y), (right + 5 * unit, y)], colour=colours.MUTED)
            self._canvas.text(right + 9 * unit, y, text, size=FONT * unit, vertical="centre")

    def _text(
        self, text: str, *, y: float, indent: float = 0.0, colour: Colour = colours.INK
    ) -> None:
        unit = self._unit
        self._canvas.text(
            self._left + indent * unit,
            y,
            self._canvas.fit(text, width=(COLUMN - indent) * unit, size=FONT * unit),
            size=FONT * unit,
            colour=colour,
            vertical="centre",
        )

    def _swatch(self, key: Key, box: Rectangle) -> None:
        middle = (box.bottom + box.top) / 2
        if key.mark == "dashed":
            start, end = (box.left, middle), (box.right, middle)
            self._canvas.dashed(start, end, colour=key.colour, width=self._unit)
        elif key.mark == "line":
            ends = [(box.left, middle), (box.right, middle)]
            self._canvas.path(ends, colour=key.colour, width=3 * self._unit)
        elif key.mark == "dot":
            centre = [((box.left + box.right) / 2, middle)]
            self._canvas.dots(centre, colour=key.colour, radius=5 * self._unit)
        else:
            self._canvas.rectangles([box], colours=key.colour)
            if key.mark == "frame":
                inner = box.grown(-3 * self._unit)
                self._canvas.rectangles([inner], colours=colours.SEQUENTIAL[0][1:])
