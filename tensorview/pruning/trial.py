"""Trying what the removal of a layer's filters would do, on the model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensorview.pruning.findings import Merge
from tensorview.pruning.fit import explain, rank
from tensorview.pruning.readers import fold, restored, silence

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from tensorview.pruning.meter import Meter
    from tensorview.pruning.readers import Reader


class Trial:
    """Removals of one layer's filters, done where they are read and not where they are made.

    Args:
        model: unwrapped.
        readers: all that read the layer.
        meter: begun with the model as it is.
    """

    def __init__(self, model: nn.Module, readers: Sequence[Reader], *, meter: Meter) -> None:
        self._model = model
        self._readers = readers
        self._meter = meter
        self._filters = len(readers[0].gram)
        self._costs: dict[tuple[int, ...], tuple[float, float]] = {}

    def rank(self, candidates: Collection[int], count: int) -> list[int]:
        """Choose at most *count* candidates, the least missed first; at least one filter stays."""
        return rank(
            [reader.seen for reader in self._readers],
            grams=[reader.gram for reader in self._readers],
            ridges=[reader.ridges for reader in self._readers],
            candidates=sorted(candidates),
            count=min(count, len(candidates), self._filters - 1),
        )

    def fits(self, removed: NDArray[np.int64]) -> tuple[Merge, ...]:
        """Fit the *removed* filters by all others, for each reader."""
        kept = np.setdiff1d(np.arange(self._filters), removed)
        return tuple(
            Merge(
                reader=reader.cut.module,
                shift=reader.shift,
                fit=explain(reader.seen, ridges=reader.ridges, removed=removed, kept=kept),
            )
            for reader in self._readers
        )

    def unexplained(self, index: int) -> float:
        """Share of a filter's variance that the others leave, where it is largest."""
        return max(float(reader.unexplained[index]) for reader in self._readers)

    def do(self, removed: NDArray[np.int64], merges: tuple[Merge, ...]) -> None:
        """Merge, or drop without *merges*."""
        kept = np.setdiff1d(np.arange(self._filters), removed)
        if not merges:
            for reader in self._readers:
                silence(self._model, reader.cut, removed=removed)
        for reader, merge in zip(self._readers, merges, strict=False):
            fold(
                self._model,
                reader.cut,
                shift=merge.shift,
                fit=merge.fit,
                removed=removed,
                kept=kept,
            )

    def costs(self, removed: NDArray[np.int64]) -> tuple[float, float]:
        """Measure dropping and merging, once; the model is afterwards what it was."""
        which = tuple(removed.tolist())
        if which not in self._costs:
            merges = self.fits(removed)
            self._costs[which] = self._cost(removed, ()), self._cost(removed, merges)
        return self._costs[which]

    def _cost(self, removed: NDArray[np.int64], merges: tuple[Merge, ...]) -> float:
        with restored(self._model, self._readers):
            self.do(removed, merges)
            return self._meter.cost()
