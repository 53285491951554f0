"""Weights and gradients of one layer, reduced on their device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tensorview.analysis.sketch import relative_change, sketch
from tensorview.capture.layers import (
    filters_first,
    in_original_shape,
    read_gradients,
    read_weight,
)

if TYPE_CHECKING:
    from torch import Tensor

    from tensorview.bounds import WeightPlan
    from tensorview.capture.layers import WatchedLayer


def reduce_weight(
    layer: WatchedLayer,
    *,
    plan: WeightPlan,
    before: Tensor | None,
    axes: Any,
    views: tuple[str, ...],
) -> dict[str, Tensor]:
    """Return what one capture keeps of a layer's weights and gradients.

    Args:
        layer: it.
        plan: how its weights are reduced.
        before: its sketch before the optimizer step, None for none.
        axes: triples of indices into its original weight whose path is shown.
        views: that are made.

    Returns:
        ``sketch``, ``norms`` (weight, gradient, update ratio, weights and gradients not finite;
        float64), and if asked for ``weights`` and ``axes``, all on their device.
    """
    weight = read_weight(layer)
    original = in_original_shape(weight, layer)
    after = sketch(original)
    nothing = torch.full((), torch.nan, dtype=torch.float64, device=weight.device)
    parts = read_gradients(layer)
    gradients = [torch.linalg.vector_norm(part).double() for part in parts]
    part = {
        "sketch": after,
        "norms": torch.stack(
            [
                torch.linalg.vector_norm(weight).double(),
                torch.linalg.vector_norm(torch.stack(gradients)) if gradients else nothing,
                nothing if before is None else relative_change(before, after),
                _count_nonfinite([weight]),
                _count_nonfinite(parts) if parts else nothing,
            ]
        ),
    }
    if "weights" in views:
        part["weights"] = _choose_weights(filters_first(weight, layer), plan)
    if axes:
        part["axes"] = torch.stack(
            [torch.stack([original[index] for index in triple]) for triple in axes]
        ).double()
    return part


def _count_nonfinite(parts: list[Tensor]) -> Tensor:
    # NaN where not finite, else 0.
    return torch.stack([torch.count_nonzero(part - part) for part in parts]).sum().double()


def _choose_weights(values: Tensor, plan: WeightPlan) -> Tensor:
    if plan.kernel_norms:
        values = torch.linalg.vector_norm(values, dim=(2, 3), keepdim=True)
    for axis, shown in ((0, plan.filters), (1, plan.in_channels)):
        total = values.shape[axis]
        if shown < total:
            # Computed on the device: an index sent there would be waited for.
            chosen = torch.arange(shown, device=values.device) * (total - 1) // max(1, shown - 1)
            values = values.index_select(axis, chosen)
    return values
