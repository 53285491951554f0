"""What was found of one layer's filters, and what would be done about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tensorview.pruning.fit import Fit
    from tensorview.pruning.structure import Structure


@dataclass(frozen=True, kw_only=True)
class Group:
    """Filters whose activations correlate at or above the threshold, each with each.

    Attributes:
        members: two or more, ascending.
        r: Pearson r of every pair, in the order of *members*.
        kept: the one that stays.
        why: it does, in words.
    """

    members: tuple[int, ...]
    r: tuple[tuple[float, ...], ...]
    kept: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One filter that could go.

    Attributes:
        filter: its index in the layer as it was when the plan was made.
        reason: ``"dead"``, ``"group"``, ``"duplicate"``, ``"least missed"`` or ``"asked for"``.
        partner: the kept filter that it resembles most, -1 for none.
        r: Pearson r with the partner, NaN for none.
        cosine: of its kernel and the partner's: -1 and 1 are duplicates.
        unexplained: share of its variance, where the next layer reads it, that no combination of
            all other filters explains.
        cost_dropped: what removing it alone would cost, dropped.
        cost_merged: likewise, merged.
    """

    filter: int
    reason: str
    partner: int
    r: float
    cosine: float
    unexplained: float
    cost_dropped: float
    cost_merged: float

    def __str__(self) -> str:
        """Lay it out for a person, on one line."""
        like = f", r {self.r:.3f} with {self.partner}" if self.partner >= 0 else ""
        return (
            f"filter {self.filter}: {self.reason}{like}, {self.unexplained:.1%} unexplained by the "
            f"others; cost dropped {self.cost_dropped:.4g}, merged {self.cost_merged:.4g}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Merge:
    """What one reader of the layer gets in place of the removed filters.

    Attributes:
        reader: name of the module.
        shift: name of the module that takes the constants, "" for none.
        fit: the removed filters by all kept ones.
    """

    reader: str
    shift: str
    fit: Fit


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerPlan:
    """What would be done to one layer.

    Attributes:
        structure: what shrinks together.
        samples: that the evidence rests on.
        groups: of filters that correlate.
        dead: filters whose activation is constant over the probe.
        duplicates: pairs of filters with the same kernel up to a factor, and the kernels' cosine.
        findings: every filter that was flagged or is to go, by index.
        removed: filters that would go, ascending.
        mode: ``"merge"``, or ``"drop"`` where that was asked for, or was measured to cost less, by
            more than a hundredth of what `evaluate` gives.
        cost_dropped: of removing all of them, dropped; on top of the plan's layers before.
        cost_merged: likewise, merged.
        merges: one a reader; empty for a drop.
        note: what else a person should know, "" for nothing.
    """

    structure: Structure
    samples: int
    groups: tuple[Group, ...]
    dead: tuple[int, ...]
    duplicates: tuple[tuple[int, int, float], ...]
    findings: tuple[Finding, ...]
    removed: tuple[int, ...]
    mode: str
    cost_dropped: float
    cost_merged: float
    merges: tuple[Merge, ...]
    note: str = ""

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.structure.layer

    @property
    def kept(self) -> NDArray[np.int64]:
        """Filters that stay."""
        return np.setdiff1d(np.arange(self.structure.filters), self.removed)

    @property
    def cost(self) -> float:
        """Of what would be done."""
        return self.cost_merged if self.mode == "merge" else self.cost_dropped

    def __str__(self) -> str:
        """Lay it out for a person, a line each filter."""
        some = _words(self.removed)
        what = f"{some} would be {_DONE[self.mode]}" if self.removed else "nothing would go"
        lines = [f"{self.layer}: {what}, of {self.structure.filters} filters"]
        if self.removed:
            lines[0] += f"; cost dropped {self.cost_dropped:.4g}, merged {self.cost_merged:.4g}"
        along = [cut.module for cut in self.structure.writers if cut.module != self.layer]
        if along:
            lines.append(f"  along with the same filters of {', '.join(along)}")
        lines += [
            f"  group {_words(group.members)} keeps {group.kept}: {group.why}"
            for group in self.groups
        ]
        lines += [
            f"  duplicates {first} and {second}: cosine of their kernels {cosine:.4f}"
            for first, second, cosine in self.duplicates
        ]
        if self.dead:
            lines.append(f"  dead: {_words(self.dead)}")
        lines += [
            f"  {found}" + (", stays" if found.filter not in self.removed else "")
            for found in self.findings
            if found.reason != "dead" or _is_felt(found.cost_dropped, found.cost_merged)
        ]
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])


_DONE = {"merge": "merged into the others", "drop": "dropped"}


def _is_felt(*costs: float) -> bool:
    """Whether a cost was measured and is not zero: a dead filter may be constant, not silent."""
    return any(not math.isnan(cost) and cost != 0.0 for cost in costs)


def _words(filters: tuple[int, ...]) -> str:
    return ", ".join(map(str, filters))
