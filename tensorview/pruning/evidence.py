"""Judging one layer: which filters do the same work, and what removing them would cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tensorview.analysis.examination import ENOUGH_SAMPLES
from tensorview.analysis.groups import group
from tensorview.capture.layers import filters_first, read_weight
from tensorview.errors import PruningError
from tensorview.pruning.findings import Finding, Group, LayerPlan
from tensorview.pruning.readers import observe, restored
from tensorview.pruning.surgery import checked_filters
from tensorview.pruning.trial import Trial

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Collection

    from numpy.typing import NDArray
    from torch import nn

    from tensorview.capture.layers import WatchedLayer
    from tensorview.capture.probe import Probe
    from tensorview.pruning.findings import Merge
    from tensorview.pruning.meter import Meter
    from tensorview.pruning.readers import Observed
    from tensorview.pruning.structure import Structure

MAX_MEASURED = 64
"""Of a layer, so many filters are measured alone; all that go are always measured together."""

CHANCE = 0.01
"""Of what `evaluate` gives: by less than that a drop is better by chance. On 1,000 images, one that
seemed better by 0.7 % lost 0.2 points of accuracy, where merges lose less than 0.1."""

DUPLICATE_COSINE = 0.999
"""Between two kernels, bias included where there is one, from which they are duplicates."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a user asks of a plan.

    Attributes:
        threshold: Pearson r from which filters form a group; None: any filter may go.
        count: most filters of a layer that go, None for all that are flagged.
        filters: those that are to go, None to choose.
        mode: ``"merge"`` or ``"drop"``.
        evidence: describe and measure all that is flagged; without it only what goes.
    """

    threshold: float | None
    count: int | None
    filters: tuple[int, ...] | None
    mode: str
    evidence: bool = True


def judge(
    model: nn.Module,
    layer: WatchedLayer,
    *,
    structure: Structure,
    probe: Probe,
    meter: Meter,
    wanted: Wanted,
    edits: contextlib.ExitStack,
) -> LayerPlan:
    """Plan one layer.

    Args:
        model: unwrapped. What it is left with has the planned filters silenced, until *edits*
            puts all back, so that the next layer is judged as it would be then.
        layer: of the model.
        structure: of *layer*.
        probe: to observe it on.
        meter: begun with the model as it is now.
        wanted: what to look for.
        edits: undoes what is done to the model.

    Raises:
        PruningError: the probe or the user's function fails, or a value is not finite.
    """
    observed = observe(model, layer, structure=structure, probe=probe)
    trial = Trial(model, observed.readers, meter=meter)
    flags = _Flags(layer, observed, threshold=wanted.threshold, trial=trial)
    if wanted.filters is not None:
        removed = checked_filters(structure, wanted.filters).tolist()
        reason = "asked for"
    else:
        candidates = range(structure.filters) if wanted.threshold is None else flags.candidates
        count = len(candidates) if wanted.count is None else wanted.count
        removed = trial.rank(candidates, count)
        reason = "least missed"
    findings = flags.describe(removed, reason=reason, flagged=wanted.evidence)
    gone = np.array(sorted(removed), np.int64)
    mode, dropped, merged = wanted.mode, 0.0, 0.0
    merges: tuple[Merge, ...] = ()
    if len(gone):
        dropped, merged = trial.costs(gone)
        merges = trial.fits(gone)
        # A merge that is worse than the drop is not used; what is not finite is worse than all.
        bearable = dropped + CHANCE * abs(meter.before) if math.isfinite(dropped) else math.inf
        good = math.isfinite(merged) and merged <= bearable
        mode = "merge" if wanted.mode == "merge" and good else "drop"
        if mode == "drop" and not math.isfinite(dropped):
            raise PruningError(
                f"Cannot prune layer {layer.name!r}: what pruning costs would be {dropped} without "
                f"filters {', '.join(map(str, gone))}; take fewer, or others."
            )
        edits.enter_context(restored(model, observed.readers))
        trial.do(gone, merges if mode == "merge" else ())
    return LayerPlan(
        structure=structure,
        samples=observed.samples,
        groups=flags.groups,
        dead=flags.dead,
        duplicates=flags.duplicates,
        findings=findings,
        removed=tuple(gone.tolist()),
        mode=mode,
        cost_dropped=dropped,
        cost_merged=merged,
        merges=merges if mode == "merge" else (),
        note="; ".join(flags.notes),
    )


class _Flags:
    """Which filters of a layer look as if they could go, and why.

    Attributes:
        candidates: filters that may go: the dead ones, and all of a group but the kept one.
        reasons: by filter, of all that were flagged.
        notes: what else a person should know.
    """

    def __init__(
        self, layer: WatchedLayer, observed: Observed, *, threshold: float | None, trial: Trial
    ) -> None:
        self._pcc = np.nan_to_num(observed.pcc, nan=0.0)
        self._cosines = _cosines(layer)
        self._trial = trial
        self.dead = tuple(np.flatnonzero(observed.dead).tolist())
        self.duplicates = self._find_duplicates(observed.dead)
        self.groups: tuple[Group, ...] = ()
        self.notes: list[str] = []
        self.reasons: dict[int, str] = dict.fromkeys(self.dead, "dead")
        self.candidates: set[int] = set()
        if observed.samples >= ENOUGH_SAMPLES:
            self.candidates.update(self.dead)
        elif self.dead:
            self.notes.append(
                f"dead filters stay: on {observed.samples} samples they may be silent by chance; "
                f"give a probe of {ENOUGH_SAMPLES} or more"
            )
        if threshold is not None:
            self._add_groups(observed, threshold)
        self._add_duplicates(threshold)

    def _add_duplicates(self, threshold: float | None) -> None:
        kept = {each.kept for each in self.groups}
        for first, second, _ in self.duplicates:
            free = [index for index in (first, second) if index not in kept]
            if self.reasons.keys() & {first, second} or not free:
                continue  # one of them is to go already, or each stays for a group of its own
            (going,) = self._trial.rank(free, 1)
            self.reasons[going] = "duplicate"
            # A negated copy, parted from the other by a nonlinearity, does other work.
            if threshold is not None and abs(self._pcc[first, second]) >= threshold:
                self.candidates.add(going)

    def _find_duplicates(self, dead: NDArray[np.bool_]) -> tuple[tuple[int, int, float], ...]:
        above = np.triu(np.abs(self._cosines) >= DUPLICATE_COSINE, 1)
        above[dead] = above[:, dead] = False
        return tuple(
            (int(first), int(second), float(self._cosines[first, second]))
            for first, second in zip(*np.nonzero(above), strict=True)
        )

    def _add_groups(self, observed: Observed, threshold: float) -> None:
        labels = group(observed.pcc, observed.dead, threshold=threshold)
        found = []
        for label in range(int(labels.max(initial=-1)) + 1):
            members = np.flatnonzero(labels == label).tolist()
            going = self._trial.rank(members, len(members) - 1)
            (kept,) = set(members) - set(going)
            self.reasons.update(dict.fromkeys(going, "group"))
            self.candidates.update(going)
            found.append(
                Group(
                    members=tuple(members),
                    r=tuple(map(tuple, observed.pcc[np.ix_(members, members)].tolist())),
                    kept=kept,
                    why="what only it does is heard most",
                )
            )
        self.groups = tuple(found)

    def describe(
        self, removed: Collection[int], *, reason: str, flagged: bool
    ) -> tuple[Finding, ...]:
        """Describe what goes, and what was flagged if that is wanted too.

        Args:
            removed: what goes.
            reason: of what goes and was not flagged.
            flagged: whether what was flagged and stays is described as well.
        """
        found = sorted({*self.reasons, *removed} if flagged else removed)
        # Many alone take long: those that go come first.
        measured = sorted(found, key=lambda index: index not in removed)[:MAX_MEASURED]
        if len(measured) < len(found):
            more = len(found) - len(measured)
            self.notes.append(f"costs of {more} filters alone were not measured")
        return tuple(
            self._describe(
                index,
                partner=self._partner(index, removed=removed),
                reason=self.reasons.get(index, reason),
                measured=index in measured,
            )
            for index in found
        )

    def _partner(self, index: int, *, removed: Collection[int]) -> int:
        """The filter that stays and resembles *index* most, -1 for a dead one."""
        for each in self.groups:
            if index in each.members and each.kept not in removed:
                return each.kept
        likeness = np.abs(self._pcc[index])
        likeness[[index, *removed]] = -1.0
        best = int(likeness.argmax())
        return best if likeness[best] > 0 else -1

    def _describe(self, index: int, *, partner: int, reason: str, measured: bool) -> Finding:
        costs = self._trial.costs(np.array([index])) if measured else (np.nan, np.nan)
        alone = partner < 0
        return Finding(
            filter=index,
            reason=reason,
            partner=partner,
            r=np.nan if alone else float(self._pcc[index, partner]),
            cosine=np.nan if alone else float(self._cosines[index, partner]),
            unexplained=self._trial.unexplained(index),
            cost_dropped=costs[0],
            cost_merged=costs[1],
        )


def _cosines(layer: WatchedLayer) -> NDArray[np.float64]:
    """Cosines between the filters' kernels with their biases, shape ``(F, F)``; 0 for zero ones."""
    kernels = filters_first(read_weight(layer), layer).flatten(1).double().cpu().numpy()
    bias = getattr(layer.module, "bias", None)
    if bias is not None:
        kernels = np.hstack([kernels, bias.detach().double().cpu().numpy()[:, None]])
    lengths = np.linalg.norm(kernels, axis=1, keepdims=True)
    unit = np.divide(kernels, lengths, out=np.zeros_like(kernels), where=lengths > 0)
    return np.asarray(unit @ unit.T)
