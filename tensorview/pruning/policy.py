"""When and how much to prune while a network trains."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensorview.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MODES = ("merge", "drop")


@dataclass(frozen=True, kw_only=True)
class PrunePolicy:
    """Prunes at given steps, until each layer has as few filters as asked for.

    Attributes:
        keep: layer name -> filters to stop at, 1 or more.
        at: optimizer steps at which filters go; for example ``range(600, 3000, 600)``.
        count: most filters of a layer that go at one of them.
        threshold: Pearson r from which filters belong to one group; only dead filters and those
            that are not the kept one of their group go then. None: those that are least missed
            go, whatever they correlate with.
        max_cost: by how much ``evaluate`` may rise at one event; an event that costs more is
            given up, and said so in ``pruning.jsonl``.
        mode: ``"merge"`` or ``"drop"``, see `Watcher.redundant`.

    Raises:
        ConfigurationError: one that cannot be used.
    """

    keep: Mapping[str, int]
    at: Collection[int]
    max_cost: float
    count: int = 1
    threshold: float | None = None
    mode: str = "merge"

    def __post_init__(self) -> None:
        """Check each value, and keep copies that nobody else can change."""
        keep = _mapping(self.keep)
        if not keep:
            raise ConfigurationError(
                f"PrunePolicy keep={self.keep!r} cannot be used: expected a dict of layer names "
                f"and how many filters each keeps, 1 or more."
            )
        at = _steps(self.at)
        if not at:
            raise ConfigurationError(
                f"PrunePolicy at={self.at!r} cannot be used: expected several steps, each 1 or "
                f"more."
            )
        count = _whole(self.count)
        if count is None:
            raise ConfigurationError(
                f"PrunePolicy count={self.count!r} cannot be used: expected 1 or more filters."
            )
        if not _is_number(self.max_cost) or not 0 <= self.max_cost < math.inf:
            raise ConfigurationError(
                f"PrunePolicy max_cost={self.max_cost!r} cannot be used: expected a rise of "
                f"evaluate, 0 or more."
            )
        if self.threshold is not None:
            check_threshold(self.threshold)
        check_mode(self.mode)
        object.__setattr__(self, "keep", keep)
        object.__setattr__(self, "at", at)
        object.__setattr__(self, "count", count)


def check_threshold(threshold: float) -> None:
    """Refuse what is no Pearson r of redundancy.

    Raises:
        ConfigurationError: it is not in (0, 1].
    """
    if not _is_number(threshold) or not 0.0 < threshold <= 1.0:
        raise ConfigurationError(
            f"threshold={threshold!r} cannot be used: expected a Pearson r above 0, at most 1."
        )


def check_mode(mode: str) -> None:
    """Refuse what is neither way to remove a filter.

    Raises:
        ConfigurationError: it is none of `MODES`.
    """
    if mode not in MODES:
        raise ConfigurationError(f"mode={mode!r} cannot be used: expected 'merge' or 'drop'.")


def _mapping(keep: Any) -> dict[str, int]:
    """Return layer names and numbers, {} where they cannot be used."""
    try:
        found = {name: _whole(filters) for name, filters in keep.items()}
    except AttributeError:
        return {}
    whole = {name: filters for name, filters in found.items() if filters is not None}
    return whole if len(whole) == len(found) else {}


def _steps(at: Any) -> frozenset[int]:
    """Return the steps, none where they cannot be used."""
    try:
        found = [_whole(step) for step in at]
    except TypeError:
        return frozenset()
    whole = frozenset(step for step in found if step is not None)
    return frozenset() if None in found else whole


def _whole(value: Any) -> int | None:
    """Return a whole number of 1 or more, numpy's too; None where it is none."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
    return number if number is not None and number >= 1 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
