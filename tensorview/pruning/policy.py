"""When and how much to prune while a network trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        """Check each value."""
        if not self.keep or not all(_whole(filters) for filters in self.keep.values()):
            raise ConfigurationError(
                f"PrunePolicy keep={self.keep!r} cannot be used: expected layer names and how many "
                f"filters each keeps, 1 or more."
            )
        if not self.at or not all(_whole(step) for step in self.at):
            raise ConfigurationError(
                f"PrunePolicy at={self.at!r} cannot be used: expected steps, 1 or more."
            )
        if not _whole(self.count):
            raise ConfigurationError(
                f"PrunePolicy count={self.count!r} cannot be used: expected 1 or more filters."
            )
        if not math.isfinite(self.max_cost) or self.max_cost < 0:
            raise ConfigurationError(
                f"PrunePolicy max_cost={self.max_cost!r} cannot be used: expected a rise of "
                f"evaluate, 0 or more."
            )
        if self.threshold is not None:
            check_threshold(self.threshold)
        check_mode(self.mode)


def check_threshold(threshold: float) -> None:
    """Refuse what is no Pearson r of redundancy.

    Raises:
        ConfigurationError: it is not in (0, 1].
    """
    if not isinstance(threshold, (int, float)) or not 0.0 < threshold <= 1.0:
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


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
