"""A page: header, panels in a grid, and at the right what their colours mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tensorview.worker.pictures import colours
from tensorview.worker.pictures.canvas import LEAST_FONT_PIXELS
from tensorview.worker.pictures.scene import Rectangle, Scene
from tensorview.worker.pictures.ticks import label, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tensorview.worker.pictures.colours import Colour, Ramp
    from tensorview.worker.pictures.content import Header, Place

DESIGN_SIZE = (1280, 960)
"""Picture for which the sizes below are given, in pixels; others scale."""
MARGIN, HEADER, LEGEND, GAP = 28.0, 84.0, 168.0, 20.0
PANEL_TITLE = 15.0
"""Largest font of a panel's title; narrower panels have smaller ones."""
NARROWEST_TITLE = 10.5
DETAILS_SIZE = 0.84
"""Font of the second line of a title by that of the first."""
TITLE_LINES = 2.65
"""Height of a panel's two lines of title, in font sizes."""
BAR_STEPS = 128


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


class Slot(NamedTuple):
    """Where a panel goes.

    Attributes:
        rectangle: of the panel, without its title.
        font: size of its title in pixels.
        room: width that its title may take.
    """

    rectangle: Rectangle
    font: float
    room: float


class Page:
    """A page with its header; the rest is added by calls.

    Args:
        title: of the view.
        header: of the frame.
        size: width and height in pixels.
    """

    def __init__(self, title: str, *, header: Header, size: tuple[int, int]) -> None:
        self.scene = Scene(size, background=colours.PAGE)
        self.canvas = self.scene.canvas
        self.unit = min(size[0] / DESIGN_SIZE[0], size[1] / DESIGN_SIZE[1])
        width, height = size
        unit, margin = self.unit, MARGIN * self.unit
        self._legend_left = width - margin - LEGEND * unit
        self._legend_top = height - (HEADER + 14) * unit
        self.area = Rectangle(
            margin, self._legend_left - GAP * unit, margin, height - HEADER * unit
        )
        line = height - margin - 16 * unit
        room = width - 2 * margin
        self.canvas.text(margin, line, title, size=26 * unit, bold=True)
        used = self.canvas.width_of(title, size=26 * unit, bold=True) + 16 * unit
        run = self.canvas.fit(header.run, width=room - used, size=22 * unit)
        self.canvas.text(margin + used, line, run, size=22 * unit, colour=colours.MUTED)
        loss = f"   loss {header.loss:.4g}" if math.isfinite(header.loss) else ""
        self.canvas.text(
            margin,
            line - 13 * unit,
            f"step {header.step:,}{loss}",
            size=16 * unit,
            colour=colours.MUTED,
            vertical="top",
        )

    def render(self) -> NDArray[Any]:
        """Return the picture, shape ``(H, W, 3)``, uint8."""
        return self.scene.render()

    def nothing(self) -> None:
        """Say that the view is empty."""
        width, height = self.scene.size
        self.canvas.text(
            width / 2,
            height / 2,
            "nothing to show",
            size=24 * self.unit,
            colour=colours.MUTED,
            align="centre",
            vertical="centre",
        )

    def grid(self, count: int, *, aspect: float = 1.0, widest: float | None = None) -> list[Slot]:
        """Divide the page into panels, as large as fit.

        Args:
            count: number of panels, at least 1.
            aspect: width of a panel by its height, without title.
            widest: the same, as far as there is room for it; None for *aspect*.
        """
        gap = GAP * self.unit
        best_width, best = 0.0, (1, PANEL_TITLE)
        for columns in range(1, count + 1):
            rows = -(-count // columns)
            room = (self.area.width - (columns - 1) * gap) / columns
            font = self._title_font(room)
            height = (self.area.height - (rows - 1) * gap) / rows - TITLE_LINES * font
            width = min(room, height * aspect)
            if width > 1.04 * best_width:  # else fewer columns, with larger titles
                best_width, best = width, (columns, font)
        columns, font = best
        rows = -(-count // columns)
        height = best_width / aspect
        room = (self.area.width - (columns - 1) * gap) / columns
        width = max(best_width, min(room, height * (widest or aspect)))
        across = self._spread(self.area.width, width, columns)
        down = self._spread(self.area.height, height + TITLE_LINES * font, rows)
        result = []
        for index in range(count):
            left = self.area.left + index % columns * across
            top = self.area.top - TITLE_LINES * font - index // columns * down
            place = (left, left + width, top - height, top)
            room = self.area.right + 0.4 * gap - left
            if columns > 1:
                room = min(room, across - gap)
            result.append(Slot(Rectangle(*map(round, place)), font, room))
        return result

    def _spread(self, room: float, size: float, count: int) -> float:
        """Distance from panel to panel: the least one, plus a share of what is left over."""
        least = size + GAP * self.unit
        return least if count < 2 else min((room - size) / (count - 1), 1.35 * least)

    def _title_font(self, room: float) -> float:
        least = max(NARROWEST_TITLE * self.unit, LEAST_FONT_PIXELS / DETAILS_SIZE)
        return max(least, min(PANEL_TITLE * self.unit, room / 15))

    def small_font(self, slot: Slot) -> float:
        """Return the size for numbers and names of axes in a panel."""
        return max(0.76 * slot.font, 9 * self.unit, LEAST_FONT_PIXELS)

    def panel_title(self, slot: Slot, place: Place) -> None:
        """Write a layer's name above its panel, and below it as much of the details as fits."""
        (left, _, _, top), font, room = slot
        small = DETAILS_SIZE * font
        name = self.canvas.fit(place.name, width=room, size=font, bold=True)
        self.canvas.text(left, top + 1.38 * font, name, size=font, bold=True)
        parts = place.details
        while len(parts) > 1 and self.canvas.width_of("  ".join(parts), size=small) > room:
            parts.pop(0)  # the kind of layer goes first
        details = self.canvas.fit("  ".join(parts), width=room, size=small)
        self.canvas.text(left, top + 0.36 * font, details, size=small, colour=colours.MUTED)

    def chart_title(self, slot: Slot, title: str) -> None:
        """Write one line above a panel."""
        text = self.canvas.fit(title, width=slot.room, size=slot.font, bold=True)
        left, top = slot.rectangle.left, slot.rectangle.top + 0.5 * slot.font
        self.canvas.text(left, top, text, size=slot.font, bold=True)

    def colour_bar(
        self,
        ramp: Ramp,
        *,
        title: str,
        low: float,
        high: float,
        labels: Sequence[tuple[float, str]] = (),
    ) -> None:
        """Draw a colour bar at the top of the legend.

        Args:
            ramp: of the bar.
            title: what is coloured; lines are divided by a line feed.
            low: value at its lower end.
            high: value at its upper end.
            labels: values and what to write beside them; default: round numbers.
        """
        unit = self.unit
        self.legend_title(title)
        left, top = self._legend_left, self._legend_top - 4 * unit
        bottom, right = top - 260 * unit, left + 20 * unit
        step = (top - bottom) / BAR_STEPS
        values = [(i + 0.5) / BAR_STEPS for i in range(BAR_STEPS)]
        colour = [colours.ramp_colour(value, ramp) for value in values]
        self.canvas.rectangles(
            [(left, right, bottom + i * step, bottom + (i + 1) * step) for i in range(BAR_STEPS)],
            colours=colour,
        )
        self.canvas.outline((left, right, bottom, top), colour=colours.LINE)
        marks = labels or [(value, label(value)) for value in ticks(low, high, count=5)]
        for value, text in marks:
            y = bottom + (value - low) / (high - low) * (top - bottom)
            self.canvas.path([(right, y), (right + 5 * unit, y)], colour=colours.MUTED)
            self.canvas.text(
                right + 9 * unit, y, text, size=13 * unit, colour=colours.INK, vertical="centre"
            )
        self._legend_top = bottom - 26 * unit

    def legend_title(self, title: str) -> None:
        """Write what the next part of the legend is about."""
        unit = self.unit
        for line in title.split("\n"):
            self.canvas.text(
                self._legend_left,
                self._legend_top,
                self.canvas.fit(line, width=LEGEND * unit, size=13 * unit, bold=True),
                size=13 * unit,
                bold=True,
                vertical="top",
            )
            self._legend_top -= 19 * unit
        self._legend_top -= 4 * unit

    def legend(self, keys: Sequence[Key], *, title: str = "") -> None:
        """Draw a legend below what is there; what does not fit is counted."""
        if not keys:
            return
        unit = self.unit
        if title:
            self.legend_title(title)
        pitch = 22 * unit
        room = max(1, int((self._legend_top - self.area.bottom) / pitch))
        shown = keys if len(keys) <= room else keys[: room - 1]
        left, right = self._legend_left, self._legend_left + 20 * unit
        for key in shown:
            y = self._legend_top - 8 * unit
            self._swatch(key, Rectangle(left, right, y - 7 * unit, y + 7 * unit))
            text = self.canvas.fit(key.label, width=(LEGEND - 29) * unit, size=13 * unit)
            self.canvas.text(right + 9 * unit, y, text, size=13 * unit, vertical="centre")
            self._legend_top -= pitch
        if len(shown) < len(keys):
            self.canvas.text(
                left,
                self._legend_top - 8 * unit,
                f"and {len(keys) - len(shown)} more",
                size=13 * unit,
                colour=colours.MUTED,
                vertical="centre",
            )
        self._legend_top -= 12 * unit

    def note(self, text: str) -> None:
        """Write small lines, divided by line feeds, below the legend."""
        for line in text.split("\n"):
            self.canvas.text(
                self._legend_left,
                self._legend_top,
                self.canvas.fit(line, width=LEGEND * self.unit, size=11.5 * self.unit),
                size=11.5 * self.unit,
                colour=colours.MUTED,
                vertical="top",
            )
            self._legend_top -= 16 * self.unit
        self._legend_top -= 10 * self.unit

    def _swatch(self, key: Key, box: Rectangle) -> None:
        middle = (box.bottom + box.top) / 2
        if key.mark == "dashed":
            start, end = (box.left, middle), (box.right, middle)
            self.canvas.dashed(start, end, colour=key.colour, width=self.unit)
        elif key.mark == "line":
            ends = [(box.left, middle), (box.right, middle)]
            self.canvas.path(ends, colour=key.colour, width=3 * self.unit)
        elif key.mark == "dot":
            centre = [((box.left + box.right) / 2, middle)]
            self.canvas.dots(centre, colour=key.colour, radius=5 * self.unit)
        else:
            self.canvas.rectangles([box], colours=key.colour)
            if key.mark == "frame":
                inner = box.grown(-2.5 * self.unit)
                self.canvas.rectangles([inner], colours=colours.SEQUENTIAL[0][1:])
