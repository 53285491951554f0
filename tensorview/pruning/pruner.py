"""Pruning in the midst of a training: plans on request and by policy, and the record of it."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.capture.probe import follow_model, given_probe
from tensorview.errors import ConfigurationError, PruningError
from tensorview.pruning.evidence import Wanted
from tensorview.pruning.plan import checksum, plain
from tensorview.pruning.planner import make_plan
from tensorview.pruning.policy import check_mode, check_threshold
from tensorview.steering.commands import near_matches
from tensorview.steering.lines import append_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from weakref import ReferenceType

    from numpy.typing import NDArray
    from torch import nn

    from tensorview.capture import Capturer
    from tensorview.capture.probe import Probe
    from tensorview.pruning.findings import LayerPlan
    from tensorview.pruning.plan import Kept, Plan
    from tensorview.settings import Settings

PRUNING_FILE = "pruning.jsonl"

log = logging.getLogger("tensorview")


class Pruner:
    """Finds redundant filters of one model, and takes them out while it trains.

    Args:
        model: unwrapped.
        capturer: of it.
        filters: by watched layer, how many it has now.
        settings: ``evaluate`` and ``prune`` count here.
        is_alone: whether this process trains without others.
        shrunk: called after each event with the step, and what remains of each module.

    Attributes:
        run_path: where `PRUNING_FILE` goes, None for nowhere.

    Raises:
        ConfigurationError: a policy for layers that are not watched, or have no more filters.
    """

    def __init__(
        self,
        model: ReferenceType[nn.Module],
        capturer: Capturer,
        *,
        filters: Mapping[str, int],
        settings: Settings,
        is_alone: bool,
        shrunk: Callable[[int, dict[str, Kept]], None],
    ) -> None:
        self.run_path: Path | None = None
        self._filters = filters
        self._first = dict(filters)
        self._model = model
        self._capturer: Capturer | None = capturer
        self._evaluate = settings.evaluate
        self._policy = settings.prune
        self._is_alone = is_alone
        self._shrunk = shrunk
        self._original: dict[str, NDArray[np.int64]] = {
            name: np.arange(count) for name, count in filters.items()
        }
        for name, keep in self._policy.keep.items() if self._policy else ():
            self._check_layer(name)
            if keep >= self._filters[name]:
                raise ConfigurationError(
                    f"PrunePolicy keep={{{name!r}: {keep}}} leaves nothing to prune: the layer has "
                    f"{self._filters[name]} filters."
                )

    @property
    def pruned(self) -> dict[str, tuple[int, int]]:
        """By layer that lost filters: how many it has, and had."""
        return {
            name: (count, self._first[name])
            for name, count in self._filters.items()
            if count < self._first[name]
        }

    def let_go(self) -> None:
        """Hold nothing of the model any more."""
        self._capturer = None

    def redundant(
        self,
        layer: str | None,
        *,
        threshold: float | None = 0.9,
        count: int | None = None,
        filters: Sequence[int] | None = None,
        mode: str = "merge",
        probe: Any = None,
    ) -> Plan:
        """Plan; see `Watcher.redundant`."""
        if threshold is not None:
            check_threshold(threshold)
        check_mode(mode)
        if count is not None and (type(count) is not int or count < 1):
            raise ConfigurationError(f"count={count!r} cannot be used: expected 1 or more filters.")
        if filters is not None and layer is None:
            raise ConfigurationError("filters= needs layer=: the layer that they are of.")
        if threshold is None and count is None and filters is None:
            raise ConfigurationError(
                "threshold=None needs count=: how many of the least missed filters go."
            )
        if layer is not None:
            self._check_layer(layer)
        wanted = Wanted(
            threshold=threshold,
            count=count,
            filters=None if filters is None else tuple(filters),
            mode=mode,
        )
        names = list(self._filters) if layer is None else [layer]
        return self._plan(dict.fromkeys(names, wanted), probe=probe, skip_refused=layer is None)

    def prune(self, plan: Plan, *, step: int, origin: str) -> Plan:
        """Do what *plan* says, made anew if weights have changed since; see `Watcher.prune`."""
        if not self._is_alone:
            raise PruningError(
                "Cannot prune in distributed training: the other processes would keep their "
                "filters, and the models would not fit each other."
            )
        model, _ = self._alive()
        plan.check(model)
        if checksum(model) != plan.checksum:
            asked = {
                each.layer: Wanted(
                    threshold=None,
                    count=None,
                    filters=each.removed,
                    mode=each.mode,
                )
                for each in plan.layers
                if each.removed
            }
            plan = self._plan(asked, probe=None, skip_refused=False)
        kept = plan.apply(model)
        for each in plan.layers:
            if each.removed:
                self._record(each, plan, step=step, origin=origin)
                self._original[each.layer] = self._original[each.layer][each.kept]
        self._shrunk(step, kept)
        return plan

    def follow_policy(self, step: int) -> None:
        """Prune if the policy says so for *step*.

        Raises:
            PruningError: it could not; nothing was changed.
        """
        policy = self._policy
        if policy is None or step not in policy.at:
            return
        asked = {
            name: Wanted(
                threshold=policy.threshold,
                count=min(policy.count, self._filters[name] - keep),
                filters=None,
                mode=policy.mode,
            )
            for name, keep in policy.keep.items()
            if self._filters[name] > keep
        }
        if not asked:
            return
        plan = self._plan(asked, probe=None, skip_refused=False)
        if plan.cost <= policy.max_cost:
            self.prune(plan, step=step, origin="policy")
            return
        log.warning(
            "Not pruned at step %d: evaluate would rise by %.4g, and max_cost is %.4g.",
            step,
            plan.cost,
            policy.max_cost,
        )
        for each in plan.layers:
            self._record(each, plan, step=step, origin="policy", applied=False)

    def _plan(self, asked: dict[str, Wanted], *, probe: Any, skip_refused: bool) -> Plan:
        model, capturer = self._alive()
        layers = {layer.name: layer for layer in capturer.layers}
        return make_plan(
            model,
            [(layers[name], wanted) for name, wanted in asked.items()],
            probe=_probe(model, capturer.probe, given=probe),
            evaluate=self._evaluate,
            skip_refused=skip_refused,
        )

    def _alive(self) -> tuple[nn.Module, Capturer]:
        model = self._model()
        if model is None or self._capturer is None:
            raise PruningError("Cannot prune: the watcher is closed, or its model is gone.")
        return model, self._capturer

    def _check_layer(self, name: str) -> None:
        if name not in self._filters:
            hint = near_matches(str(name), self._filters)
            raise ConfigurationError(f"There is no watched layer {name!r}. {hint}")

    def _record(
        self, plan: LayerPlan, whole: Plan, *, step: int, origin: str, applied: bool = True
    ) -> None:
        line = {
            "step": step,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "origin": origin,
            "applied": applied,
            "layer": plan.layer,
            "filters": plan.removed,
            "original_filters": self._original[plan.layer][list(plan.removed)].tolist(),
            "left": len(plan.kept),
            "mode": plan.mode,
            "measure": whole.measure,
            "before": whole.before,
            "after": whole.after,
            "cost_dropped": plan.cost_dropped,
            "cost_merged": plan.cost_merged,
            "samples": plan.samples,
            "evidence": [each for each in plan.findings if each.filter in plan.removed],
        }
        if self.run_path is not None:
            append_line(self.run_path, PRUNING_FILE, json.dumps(plain(line)).encode() + b"\n")


def _probe(model: nn.Module, known: Probe | None, *, given: Any) -> Probe:
    if given is not None:
        return given_probe(model, given)
    if known is None:
        raise PruningError(
            "There is no probe to judge filters on: give watch(probe=...) a batch of at least 256 "
            "samples, or run the model once before."
        )
    return follow_model(known, model)
