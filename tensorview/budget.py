"""Keeping our share of the wall time within a budget, by capturing less often."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tensorview.steering.effects import Controls

log = logging.getLogger("tensorview")

WINDOW = 5
"""Intervals between captures that count. The dearest of them does not: an import, a removal of
filters, a disk that was slow once."""
ROOM = 0.75
"""Captures come more often again where they would then take this much of the budget. A cost that
swings by less than a third thus changes nothing."""
MOST = 2**20


class _Interval(NamedTuple):
    """From one capture to the next: steps done, seconds of ours, seconds of the training alone."""

    steps: int
    ours: float
    theirs: float


class Budget:
    """Multiplies the steps between captures by a power of two, the least that keeps the budget.

    A capture costs the same however rare it is, so what a distance would cost is known before it is
    tried: our seconds of one interval, as a share of these and of the training's own seconds in
    so many steps. Measured over the last `WINDOW` intervals; what the first capture took, which
    imports and warms up, counts in none.

    Args:
        share: of the wall time, above 0 and below 1; None for no limit.
        controls: where the multiplier is kept.
    """

    def __init__(self, share: float | None, *, controls: Controls) -> None:
        self.share = share
        self._controls = controls
        self._intervals: deque[_Interval] = deque(maxlen=WINDOW)
        self._before: tuple[int, float, float] | None = None
        self._said = False

    def after_capture(self, step: int, *, ours: float, wall: float) -> None:
        """Take note of a capture, and say from now on how often they come.

        Args:
            step: optimizer steps done.
            ours: seconds that our work took so far.
            wall: seconds that passed so far, pauses left out.
        """
        if self.share is None:
            return
        before, self._before = self._before, (step, ours, wall)
        if before is None or step <= before[0]:
            return
        spent = ours - before[1]
        theirs = max(0.0, wall - before[2] - spent)
        self._intervals.append(_Interval(step - before[0], spent, theirs))
        if len(self._intervals) > 1:
            self._adjust(self.share)

    def _adjust(self, share: float) -> None:
        controls, former = self._controls, self._controls.stretch
        while controls.stretch < MOST and self._predict(controls.stretch) > share:
            controls.stretch *= 2
        while controls.stretch > 1 and self._predict(controls.stretch // 2) <= ROOM * share:
            controls.stretch //= 2
        if controls.stretch == former:
            return
        if self._said:
            log.debug("Every %d steps are captured, for the budget.", controls.interval)
            return
        self._said = True
        log.warning(
            "Every %d steps are captured instead of every %d, to keep budget=%g: they would take "
            "%.1f %% of the wall time. status() tells how often it is later on.",
            controls.interval,
            controls.every,
            share,
            100.0 * self._predict(former),
        )

    def _predict(self, stretch: int) -> float:
        """Our share of the wall time with *stretch* times the steps between captures."""
        counted = sorted(interval.ours for interval in self._intervals)[:-1]
        ours = sum(counted) / len(counted)
        steps = sum(interval.steps for interval in self._intervals)
        per_step = sum(interval.theirs for interval in self._intervals) / steps
        wall = ours + per_step * self._controls.every * stretch
        return ours / wall if wall > 0.0 else 0.0
