"""Keeping what goes wrong with us out of the training, and counting what we cost it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("tensorview")


class Guard:
    """Does our own work for a training loop that must never see a fault of ours.

    Args:
        strict: raise faults instead.

    Attributes:
        faults: how often each came, by its text, the last one last.
        seconds: that our work took.
    """

    def __init__(self, *, strict: bool) -> None:
        self.faults: dict[str, int] = {}
        self.seconds = 0.0
        self._strict = strict

    def do(self, action: Callable[[], object], *, step: int, what: str = "a capture") -> None:
        """Do *action*; a fault of ours is logged once and counted.

        Args:
            action: what to do.
            step: of the training, for the message.
            what: is skipped when *action* fails, for the message.
        """
        started = time.perf_counter()
        try:
            action()
        except Exception as error:
            if self._strict:
                raise
            text = f"{type(error).__name__}: {error}"
            if text not in self.faults:
                log.error("tensorview skipped %s at step %d: %s", what, step, text)
            self.faults[text] = self.faults.pop(text, 0) + 1
        finally:
            self.seconds += time.perf_counter() - started
