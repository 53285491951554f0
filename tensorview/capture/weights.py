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
    weight_norm, nonfinite_weights = _look_over([weight])
    parts = read_gradients(layer)
    gradient_norm, nonfinite_gradients = _look_over(parts) if parts else (nothing, nothing)
    update_ratio = nothing if before is None else relative_change(before, after)
    part = {
        "sketch": after,
        "norms": torch.stack(
            [weight_norm, gradient_norm, update_ratio, nonfinite_weights, nonfinite_gradients]
        ),
    }
    if "weights" in views:
        part["weights"] = _choose_weights(filters_first(weight, layer), plan)
    if axes:
        part["axes"] = torch.stack(
            [torch.stack([original[index] for index in triple]) for triple in axes]
        ).double()
    return part


def _look_over(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Norm of all *parts* together, and how many of their values are not finite; both float64."""
    norms = [torch.linalg.vector_norm(part).double() for part in parts]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    # A look at a result waits for nobody on the CPU, and a finite norm has finite parts only.
    if norm.is_cpu and bool((norm < torch.inf).all()):
        return norm, torch.zeros_like(norm)
    # NaN where not finite, else 0.
    counts = [torch.count_nonzero(part - part) for part in parts]
    return norm, torch.stack(counts).sum().double()


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
