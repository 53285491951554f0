"""Telling a person, and the user's own function, of flags of the training's health."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensorview.analysis.health import Flag
    from tensorview.guard import Guard

log = logging.getLogger("tensorview")

MOST_NAMES = 8
"""Layers that a line of the log names."""


class FlagReport:
    """Tells of new flags: each to the user's function, each kind of a layer once to the log.

    Args:
        on_flag: the user's function, None for none.
        guard: keeps its faults from the training.
    """

    def __init__(self, on_flag: Callable[[Flag], object] | None, *, guard: Guard) -> None:
        self._on_flag = on_flag
        self._guard = guard
        self._said: set[tuple[str, str]] = set()

    def tell(self, flags: Sequence[Flag]) -> None:
        """Tell of *flags*. Those of one kind share a line of the log."""
        fresh = [flag for flag in flags if (flag.layer, flag.kind) not in self._said]
        self._said.update((flag.layer, flag.kind) for flag in fresh)
        for kind in dict.fromkeys(flag.kind for flag in fresh):
            first, *others = [flag for flag in fresh if flag.kind == kind]
            names = [flag.layer for flag in others[:MOST_NAMES]]
            more = f", {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
            log.warning("%s%s", first, f"; also {', '.join(names)}{more}" if names else "")
        if self._on_flag is not None:
            for flag in flags:
                call = partial(self._on_flag, flag)
                what = f"on_flag for {flag.kind} in {flag.layer}"
                self._guard.do(call, step=flag.step, what=what, interruptible=True)
