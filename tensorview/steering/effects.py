"""What each command does to a training. Nothing here but `learning_rate` changes what it computes.

The step hook calls them; none waits.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tensorview.errors import ConfigurationError
from tensorview.steering.commands import near_matches, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(kw_only=True, eq=False)
class Controls:
    """What may be changed of a training that is watched.

    Attributes:
        every: steps between captures that were asked for.
        stretch: power of two that these are multiplied by, to keep a budget.
        capture_at: a step that is captured beside those, 0 for none.
        break_at: the next step that training pauses at, and that is captured, 0 for none.
        focus: name of the layer that is shown alone, "" for all.
        should_stop: the user's loop is asked to end.
        selected: by layer, filters that were picked in a client.
    """

    every: int
    stretch: int = 1
    capture_at: int = 0
    break_at: int = 0
    focus: str = ""
    should_stop: bool = False
    selected: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def interval(self) -> int:
        """Steps between captures, as it is now."""
        return self.every * self.stretch


class Effects:
    """Does what commands ask for, and says in a sentence what it did.

    Args:
        controls: changed here, obeyed by the watcher.
        filters: by layer, how many it has at the time; may change.
        optimizer: whose learning rate can be set; held weakly.
        is_alone: whether this process trains without others.
        capture: captures the present step and says so; True captures it again if it was.
        prune: removes filters of a layer, those that are flagged for None, and says so.
    """

    def __init__(
        self,
        controls: Controls,
        *,
        filters: Mapping[str, int],
        optimizer: Any,
        is_alone: bool,
        capture: Callable[[bool], str],
        prune: Callable[[str, Sequence[int] | None], str],
    ) -> None:
        self._controls = controls
        self._filters = filters
        self._optimizer = weakref.ref(optimizer) if optimizer is not None else None
        self._is_alone = is_alone
        self._capture = capture
        self._prune = prune

    def apply(self, command: str, arguments: dict[str, Any]) -> str:
        """Do what *command* says; pauses are the listener's.

        Args:
            command: one of `tensorview.steering.COMMANDS`, but neither pause nor resume.
            arguments: of it, checked.

        Raises:
            ConfigurationError: it cannot be done, in one sentence.
        """
        effect: Callable[..., str] = getattr(self, command)
        return effect(**arguments)

    def capture(self) -> str:
        """Capture the present step unless it is captured already."""
        return self._capture(False)

    def every(self, *, steps: int = 1, factor: float | None = None) -> str:
        """Capture every *steps* steps, or *factor* times as many as now."""
        if factor is not None:
            steps = max(1, round(self._controls.interval * factor))
        self._controls.every, self._controls.stretch = steps, 1
        which = "Every step is" if steps == 1 else f"Every {steps} steps are"
        return f"{which} captured from now on."

    def focus(self, *, layer: str | None) -> str:
        """Show *layer* alone, None for all, from a capture of the present step on."""
        self.set_focus(layer)
        shown = f"{layer} is in focus" if layer else "No layer is in focus"
        return f"{shown}. {self._capture(True)}"

    def set_focus(self, layer: str | None) -> None:
        """Show *layer* alone from the next capture on, None for all.

        Raises:
            ConfigurationError: there is no such layer.
        """
        if layer:
            self._check_layer(layer)
        self._controls.focus = layer or ""

    def select(self, *, layer: str, filters: Sequence[int]) -> str:
        """Keep what was picked in a client, for the user's own code."""
        self._check_filters(layer, filters)
        if not filters:
            self._controls.selected.pop(layer, None)
            return f"Nothing of {layer} is selected."
        self._controls.selected[layer] = tuple(filters)
        some = ", ".join(map(str, filters[:10])) + ", ..." * (len(filters) > 10)
        return f"Selected in {layer}: {some}."

    def stop(self) -> str:
        """Ask the user's loop to end."""
        self._controls.should_stop = True
        return "watcher.should_stop is set: training ends where its loop reads it."

    def learning_rate(self, *, value: float = 0.0, factor: float | None = None) -> str:
        """Set the learning rate of every parameter group, or multiply it."""
        if not self._is_alone:
            raise ConfigurationError(
                "Cannot change the learning rate of a distributed training: the other processes "
                "would keep theirs, and the models would drift apart."
            )
        optimizer = self._optimizer() if self._optimizer is not None else None
        groups = [group for group in getattr(optimizer, "param_groups", ()) if "lr" in group]
        if not groups:
            raise ConfigurationError(
                "There is no learning rate to change: watch() was given no optimizer that has one."
            )
        now = f"{value:g}" if factor is None else f"{factor:g} times what it was"
        rates = [float(value if factor is None else group["lr"] * factor) for group in groups]
        if not all(map(math.isfinite, rates)):
            raise ConfigurationError(f"The learning rate cannot be {max(rates)}.")
        for group, rate in zip(groups, rates, strict=True):
            if hasattr(group["lr"], "fill_"):  # a tensor, which a captured CUDA graph may read
                group["lr"].detach().fill_(rate)
            else:
                group["lr"] = rate
        return f"The learning rate is {now}; a scheduler may overwrite it."

    def prune(self, *, layer: str, filters: Sequence[int] | None) -> str:
        """Remove *filters* of *layer*, None for the flagged ones."""
        self._check_filters(layer, filters or ())
        answer = self._prune(layer, filters)
        self._controls.selected.pop(layer, None)
        return answer

    def _check_layer(self, layer: str) -> None:
        if layer not in self._filters:
            near = near_matches(layer, self._filters)
            raise ConfigurationError(f"There is no watched layer {shortened(layer)}. {near}")

    def _check_filters(self, layer: str, filters: Sequence[int]) -> None:
        self._check_layer(layer)
        count = self._filters[layer]
        beyond = [index for index in filters if index >= count]
        if beyond:
            raise ConfigurationError(
                f"Layer {layer!r} has {count} filters, 0 to {count - 1}: there is no {beyond[0]}."
            )
