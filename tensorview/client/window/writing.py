"""What is written over a view: its title, its panels' titles, a legend, a status line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.client.window.cameras import point_size, screen_axes
from tensorview.worker.pictures.colours import INK, MUTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorview.client.window.labels import Labels
    from tensorview.client.window.looks import Look
    from tensorview.client.window.notes import Notes
    from tensorview.worker.pictures.colours import Colour
    from tensorview.worker.pictures.content import Place

RIGHT, TOP, BOTTOM, SIDE = 106.0, 34.0, 26.0, 12.0
"""Margins in points: for colour bar and legend, title, status line, and where nothing is."""
TITLE, TEXT, SMALL = 15.0, 12.0, 11.0
"""Sizes of letters in points."""
LINE = 1.25
"""Distance of lines by the size of letters."""
LARGEST_NAME, LEAST_NAME, LEAST_DETAILS = 13.0, 8.5, 9.0
DETAILS = 0.86
"""Size of the second line of a panel's title by that of the first."""
LEAST_TITLED = 40
"""Width of a panel in points below which its title would only be in the way."""


def write_header(labels: Labels, title: str, *, about: str) -> None:
    """Write a view's name, and behind it what there is to say of it."""
    width, height = labels.size
    base = height - TOP + 12
    labels.text((SIDE, base), title, size=TITLE, bold=True)
    left = SIDE + labels.width_of(title, size=TITLE, bold=True) + 14
    fitting = labels.fit(about, width=width - left - SIDE, size=TEXT)
    labels.text((left, base), fitting, size=TEXT, colour=MUTED)


def write_status(labels: Labels, status: str) -> None:
    """Write lines at the lower left."""
    for line, text in enumerate(reversed(status.splitlines())):
        fitting = labels.fit(text, width=labels.size[0] - 2 * SIDE, size=TEXT)
        labels.text((SIDE, 7 + 16 * line), fitting, size=TEXT, colour=INK)


def write_panels(labels: Labels, view: Any, *, look: Look, notes: Notes) -> None:
    """Write a title at every panel that is large enough, of one line or of two."""
    point = point_size(view)
    right, up = (direction * point for direction in screen_axes(view))
    for place in notes.places:
        x0, x1, y0, y1, z0, _ = place.bounds
        width = (x1 - x0) / point
        if width < LEAST_TITLED:
            continue
        room = look.title_room / point
        largest = max(LEAST_NAME, min(LARGEST_NAME, width / 11))
        size = min(largest, room / (1 + DETAILS) / LINE - 1)
        has_two = DETAILS * size >= LEAST_DETAILS
        if not has_two:
            size = min(largest, max(LEAST_NAME, room / LINE - 2))
        name = labels.fit(place.name, width=width, size=size, bold=True)
        small, free = DETAILS * size, width
        if not has_two:
            free -= labels.width_of(name, size=size, bold=True) + size
        details = _details(labels, place, width=free, size=small, whole=not has_two)
        if look.title_rise < 0:
            first = np.array([x0, y0, z0]) - (LINE * size + 2) * up
            second = first - LINE * small * up
        else:
            second = np.array([x0, y1, 0.0]) + (look.title_rise / point + 4) * up
            first = second + (LINE * small * up if has_two else 0)
        if not has_two:
            second = first + (width - free) * right
        labels.text(first.tolist(), name, size=size, bold=True)
        if details and small >= LEAST_DETAILS:
            labels.text(second.tolist(), details, size=small, colour=MUTED)


def _details(labels: Labels, place: Place, *, width: float, size: float, whole: bool) -> str:
    """Return as many details as fit; if even the last does not, its ends, or *whole* nothing."""
    parts = place.details
    while len(parts) > 1 and labels.width_of("  ".join(parts), size=size) > width:
        parts.pop(0)  # the kind of layer goes first
    text = "  ".join(parts)
    if whole and labels.width_of(text, size=size) > width:
        return ""
    return labels.fit(text, width=width, size=size)


def write_legend(
    labels: Labels, keys: Sequence[tuple[str, Colour]], *, title: str, left: float, top: float
) -> None:
    """Write texts behind swatches; what does not fit is counted."""
    pitch = 17
    labels.text((left, top), title, size=SMALL, vertical="centre")
    room = max(2, int((top - BOTTOM) / pitch))
    shown = keys if len(keys) <= room else keys[: room - 1]
    y = top
    for text, colour in shown:
        y -= pitch
        labels.swatch((left, left + 12, y - 6, y + 5), colour=colour)
        fitting = labels.fit(text, width=RIGHT - 14 - 18, size=SMALL)
        labels.text((left + 18, y), fitting, size=SMALL, colour=MUTED, vertical="centre")
    if len(shown) < len(keys):
        more = f"and {len(keys) - len(shown)} more"
        labels.text((left, y - pitch), more, size=SMALL, colour=MUTED, vertical="centre")
