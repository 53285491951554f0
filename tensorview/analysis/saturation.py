"""Which filters of a bounded nonlinearity sit at the ends of its range."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tensorview.snapshot import Activations

END = math.sqrt(0.9)
"""Beyond this share of its range, counted from the middle, the slope of tanh and of the logistic
function is below a tenth of its largest: ``1 - y**2 < 0.1``."""
MOST = 0.8
"""A filter with at least this share of its values beyond `END` is saturated."""


def count_saturated(activations: Activations) -> float:
    """Count the shown filters that are saturated.

    Args:
        activations: of one layer; histograms are all that is looked at.

    Returns:
        A whole number. NaN where the layer does not look bounded: its range is taken for that of a
        logistic function if it reaches beyond 0.5, no value is outside of [0, 1] and none is
        exactly zero, and for that of tanh if there are negative values and none is outside of
        [-1, 1]. So a ReLU, whose zeros are exact, is never called saturated, nor is a layer of
        small values, nor one that leaves these ranges.
    """
    ranges = activations.histogram_range.astype(np.float64)
    if not len(ranges) or not np.isfinite(ranges).all():
        return math.nan
    low, high = ranges[:, 0].min(), ranges[:, 1].max()
    if low >= 0.0 and 0.5 < high <= 1.0 and not activations.zero_mass.any():
        scale, shift = 2.0, -1.0
    elif -1.0 <= low < 0.0 and high <= 1.0:
        scale, shift = 1.0, 0.0
    else:
        return math.nan
    shares: NDArray[np.float64] = activations.histogram.astype(np.float64)
    middles = (np.arange(shares.shape[1]) + 0.5) / shares.shape[1]
    values = ranges[:, :1] + (ranges[:, 1:] - ranges[:, :1]) * middles
    beyond = (shares * (np.abs(scale * values + shift) >= END)).sum(axis=1)
    return float(np.count_nonzero(beyond >= MOST))
