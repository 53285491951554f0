"""A view's part of a picture: panels in a grid, and beside or below them what colours mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tensorview.worker.pictures import colours
from tensorview.worker.pictures.legend import COLUMN, Legend
from tensorview.worker.pictures.scene import Rectangle

if TYPE_CHECKING:
    from tensorview.worker.pictures.content import Place
    from tensorview.worker.pictures.scene import Scene

GAP = 20.0
"""In units of the part, like all lengths here."""
SPREAD = 1.25
"""Largest distance from panel to panel by the least one."""
LEGEND_BELOW = 286.0
"""Height of a legend below the panels, where a part is higher than wide."""
TITLE, TITLE_ROOM = 18.0, 30.0
"""Font of a part's title, and its height with what is below it."""
PANEL_TITLE = 15.0
"""Largest font of a panel's title; narrower panels have smaller ones."""
NARROWEST_TITLE = 10.5
DETAILS_SIZE = 0.84
"""Font of the second line of a title by that of the first."""
TITLE_LINES = 2.65
"""Height of a panel's two lines of title, in font sizes."""
LEAST_NAMED = 43.0
"""Least width of a panel, in pixels of the picture, that has a title; smaller ones are closer."""
GAP_UNNAMED = 6.0
LEAST_PANEL = 2.0
"""Pixels; only hundreds of layers in a corner of a picture come to it."""
LEAST_FONT = 9.0
"""Smallest font, in pixels of the picture."""


class Slot(NamedTuple):
    """Where a panel goes.

    Attributes:
        rectangle: of the panel, without its title.
        font: size of its title in pixels, 0 where there are too many panels for titles.
        room: width that its title may take.
    """

    rectangle: Rectangle
    font: float
    room: float


class Part:
    """The part of one view; what it shows is added by calls.

    Args:
        scene: the picture.
        rectangle: of the part.
        unit: pixels for one of the lengths above.
        title: above it, where it is not the only part.
    """

    def __init__(self, scene: Scene, rectangle: Rectangle, *, unit: float, title: str = "") -> None:
        self.scene = scene
        self.canvas = scene.canvas
        self.unit = unit
        self.rectangle = rectangle
        left, right, bottom, top = rectangle
        if title:
            size = TITLE * unit
            text = self.canvas.fit(title, width=rectangle.width, size=size, bold=True)
            self.canvas.text(left, top, text, size=size, bold=True, vertical="top")
            top -= TITLE_ROOM * unit
        if rectangle.width >= rectangle.height:
            edge = right - COLUMN * unit
            box = Rectangle(edge, right, bottom, top - 14 * unit)
            self.area = Rectangle(left, edge - GAP * unit, bottom, top)
        else:
            edge = bottom + LEGEND_BELOW * unit
            box = Rectangle(left, right, bottom, edge)
            self.area = Rectangle(left, right, edge + GAP * unit, top)
        self.legend = Legend(self.canvas, box, unit=unit)

    def nothing(self) -> None:
        """Say that the view is empty."""
        left, right, bottom, top = self.rectangle
        self.canvas.text(
            (left + right) / 2,
            (bottom + top) / 2,
            "nothing to show",
            size=24 * self.unit,
            colour=colours.MUTED,
            align="centre",
            vertical="centre",
        )

    def grid(self, count: int, *, aspect: float = 1.0, widest: float | None = None) -> list[Slot]:
        """Divide the part into panels, as large as fit.

        Args:
            count: number of panels, at least 1.
            aspect: width of a panel by its height, without title.
            widest: the same, as far as there is room for it; None for *aspect*.
        """
        # Panels of layers count as square here, so that all views lay them out alike.
        shape = aspect if widest else 1.0
        lines, gap = TITLE_LINES, GAP * self.unit
        columns, size = self._fit(count, shape=shape, lines=lines, gap=gap)
        if size < LEAST_NAMED and not widest:
            lines, gap = 0.0, GAP_UNNAMED * self.unit
            columns, _ = self._fit(count, shape=shape, lines=lines, gap=gap)
            self.legend.note(f"{count} panels, row by row:\ntoo many for names")
        free, high, font = self._room(count, columns, lines=lines, gap=gap)
        height = max(LEAST_PANEL, min(high, free / aspect))
        width = max(height * aspect, min(free, height * (widest or aspect)))
        rows = -(-count // columns)
        # Every column has the same room for its titles, the last one, too; rows end at the edge.
        across = min((self.area.width + gap) / columns, SPREAD * (width + gap))
        tall = height + lines * font
        down = min((self.area.height - tall) / max(rows - 1, 1), SPREAD * (tall + gap))
        result = []
        for index in range(count):
            left = self.area.left + index % columns * across
            top = self.area.top - lines * font - index // columns * down
            place = (left, left + width, top - height, top)
            free = across - gap if columns > 1 else self.area.width
            result.append(Slot(Rectangle(*map(round, place)), font if lines else 0.0, free))
        return result

    def _fit(self, count: int, *, shape: float, lines: float, gap: float) -> tuple[int, float]:
        """Return how many columns give the largest panels, and how wide these are."""
        best, columns = 0.0, 1
        for candidate in range(1, count + 1):
            free, high, _ = self._room(count, candidate, lines=lines, gap=gap)
            width = min(free, high * shape)
            if width > 1.04 * best:  # else fewer columns, with larger titles
                best, columns = width, candidate
        return columns, best

    def _room(
        self, count: int, columns: int, *, lines: float, gap: float
    ) -> tuple[float, float, float]:
        """Return the width and height that a panel may have, and the font of its title."""
        rows = -(-count // columns)
        width = (self.area.width - (columns - 1) * gap) / columns
        font = self._title_font(width)
        return width, (self.area.height - (rows - 1) * gap) / rows - lines * font, font

    def _title_font(self, room: float) -> float:
        least = max(NARROWEST_TITLE * self.unit, LEAST_FONT / DETAILS_SIZE)
        return max(least, min(PANEL_TITLE * self.unit, room / 15))

    def small_font(self, slot: Slot) -> float:
        """Return the size for numbers and names of axes in a panel."""
        return max(0.76 * slot.font, 9 * self.unit, LEAST_FONT)

    def panel_title(self, slot: Slot, place: Place) -> None:
        """Write a layer's name above its panel, and below it as much of the details as fits."""
        if not slot.font:
            return
        self._name(slot, place.name, colour=colours.INK)
        size, parts = DETAILS_SIZE * slot.font, place.details
        while len(parts) > 1 and self.canvas.width_of("  ".join(parts), size=size) > slot.room:
            parts.pop(0)  # the kind of layer goes first
        self._details(slot, "  ".join(parts))

    def absent(self, slot: Slot, name: str, *, lacks: str) -> None:
        """Keep the place of a layer that has nothing to show, and say what it lacks."""
        if not slot.font:
            return
        self._name(slot, name, colour=colours.MUTED)
        self._details(slot, f"no {lacks}")

    def chart_title(self, slot: Slot, title: str) -> None:
        """Write one line above a panel."""
        text = self.canvas.fit(title, width=slot.room, size=slot.font, bold=True)
        left, top = slot.rectangle.left, slot.rectangle.top + 0.5 * slot.font
        self.canvas.text(left, top, text, size=slot.font, bold=True)

    def _name(self, slot: Slot, name: str, *, colour: colours.Colour) -> None:
        font = slot.font
        text = self.canvas.fit(name, width=slot.room, size=font, bold=True)
        bottom = slot.rectangle.top + 1.38 * font
        self.canvas.text(slot.rectangle.left, bottom, text, size=font, bold=True, colour=colour)

    def _details(self, slot: Slot, details: str) -> None:
        size = DETAILS_SIZE * slot.font
        text = self.canvas.fit(details, width=slot.room, size=size)
        bottom = slot.rectangle.top + 0.36 * slot.font
        self.canvas.text(slot.rectangle.left, bottom, text, size=size, colour=colours.MUTED)
