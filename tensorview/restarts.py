"""When a worker that has ended is started again, and when it is given up."""

from __future__ import annotations

import time

CRASHES_IN_A_ROW = 5
CRASH_SECONDS = 1.0
"""From a crash to the next start."""
FIRST_CALL_SECONDS, LAST_CALL_SECONDS = 1.0, 60.0
"""From a call that nobody answered to the next one; twice as long each time."""


def next_call_seconds(unanswered: int) -> float:
    """Return how long to wait before a viewer is called again that did not answer so many calls."""
    return float(min(FIRST_CALL_SECONDS * 2 ** (unanswered - 1), LAST_CALL_SECONDS))


class Restarts:
    """Counts how a worker ended. Calls that a viewer did not answer are tried again for ever.

    Attributes:
        crashes: in a row, without a frame delivered in between.
        unanswered: calls in a row that ended the worker, or for which it was ended.
    """

    def __init__(self) -> None:
        self.crashes = 0
        self.unanswered = 0
        self._at: float | None = None

    @property
    def given_up(self) -> bool:
        """Whether it is not to be started again."""
        return self.crashes >= CRASHES_IN_A_ROW

    def take_note(self, *, dialling: bool) -> None:
        """Take note of an end, once; *dialling*: the worker was calling a viewer just then."""
        if self._at is not None:
            return
        if dialling:
            self.unanswered += 1
            delay = next_call_seconds(self.unanswered)
        else:
            delay = CRASH_SECONDS
            self.crashes += 1
        self._at = time.monotonic() + delay

    def is_due(self) -> bool:
        """Whether it is time to start it; then the next end is another one."""
        if self._at is None or time.monotonic() < self._at:
            return False
        self._at = None
        return True

    def answered(self) -> None:
        """The worker has come back from a call."""
        self.unanswered = 0

    def delivered(self) -> None:
        """A frame has got to somebody."""
        self.crashes = self.unanswered = 0
