"""Whether the user is just turning, moving or zooming a view."""

from __future__ import annotations

import time
from typing import Any

BUTTONS = ("LeftButton", "MiddleButton", "RightButton")
PATIENCE_SECONDS = 0.5
"""For which a hand that holds still, or turns the wheel, is taken to go on."""
FIRST = 1.0
"""Priority over ParaView's own observers, which draw at these events."""


class Pointer:
    """The mouse over all views that it follows.

    While a button is pressed a view is drawn without smooth edges: without a graphics card they
    take two thirds of the time.
    """

    def __init__(self) -> None:
        self._pressed: Any = None
        self._samples = 0
        self._moved_at = 0.0

    def follow(self, interactor: Any) -> None:
        """Hear of what happens over one more view."""
        for button in BUTTONS:
            # Holding the interactor, an observer would be collected together with it.
            interactor.AddObserver(f"{button}PressEvent", lambda it, _: self._press(it), FIRST)
            interactor.AddObserver(f"{button}ReleaseEvent", lambda *_: self._release(), FIRST)
        for event in ("MouseWheelForwardEvent", "MouseWheelBackwardEvent"):
            interactor.AddObserver(event, lambda *_: self._move())
        interactor.AddObserver("MouseMoveEvent", lambda *_: self._drag())

    @property
    def is_busy(self) -> bool:
        """Whether work that takes longer than a frame should wait; never for long."""
        return time.monotonic() < self._moved_at + PATIENCE_SECONDS

    def _press(self, interactor: Any) -> None:
        self._release()  # of another button, or one that nobody heard of
        self._pressed = interactor.GetRenderWindow()
        self._samples = self._pressed.GetMultiSamples()
        self._pressed.SetMultiSamples(0)
        self._move()

    def _drag(self) -> None:
        if self._pressed is not None:
            self._move()

    def _move(self) -> None:
        self._moved_at = time.monotonic()

    def _release(self) -> None:
        if self._pressed is not None:
            self._pressed.SetMultiSamples(self._samples)
        self._pressed = None
        self._moved_at = 0.0
