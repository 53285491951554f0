"""Keeping what goes wrong with us out of the training, and counting what we cost it."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from tensorview.signals import handlers_deferred

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

    def do(
        self,
        action: Callable[[], object],
        *,
        step: int,
        what: str = "a capture",
        interruptible: bool = False,
    ) -> None:
        """Do *action*; a fault of ours is logged once and counted.

        Args:
            action: what to do.
            step: of the training, for the message.
            what: is skipped when *action* fails, for the message.
            interruptible: it may take long, or is the user's: signal handlers do not wait for it.
        """
        started = time.perf_counter()
        try:
            with contextlib.nullcontext() if interruptible else handlers_deferred():
                self._do(action, step=step, what=what)
        finally:
            self.seconds += time.perf_counter() - started

    def _do(self, action: Callable[[], object], *, step: int, what: str) -> None:
        try:
            action()
        except Exception as error:
            if self._strict:
                raise
            text = f"{type(error).__name__}: {error}"
            is_new = text not in self.faults
            self.faults[text] = self.faults.pop(text, 0) + 1
            if is_new:
                with contextlib.suppress(Exception):  # of a log handler of the user's
                    log.error("tensorview skipped %s at step %d: %s", what, step, text)
