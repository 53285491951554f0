"""Pruning in the midst of a training: plans on request and by policy, and the record of it."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from tensorview.capture.probe import Probe, follow_model, given_probe
from tensorview.errors import CaptureError, ConfigurationError, PruningError
from tensorview.pruning.evidence import Wanted
from tensorview.pruning.plan import Plan, checksum, plain
from tensorview.pruning.planner import make_plan
from tensorview.pruning.policy import check_mode, check_threshold
from tensorview.steering.commands import near_matches
from tensorview.steering.lines import append_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from weakref import ReferenceType

    from torch import nn
    from torch.optim import Optimizer

    from tensorview.capture import Capturer
    from tensorview.captures import Captures
    from tensorview.guard import Guard
    from tensorview.pruning.policy import PrunePolicy
    from tensorview.settings import Settings

PRUNING_FILE = "pruning.jsonl"

_DISTRIBUTED = (
    "in distributed training the other processes would keep their filters, and the models would "
    "not fit each other."
)

log = logging.getLogger("tensorview")


class Pruner:
    """Finds redundant filters of one model, and takes them out while it trains.

    Args:
        model: unwrapped.
        captures: of it; they learn what has gone.
        capturer: of it.
        optimizers: that are known; others are found.
        settings: ``evaluate``, ``prune``, ``probe`` and ``activations`` count here.
        is_alone: whether this process trains without others.
        guard: keeps what goes wrong after an event out of the training.

    Attributes:
        run_path: where `PRUNING_FILE` goes, None for nowhere.

    Raises:
        ConfigurationError: a policy that can never be followed.
    """

    def __init__(
        self,
        model: ReferenceType[nn.Module],
        captures: Captures,
        capturer: Capturer,
        *,
        optimizers: Sequence[ReferenceType[Optimizer]],
        settings: Settings,
        is_alone: bool,
        guard: Guard,
    ) -> None:
        self.run_path: Path | None = None
        self._model = model
        self._captures = captures
        self._capturer: Capturer | None = capturer
        self._optimizers = optimizers
        self._filters: Mapping[str, int] = captures.filters
        self._first = dict(captures.filters)
        self._evaluate = settings.evaluate
        self._policy = settings.prune
        self._is_alone = is_alone
        self._guard = guard
        self._said: set[str] = set()
        if self._policy is not None:
            self._check_policy(self._policy, settings)

    def _check_policy(self, policy: PrunePolicy, settings: Settings) -> None:
        for name, keep in policy.keep.items():
            self._check_layer(name)
            if keep >= self._filters[name]:
                raise ConfigurationError(
                    f"PrunePolicy keep={{{name!r}: {keep}}} leaves nothing to prune: the layer has "
                    f"{self._filters[name]} filters."
                )
        if not self._is_alone:
            raise ConfigurationError(f"prune= cannot be used: {_DISTRIBUTED}")
        if settings.probe is None and settings.activations == "batch":
            raise ConfigurationError(
                "prune= needs probe= where activations='batch': a batch of at least 256 samples to "
                "judge filters on."
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
        """Hold nothing of the model any more, nor what the user's function refers to."""
        self._capturer = self._evaluate = None

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
        if filters is not None and not hasattr(filters, "__iter__"):
            raise ConfigurationError(
                f"filters={filters!r} cannot be used: expected a list of filters' numbers."
            )
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
        if not isinstance(plan, Plan):
            raise ConfigurationError(
                f"prune() cannot use {type(plan).__name__}: expected a plan, as redundant() makes."
            )
        if not self._is_alone:
            raise PruningError(f"Cannot prune: {_DISTRIBUTED}")
        model, capturer = self._alive()
        plan.check(model)
        if checksum(model) != plan.checksum and plan.removed:
            asked = {
                name: Wanted(threshold=None, count=None, filters=filters, mode=plan.mode)
                for name, filters in plan.removed.items()
            }
            plan = self._plan(asked, probe=plan.probe, skip_refused=False)
        if not plan.removed:
            return plan
        self._guard.do(self._captures.wait, step=step)
        lines = self._lines(plan, capturer, step=step, origin=origin, applied=True)
        known = [found for reference in self._optimizers if (found := reference()) is not None]
        kept = plan.apply(model, optimizers=known)
        # The filters are gone: from here on nothing may make the caller believe otherwise.
        self._guard.do(partial(self._captures.shrink, kept), step=step)
        self._record(lines)
        self._guard.do(partial(self._captures.take_event, step), step=step)
        return plan

    def follow_policy(self, step: int) -> None:
        """Do what the policy says for *step*, which is one of its own.

        Raises:
            PruningError: it could not; nothing was changed.
        """
        policy = self._policy
        if policy is None:
            return
        asked = {
            name: Wanted(
                threshold=policy.threshold,
                count=min(policy.count, self._filters[name] - keep),
                filters=None,
                mode=policy.mode,
                evidence=False,
            )
            for name, keep in policy.keep.items()
            if self._filters[name] > keep
        }
        if not asked:
            return
        plan = self._plan(asked, probe=None, skip_refused=len(asked) > 1)
        for why in plan.refused.values():
            self._say(why)
        if not plan.removed:
            log.info("Nothing to prune at step %d.", step)
        elif plan.cost <= policy.max_cost:
            self.prune(plan, step=step, origin="policy")
        else:
            log.warning(
                "Not pruned at step %d: evaluate would rise by %.4g, and max_cost is %.4g.",
                step,
                plan.cost,
                policy.max_cost,
            )
            _, capturer = self._alive()
            self._record(self._lines(plan, capturer, step=step, origin="policy", applied=False))

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
        if not isinstance(name, str) or name not in self._filters:
            hint = near_matches(str(name), self._filters)
            raise ConfigurationError(f"There is no watched layer {name!r}. {hint}")

    def _lines(
        self, whole: Plan, capturer: Capturer, *, step: int, origin: str, applied: bool
    ) -> list[bytes]:
        """Make the lines of an event, one a layer, before anything is changed."""
        original = {layer.name: layer.original_filters for layer in capturer.layers}
        common = {
            "step": step,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "origin": origin,
            "applied": applied,
            "measure": whole.measure,
            "before": whole.before,
            "after": whole.after,
        }
        lines = []
        for plan in whole.layers:
            if not plan.removed:
                continue
            removed = list(plan.removed)
            line = common | {
                "layer": plan.layer,
                "along": [cut.module for cut in plan.structure.writers if cut.module != plan.layer],
                "filters": removed,
                "original_filters": original[plan.layer][removed].tolist(),
                "left": len(plan.kept),
                "mode": plan.mode,
                "cost_dropped": plan.cost_dropped,
                "cost_merged": plan.cost_merged,
                "samples": plan.samples,
                "evidence": [each for each in plan.findings if each.filter in removed],
            }
            lines.append(json.dumps(plain(line)).encode() + b"\n")
        return lines

    def _record(self, lines: Sequence[bytes]) -> None:
        if self.run_path is None:
            return
        try:
            for line in lines:
                append_line(self.run_path, PRUNING_FILE, line)
        except OSError as error:
            self._say(f"{PRUNING_FILE} is not written: {error.strerror}.")

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)


def _probe(model: nn.Module, known: Probe | None, *, given: Any) -> Probe:
    """Return the probe to judge by; *given* is a user's, or that of a former plan."""
    if isinstance(given, Probe):
        return follow_model(given, model)
    try:
        if given is not None:
            return given_probe(model, given)
    except CaptureError as error:
        raise PruningError(str(error)) from error
    if known is None:
        raise PruningError(
            "There is no probe to judge filters on: give watch(probe=...) a batch of at least 256 "
            "samples, or run the model once before."
        )
    return follow_model(known, model)
