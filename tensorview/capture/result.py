"""What one capture found, on the host: numpy only, and no memory of the captures before."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.bounds import ActivationPlan, WeightPlan, evenly
from tensorview.snapshot import GROUP_DEAD, GROUP_NONE, Activations, Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tensorview.capture.layers import WatchedLayer


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCapture:
    """What one capture found of one layer.

    Attributes:
        name: dotted path.
        kind: class name of the module.
        weight_shape: in PyTorch's own order.
        original_filters: shape ``(out,)``, int32, see `tensorview.snapshot.Layer`.
        weights: None where not asked for. ``range`` is the largest finite magnitude of this
            capture alone, 0 for none.
        activations: None without any. ``groups`` tells dead channels from others only, and
            ``map_range`` is the finite range of this capture alone.
        sketch: shape ``(k,)``, float64, see `tensorview.analysis.sketch`.
        chosen: shape ``(A, 3)``, float64: the chosen weights of each triple.
        scalars: ``weight_norm``, ``gradient_norm`` (NaN without a gradient), ``update_ratio`` (an
            estimate, see `tensorview.analysis.sketch.relative_change`; NaN without an optimizer,
            and where filters or inputs were removed since the step), ``filters`` (how many),
            ``dead`` and ``nonfinite_activations`` (counts over all channels, NaN without
            activations), ``nonfinite_weights``, ``nonfinite_gradients`` (NaN without a gradient).
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    original_filters: NDArray[np.int32]
    weights: Weights | None
    activations: Activations | None
    sketch: NDArray[np.float64]
    chosen: NDArray[np.float64]
    scalars: dict[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class CaptureResult:
    """What one capture found, layer by layer in the model's own order."""

    layers: tuple[LayerCapture, ...]


def describe_layer(
    layer: WatchedLayer,
    arrays: dict[str, NDArray[Any]],
    *,
    weight_plan: WeightPlan,
    activation_plan: ActivationPlan | None,
    map_samples: tuple[int, ...],
    samples: int,
) -> LayerCapture:
    """Put one layer's arrays, as they came from the device, in their places.

    Args:
        layer: it.
        arrays: ``norms``, ``sketch``, and if captured ``weights``, ``axes`` and those of
            `tensorview.capture.activations.RunningActivations.tensors`.
        weight_plan: how the weights were reduced.
        activation_plan: how the activations were, None without any.
        map_samples: probe indices of the single maps.
        samples: in the probe.
    """
    norms = arrays["norms"]
    dead, non_finite = arrays["counts"].tolist() if "counts" in arrays else (np.nan, np.nan)
    return LayerCapture(
        name=layer.name,
        kind=layer.kind,
        weight_shape=layer.weight_shape,
        original_filters=layer.original_filters,
        weights=(_weights(layer, arrays["weights"], weight_plan) if "weights" in arrays else None),
        activations=(
            _activations(layer, arrays, activation_plan, map_samples=map_samples, samples=samples)
            if activation_plan is not None
            else None
        ),
        # A copy: it is remembered, and would hold all that was captured beside it.
        sketch=arrays["sketch"].copy(),
        chosen=arrays.get("axes", np.empty((0, 3))).copy(),
        scalars={
            "weight_norm": float(norms[0]),
            "gradient_norm": float(norms[1]),
            "update_ratio": float(norms[2]),
            "filters": float(layer.out),
            "dead": float(dead),
            "nonfinite_weights": float(norms[3]),
            "nonfinite_gradients": float(norms[4]),
            "nonfinite_activations": float(non_finite),
        },
    )


def _weights(layer: WatchedLayer, values: NDArray[Any], plan: WeightPlan) -> Weights:
    low, high = _finite_range(values)
    return Weights(
        values=values,
        filters=evenly(layer.out, plan.filters),
        in_channels=evenly(layer.in_per_group, plan.in_channels),
        conv_groups=layer.conv_groups,
        in_per_group=layer.in_per_group,
        out=layer.out,
        reduced=plan.reduced,
        range=max(-low, high),
    )


def _activations(
    layer: WatchedLayer,
    arrays: dict[str, NDArray[Any]],
    plan: ActivationPlan,
    *,
    map_samples: tuple[int, ...],
    samples: int,
) -> Activations:
    return Activations(
        channels=evenly(plan.size[0], plan.channels),
        out=layer.out,
        groups=np.where(arrays["dead"], GROUP_DEAD, GROUP_NONE).astype(np.int32),
        pcc=arrays["pcc"],
        histogram=arrays["histogram"],
        histogram_range=arrays["histogram_range"],
        zero_mass=arrays["zero_mass"],
        maps=arrays["maps"],
        map_samples=map_samples,
        map_stride=plan.stride,
        map_range=_finite_range(arrays["maps"]),
        sample_count=samples,
    )


def _finite_range(values: NDArray[Any]) -> tuple[float, float]:
    """Smallest and largest finite value, 0 included."""
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if math.isfinite(low) and math.isfinite(high):  # several times as fast as to look at each
        return low, high
    finite = np.isfinite(values)
    return (
        float(values.min(initial=0.0, where=finite)),
        float(values.max(initial=0.0, where=finite)),
    )
