"""Is a training healthy? Flags with their numbers, from what captures found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tensorview.analysis.examination import WINDOW, examine, sensitivity
from tensorview.analysis.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorview.analysis.examination import Examination
    from tensorview.capture.result import LayerCapture


@dataclass(frozen=True, kw_only=True)
class Flag:
    """Something of a layer that a person should look at.

    Attributes:
        layer: dotted path.
        kind: what, in a word or two; one of those in `tensorview.analysis.rules.RULES`.
        step: of the capture that raised it.
        numbers: what was measured, by name; the first is the one that was compared.
        threshold: what it was compared with.
        source: where the threshold comes from.
    """

    layer: str
    kind: str
    step: int
    numbers: dict[str, float]
    threshold: float
    source: str

    def __str__(self) -> str:
        """Say all of it in a line."""
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.numbers.items())
        return (
            f"{self.layer}: {self.kind} at step {self.step}: {numbers}; "
            f"threshold {self.threshold:.3g} ({self.source})"
        )


class Health:
    """The flags of one run, and what is needed to raise and lower them.

    A flag is raised once as many captures in a row show its cause as its rule asks for. It is
    lowered once `tensorview.analysis.rules.SETTLED` in a row do not; one that is raised again after
    that is a new flag. What was not finite stays: the first of those is what one looks for.
    """

    def __init__(self) -> None:
        self._past: dict[str, list[Examination]] = {}
        self._standing: dict[tuple[str, str], Flag] = {}
        self._raised: set[tuple[str, str]] = set()
        self._new: list[Flag] = []

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Those that stand, oldest first; of one step in the model's own order."""
        return tuple(self._standing.values())

    def take_new(self) -> tuple[Flag, ...]:
        """Return the flags that were raised since the last call."""
        new, self._new = tuple(self._new), []
        return new

    def forget(self, layer: str) -> None:
        """Begin anew with *layer*, whose weights something else than training changed."""
        self._past.pop(layer, None)
        for key in [key for key in self._standing if key[0] == layer]:
            del self._standing[key]

    @np.errstate(invalid="ignore", over="ignore")  # what is not finite is found, not computed with
    def examine(self, step: int, layers: Sequence[LayerCapture]) -> dict[str, dict[str, float]]:
        """Look at one capture; of a step that was seen before, it takes the former one's place.

        A layer whose weight has changed its shape is forgotten first.

        Args:
            step: optimizer steps done.
            layers: all of the capture, in the model's own order.

        Returns:
            Columns for the table of scalars, by layer: ``curvature`` in degrees, ``straightness``,
            ``saturated`` (a count, over the filters shown), ``flags`` (how many stand), and for
            every kind that was ever raised for the layer ``flag_<kind>``, 1 while it stands.
        """
        slopes = [sensitivity(found) for found in layers]
        largest = max(filter(math.isfinite, slopes), default=0.0)
        columns = {}
        for found in layers:
            past = self._past_of(found, step=step)
            past.append(
                examine(
                    step,
                    found,
                    past=past,
                    largest=largest,
                    is_last=found is layers[-1],
                )
            )
            self._judge(found.name, past)
            columns[found.name] = self._columns(found.name, past[-1].numbers)
        return columns

    def _past_of(self, found: LayerCapture, *, step: int) -> list[Examination]:
        """Return what is remembered of a layer and may be compared with *step*, to be added to."""
        past = self._past.get(found.name, [])
        if past and past[-1].weight_shape != found.weight_shape:
            self.forget(found.name)
            past = []
        if past and past[-1].step == step:
            past = past[:-1]
        self._past[found.name] = past[1 - WINDOW :]
        return self._past[found.name]

    def _judge(self, layer: str, past: Sequence[Examination]) -> None:
        for rule in RULES:
            key = layer, rule.kind
            stands = key in self._standing
            is_raised = rule.is_raised(past, stands=stands)
            if stands and not is_raised:
                del self._standing[key]
            elif is_raised and not stands:
                numbers = past[-1].numbers
                flag = Flag(
                    layer=layer,
                    kind=rule.kind,
                    step=past[-1].step,
                    numbers={name: numbers[name] for name in (rule.number, *rule.beside)},
                    threshold=rule.threshold,
                    source=rule.source,
                )
                self._standing[key] = flag
                self._raised.add(key)
                self._new.append(flag)

    def _columns(self, layer: str, numbers: dict[str, float]) -> dict[str, float]:
        standing = {rule.kind: (layer, rule.kind) in self._standing for rule in RULES}
        return {
            **{name: numbers[name] for name in ("curvature", "straightness", "saturated")},
            "flags": float(sum(standing.values())),
            **{
                rule.column: float(standing[rule.kind])
                for rule in RULES
                if (layer, rule.kind) in self._raised
            },
        }
