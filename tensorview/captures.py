"""The captures of one training, one after the other, from the device to the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tensorview.capture.logged import LoggedScalars

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorview.capture import Capturer, Kept, PendingCapture, Sketches
    from tensorview.capture.logged import PendingScalars
    from tensorview.memory import Memory
    from tensorview.snapshot import Snapshot
    from tensorview.steering.effects import Controls


class Captures:
    """Takes captures, and hands each over once its numbers have come from the device.

    Args:
        capturer: of the model.
        memory: of the run.
        controls: say which layer is in focus.
        publish: called with every snapshot.

    Attributes:
        logged: what the user logged since the last capture.
        last_step: that was captured, -1 before the first.
        count: snapshots made.
        newest: the last snapshot, None before the first.
        pending: the capture whose numbers are on their way, None for none.
        filters: by layer, how many it has now.
    """

    def __init__(
        self,
        capturer: Capturer,
        *,
        memory: Memory,
        controls: Controls,
        publish: Callable[[Snapshot], None],
    ) -> None:
        self.logged = LoggedScalars()
        self.last_step = -1
        self.count = 0
        self.newest: Snapshot | None = None
        self._capturer = capturer
        self._memory = memory
        self._controls = controls
        self._publish = publish
        self.pending: _Pending | None = None
        self._before: tuple[int, Sketches] = -1, []
        self.filters = {layer.name: layer.out for layer in capturer.layers}

    def sketch_weights(self, step: int) -> None:
        """Keep the weights of before *step*, for the update ratio of its capture."""
        self._before = step, self._capturer.sketch_weights()

    def attach_to_batch(self) -> None:
        """Measure the next training pass, for the capture that follows it."""
        self._capturer.focus(self._controls.focus)
        self._capturer.attach_to_batch()

    def shrink(self, kept: Kept) -> None:
        """Go on with a model that has become smaller, before its next pass.

        Filters that were picked in a client keep being these, under their new numbers.

        Args:
            kept: see `tensorview.capture.Capturer.shrink`.

        Raises:
            CaptureError: a weight has not become what *kept* says.
        """
        self.wait()
        removed = self._capturer.shrink(kept)
        self._memory.mark_pruned(removed)
        layers = self._capturer.layers
        self.filters.update((layer.name, layer.out) for layer in layers)
        sketched, before = self._before
        # Of a layer that shrank, the difference would be the removal, and no optimizer's update.
        self._before = (
            sketched,
            [
                None if layer.name in removed else sketch
                for layer, sketch in zip(layers, before, strict=False)
            ],
        )
        selected = self._controls.selected
        for name in selected.keys() & kept.keys():
            left = kept[name][0]
            if left is not None:
                picked = np.flatnonzero(np.isin(left, selected[name])).tolist()
                selected[name] = tuple(picked)
                if not picked:
                    del selected[name]

    def take_event(self, step: int) -> None:
        """Capture this step, anew if it was, so that a smaller model is shown at once.

        With batches the next step is captured instead, for this one's batch has passed.
        """
        if self._capturer.takes_batches:
            self._controls.capture_at = step + 1
            self.attach_to_batch()
        elif step > 0:
            self.take(step)

    def take_on_request(self, step: int, *, again: bool) -> str:
        """Capture as `take` does, or with batches a step that is yet to come; say which.

        Args:
            step: steps done.
            again: also if it is captured already.
        """
        if self.last_step == step and not again:
            return f"Step {step} is captured."
        if self._capturer.takes_batches and (again or self._capturer.lacks_batch):
            self._controls.capture_at = step + 1
            return f"Step {step + 1} will be captured, with its batch."
        self.take(step)
        return f"Step {step} is captured."

    def take(self, step: int) -> None:
        """Capture the model as it is now, which is after *step* steps."""
        self.wait()
        if not self._capturer.takes_batches:  # else what is measured was planned before
            self._capturer.focus(self._controls.focus)
        logged = self.logged.begin()
        sketched, before = self._before
        self.last_step = step
        result = self._capturer.begin(before=before if sketched == step else None)
        self.pending = _Pending(
            step=step, logged=logged, result=result, focus=self._capturer.focused
        )
        self.finish_if_ready()

    def finish_if_ready(self) -> None:
        """Hand over the capture whose numbers have come."""
        pending = self.pending
        if pending is not None and pending.result.ready() and pending.logged.ready():
            self._finish(pending)

    def wait(self) -> None:
        """Wait for the device; only where captures overtake each other, and at the end."""
        if self.pending is not None:
            self._finish(self.pending)

    def let_go(self) -> None:
        """Hold nothing of the model any more; there will be no further capture."""
        del self._capturer, self._before

    def _finish(self, pending: _Pending) -> None:
        self.pending = None
        logged, result = pending.logged.finish(), pending.result.finish()
        self.newest = self._memory.remember(
            pending.step, result, logged=logged, focus=pending.focus
        )
        self.count += 1
        self._publish(self.newest)


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """A capture whose numbers are still on their way from the device."""

    step: int
    logged: PendingScalars
    result: PendingCapture
    focus: str
