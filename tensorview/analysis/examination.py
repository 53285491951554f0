"""One layer at one capture, in the numbers that rules of health compare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tensorview.analysis.saturation import count_saturated
from tensorview.analysis.turning import straightness, turning_angle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tensorview.capture.result import LayerCapture

WINDOW = 10
"""Captures over which a path's straightness is taken; before there are so many it is NaN."""
ENOUGH_SAMPLES = 256
"""Samples over which a filter that is constant is dead rather than silent by chance: some are on
100 images, and not on 1,000."""

_NOT_FINITE = ("nonfinite_weights", "nonfinite_gradients", "nonfinite_activations")


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """What one capture tells of one layer, with what its last captures told.

    Attributes:
        step: optimizer steps done.
        weight_shape: earlier examinations of another shape tell nothing of this one.
        sketch: shape ``(k,)``, float64, see `tensorview.analysis.sketch`.
        numbers: by name, NaN where there is nothing to say. Those of
            `tensorview.capture.result.LayerCapture.scalars`, and:

            - ``sensitivity``: gradient norm x weight norm, by how much the loss would change, to
              first order, if the weights changed by their own length;
            - ``sensitivity_share``: of the largest one of all layers;
            - ``moved``: distance from the capture before, as a share of the weights' length, per
              step; only where there is a gradient that is not zero;
            - ``curvature``: angle in degrees by which the path turned at the capture before;
            - ``straightness``: of the path through the last `WINDOW` captures;
            - ``path_moved``: distance between that path's ends, as a share of the weights' length;
            - ``path_steps``: steps from one to the other;
            - ``dead_share``: of all filters;
            - ``dead_surely``: dead filters, where the probe has `ENOUGH_SAMPLES`;
            - ``saturated``, ``saturated_share``: filters shown that are, see
              `tensorview.analysis.saturation`; NaN for the last layer, whose ends are answers;
            - ``nonfinite``: values of any kind;
            - ``last_clean_step``: of the newest capture in which all were finite.
    """

    step: int
    weight_shape: tuple[int, ...]
    sketch: NDArray[np.float64]
    numbers: dict[str, float]


def sensitivity(found: LayerCapture) -> float:
    """Gradient norm x weight norm; NaN without a gradient."""
    return found.scalars["gradient_norm"] * found.scalars["weight_norm"]


def examine(
    step: int,
    found: LayerCapture,
    *,
    past: Sequence[Examination],
    largest: float,
    is_last: bool,
) -> Examination:
    """Look at one layer.

    Args:
        step: optimizer steps done.
        found: of it.
        past: its last ``WINDOW - 1`` examinations or fewer, the newest last; all of this weight's
            shape.
        largest: finite `sensitivity` of all layers, 0 for none.
        is_last: whether it is the last layer.
    """
    scalars = found.scalars
    path = np.array([*(before.sketch for before in past), found.sketch])
    weight, gradient = scalars["weight_norm"], scalars["gradient_norm"]
    slope = sensitivity(found)
    not_finite = sum(scalars[name] for name in _NOT_FINITE if not math.isnan(scalars[name]))
    clean = [before.step for before in past if before.numbers["nonfinite"] == 0.0]
    moved = math.nan
    if past and gradient > 0.0 and weight > 0.0:
        distance = float(np.linalg.norm(path[-1] - path[-2]))
        moved = distance / weight / (step - past[-1].step)
    straight = path_moved = path_steps = math.nan
    if len(path) == WINDOW and weight > 0.0:
        straight = straightness(path)
        path_moved = float(np.linalg.norm(path[-1] - path[0])) / weight
        path_steps = float(step - past[0].step)
    dead_share = dead_surely = saturated = saturated_share = math.nan
    activations = found.activations
    if activations is not None:
        dead_share = _share(scalars["dead"], activations.out)
        if activations.sample_count >= ENOUGH_SAMPLES:
            dead_surely = scalars["dead"]
        if not is_last:
            saturated = count_saturated(activations)
            saturated_share = _share(saturated, len(activations.channels))
    numbers = {
        **scalars,
        "sensitivity": slope,
        "sensitivity_share": _share(slope, largest),
        "moved": moved,
        "curvature": turning_angle(path),
        "straightness": straight,
        "path_moved": path_moved,
        "path_steps": path_steps,
        "dead_share": dead_share,
        "dead_surely": dead_surely,
        "saturated": saturated,
        "saturated_share": saturated_share,
        "nonfinite": not_finite,
        "last_clean_step": clean[-1] if clean else math.nan,
    }
    return Examination(
        step=step, weight_shape=found.weight_shape, sketch=found.sketch, numbers=numbers
    )


def _share(part: float, whole: float) -> float:
    """NaN for no part; 0 where both are 0."""
    return part / whole if whole > 0.0 else part * 0.0
