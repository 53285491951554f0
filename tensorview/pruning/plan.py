"""Which filters would go, why, how and at what measured cost, before anything is changed."""

from __future__ import annotations

import contextlib
import json
import math
import zlib
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tensorview.errors import PruningError
from tensorview.pruning.findings import Finding, Group, LayerPlan, Merge
from tensorview.pruning.fit import Fit
from tensorview.pruning.optimizers import optimizers_of
from tensorview.pruning.readers import fold, folded_into
from tensorview.pruning.structure import Cut, Structure
from tensorview.pruning.surgery import check, kept, remove
from tensorview.whole_files import replace_file

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from os import PathLike

    from numpy.typing import NDArray
    from torch import nn
    from torch.optim import Optimizer

    from tensorview.capture.probe import Probe

SCHEMA_VERSION = 1


Remaining = tuple["NDArray[np.int64] | None", "NDArray[np.int64] | None"]
"""Outputs and inputs of a module that remain, None where all do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What pruning would do; made by `Watcher.redundant`.

    A plan is about the very weights that it was made from: with other weights its merges would be
    wrong and its costs not those measured.

    Attributes:
        layers: one a layer that can be pruned, also where nothing would go.
        refused: layer name -> why it cannot be pruned.
        measure: what costs are: ``"evaluate"``, by how much `evaluate` rises, or
            ``"output_change"``, the mean squared change of the model's outputs on the probe.
        before: what `evaluate` gave before; 0 for ``"output_change"``.
        after: what it gives, or how much the outputs change, with the whole plan applied.
        mode: that was asked for.
        shapes: of the model's parameters, by name.
        checksum: of the model's parameters.
        probe: what it was made on, None for a plan that was loaded.
    """

    layers: tuple[LayerPlan, ...]
    refused: dict[str, str]
    measure: str
    before: float
    after: float
    mode: str
    shapes: dict[str, tuple[int, ...]]
    checksum: int
    schema: int = field(default=SCHEMA_VERSION)
    probe: Probe | None = field(default=None, repr=False)

    @property
    def removed(self) -> dict[str, tuple[int, ...]]:
        """Filters that would go, by layer; layers that lose none are left out."""
        return {plan.layer: plan.removed for plan in self.layers if plan.removed}

    @property
    def cost(self) -> float:
        """Of the whole plan."""
        return self.after - self.before

    def apply(
        self, model: nn.Module, *, optimizers: Collection[Optimizer] = ()
    ) -> dict[str, Remaining]:
        """Remove the filters from *model*, in place, all or none.

        Parameters stay the same objects. Optimizers that hold them are found, and their state loses
        the same entries and nothing else. Not between a forward pass and its backward pass.

        Args:
            model: unwrapped; with the weights that the plan was made from.
            optimizers: those that may not be found: after ``gc.freeze()`` none are.

        Returns:
            Module name -> indices of its outputs and of its inputs that remain, None where all do.

        Raises:
            PruningError: another model, other weights, or an optimizer whose state cannot follow;
                nothing was changed.
        """
        self.check(model)
        if checksum(model) != self.checksum:
            raise PruningError(
                "The plan does not fit the model: its weights have changed since the plan was "
                "made. Make the plan again, or give it to watcher.prune(), which does."
            )
        steps = [plan for plan in self.layers if plan.removed]
        holders = {*optimizers, *optimizers_of(model)}
        for plan in steps:
            check(model, plan.structure, plan.removed, optimizers=list(holders))
        remaining: dict[str, Remaining] = {}
        with contextlib.ExitStack() as undo:
            for plan in steps:
                structure = shifted(plan.structure, remaining)
                _merge(model, plan, structure, undo)
                undo.callback(remove(model, structure, plan.removed, optimizers=list(holders)))
                remaining = composed(remaining, kept(structure, plan.removed))
            undo.pop_all()
        return remaining

    def check(self, model: nn.Module) -> None:
        """Raise a PruningError unless *model* has the parameters that the plan was made for."""
        found = parameter_shapes(model)
        if found.keys() != self.shapes.keys():
            odd = min(found.keys() ^ self.shapes.keys())
            where = "in the model only" if odd in found else "in the plan only"
            raise PruningError(
                f"The plan is for another model: parameter {odd!r} is {where}. Make a plan for "
                f"this one."
            )
        for name, shape in self.shapes.items():
            if found[name] != shape:
                raise PruningError(
                    f"The plan does not fit the model: {name!r} has shape {found[name]}, and had "
                    f"{shape} when the plan was made. Make the plan again."
                )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan as JSON."""
        replace_file(Path(path), self.to_json().encode() + b"\n")

    def to_json(self) -> str:
        """Return the plan as JSON; numbers that are not finite as null."""
        return json.dumps(plain(replace(self, probe=None)), allow_nan=False)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Plan:
        """Read a plan that `save` wrote.

        Raises:
            PruningError: it is not there, or no plan.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise PruningError(f"Cannot read the plan '{path}': {error}.") from None

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` returned.

        Raises:
            PruningError: it is no plan.
        """
        try:
            found = json.loads(text)
            if found["schema"] != SCHEMA_VERSION:
                raise PruningError(
                    f"Cannot read the plan: it has schema version {found['schema']!r}, expected "
                    f"{SCHEMA_VERSION}. Make it again with this tensorview."
                )
            return _plan(found)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise PruningError("Cannot read the plan: it is damaged, or no plan at all.") from None

    def __str__(self) -> str:
        """Lay it out for a person: layer by layer, then what cannot be pruned, then the sum."""
        lines = [str(plan) for plan in self.layers]
        lines += self.refused.values()
        if self.removed and self.measure == "evaluate":
            lines.append(f"evaluate: {self.before:.4g} -> {self.after:.4g}")
        elif self.removed:
            lines.append(f"output_change: {self.after:.4g}")
        return "\n".join(lines)


def parameter_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return every parameter's shape by name."""
    return {name: tuple(value.shape) for name, value in model.named_parameters()}


def checksum(model: nn.Module) -> int:
    """CRC-32 of all parameters' bytes."""
    result = 0
    for parameter in model.parameters():
        flat = parameter.detach().cpu().contiguous().flatten()
        result = zlib.crc32(flat.view(torch.uint8).numpy().data, result)
    return result


def _merge(
    model: nn.Module, plan: LayerPlan, structure: Structure, undo: contextlib.ExitStack
) -> None:
    """Fold what goes into what stays; *undo* learns how to put back what that changes."""
    removed = np.array(plan.removed, np.int64)
    for merge in plan.merges:
        for tensor in folded_into(model, reader=merge.reader, shift=merge.shift):
            undo.callback(tensor.copy_, tensor.clone())
        cut = next(cut for cut in structure.readers if cut.module == merge.reader)
        fold(model, cut, shift=merge.shift, fit=merge.fit, removed=removed, kept=plan.kept)


def shifted(structure: Structure, remaining: Mapping[str, Remaining]) -> Structure:
    """Renumber *structure* after other filters have gone, of what its modules read or write."""
    cuts = []
    for cut in structure.cuts:
        there = remaining.get(cut.module, (None, None))[cut.role == "reads"]
        entries = cut.entries if there is None else np.searchsorted(there, cut.entries)
        length = cut.length if there is None else len(there)
        cuts.append(replace(cut, entries=entries, length=length))
    return replace(structure, cuts=tuple(cuts))


def composed(
    before: Mapping[str, Remaining], after: Mapping[str, Remaining]
) -> dict[str, Remaining]:
    """Return what remains after two removals, in the numbering of before the first."""

    def both(first: NDArray[np.int64] | None, second: NDArray[np.int64] | None) -> Any:
        if first is None or second is None:
            return first if second is None else second
        return first[second]

    nothing: Remaining = (None, None)
    return {
        name: (
            both(before.get(name, nothing)[0], after.get(name, nothing)[0]),
            both(before.get(name, nothing)[1], after.get(name, nothing)[1]),
        )
        for name in {**before, **after}
    }


def plain(value: Any) -> Any:
    """Return *value* in types of JSON; a number that is not finite is None."""
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _plan(found: dict[str, Any]) -> Plan:
    return Plan(
        layers=tuple(map(_layer_plan, found["layers"])),
        refused=dict(found["refused"]),
        measure=str(found["measure"]),
        before=_number(found["before"]),
        after=_number(found["after"]),
        mode=str(found["mode"]),
        shapes={name: tuple(shape) for name, shape in found["shapes"].items()},
        checksum=int(found["checksum"]),
    )


def _layer_plan(found: dict[str, Any]) -> LayerPlan:
    structure = found["structure"]
    return LayerPlan(
        structure=Structure(
            layer=structure["layer"],
            filters=structure["filters"],
            cuts=tuple(
                Cut(
                    module=cut["module"],
                    role=cut["role"],
                    entries=np.array(cut["entries"], np.int64),
                    length=cut["length"],
                )
                for cut in structure["cuts"]
            ),
        ),
        samples=found["samples"],
        groups=tuple(
            Group(
                members=tuple(group["members"]),
                r=tuple(tuple(map(_number, row)) for row in group["r"]),
                kept=group["kept"],
                why=group["why"],
            )
            for group in found["groups"]
        ),
        dead=tuple(found["dead"]),
        duplicates=tuple((int(a), int(b), _number(cosine)) for a, b, cosine in found["duplicates"]),
        findings=tuple(
            Finding(
                filter=each["filter"],
                reason=each["reason"],
                partner=each["partner"],
                **{name: _number(each[name]) for name in _NUMBERS},
            )
            for each in found["findings"]
        ),
        removed=tuple(found["removed"]),
        mode=found["mode"],
        cost_dropped=_number(found["cost_dropped"]),
        cost_merged=_number(found["cost_merged"]),
        merges=tuple(
            Merge(
                reader=merge["reader"],
                shift=merge["shift"],
                fit=Fit(
                    coefficients=np.array(merge["fit"]["coefficients"], np.float64),
                    constants=np.array(merge["fit"]["constants"], np.float64),
                ),
            )
            for merge in found["merges"]
        ),
        note=found["note"],
    )


_NUMBERS = ("r", "cosine", "unexplained", "cost_dropped", "cost_merged")
