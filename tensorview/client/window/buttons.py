"""Where a press of a macro button arrives: a macro knows nothing but this module's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorview.client.window.window import Window

window: Window | None = None
"""Set once it is open."""
is_opening = False
"""Set while it is being made in a ParaView of the user's own."""


def press(name: str) -> None:
    """Do what the button *name* of `tensorview.client.window.macros.BUTTONS` is for."""
    if window is not None:
        window.steering.press(name)
