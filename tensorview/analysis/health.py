"""Is a training healthy? Flags with their numbers, from what captures found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Flag:
    """Something of a layer that a person should look at.

    Attributes:
        layer: dotted path.
        kind: what, in a word.
        step: of the capture that showed it first.
        numbers: what was measured, by name.
        threshold: what they were compared with.
        source: where the threshold comes from.
    """

    layer: str
    kind: str
    step: int
    numbers: dict[str, float]
    threshold: float
    source: str
