"""Making a plan, layer by layer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tensorview.errors import PruningError
from tensorview.pruning.evidence import judge
from tensorview.pruning.meter import Meter
from tensorview.pruning.plan import Plan, checksum, parameter_shapes
from tensorview.pruning.structure import find_structure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from tensorview.capture.layers import WatchedLayer
    from tensorview.capture.probe import Probe
    from tensorview.pruning.evidence import Wanted
    from tensorview.pruning.findings import LayerPlan
    from tensorview.pruning.structure import Structure


def make_plan(
    model: nn.Module,
    asked: Sequence[tuple[WatchedLayer, Wanted]],
    *,
    probe: Probe,
    evaluate: Callable[[nn.Module], float] | None,
    skip_refused: bool,
) -> Plan:
    """Plan layer after layer, each as the model would be with the ones before it done.

    Nothing of *model* is different afterwards.

    Args:
        model: unwrapped.
        asked: layers of it, at least one, and what of each, all in the same mode.
        probe: to observe the layers on.
        evaluate: ``model -> float``, lower is better; None for the change of the outputs.
        skip_refused: note layers that cannot be pruned instead of raising.

    Raises:
        PruningError: a layer cannot be pruned, the probe or *evaluate* fails, or a value is not
            finite.
    """
    shapes, crc = parameter_shapes(model), checksum(model)
    plans: list[LayerPlan] = []
    refused: dict[str, str] = {}
    with contextlib.ExitStack() as edits:
        first = meter = Meter(model, probe=probe, evaluate=evaluate)
        shrinking: dict[str, str] = {}
        for layer, wanted in asked:
            try:
                structure = _find(model, layer.name, probe=probe, beside=shrinking)
            except PruningError as error:
                if not skip_refused:
                    raise
                refused[layer.name] = str(error)
                continue
            plan = judge(
                model,
                layer,
                structure=structure,
                probe=probe,
                meter=meter,
                wanted=wanted,
                edits=edits,
            )
            plans.append(plan)
            if plan.removed:
                shrinking.update({cut.module: layer.name for cut in structure.writers})
                meter = Meter(model, probe=probe, evaluate=evaluate)
        after = first.before + (first.cost() if shrinking else 0.0)
    return Plan(
        layers=tuple(plans),
        refused=refused,
        measure=first.measure,
        before=first.before,
        after=after,
        mode=asked[0][1].mode,
        shapes=shapes,
        checksum=crc,
        probe=probe,
    )


def _find(model: nn.Module, layer: str, *, probe: Probe, beside: Mapping[str, str]) -> Structure:
    """Find what shrinks with *layer*; *beside* are the modules that shrink with others already."""
    structure = find_structure(model, layer, probe=probe)
    for cut in structure.writers:
        if cut.module in beside:
            raise PruningError(
                f"Cannot prune layer {layer!r} beside {beside[cut.module]!r}, for their filters go "
                f"together: prune one, then make another plan."
            )
    return structure
