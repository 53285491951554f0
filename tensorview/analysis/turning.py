"""How a path of weights runs: how sharply it turns, and how straight it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def turning_angle(sketches: NDArray[np.float64]) -> float:
    """Angle by which a path turned at its last point but one.

    Args:
        sketches: shape ``(T, k)``, one row a capture, see `tensorview.analysis.sketch`.

    Returns:
        Degrees from 0 (straight on) to 180 (back). NaN for fewer than three points, or where one
        of the last two displacements is zero or not finite.
    """
    if len(sketches) < 3:
        return math.nan
    before, after = sketches[-2] - sketches[-3], sketches[-1] - sketches[-2]
    lengths = float(np.linalg.norm(before) * np.linalg.norm(after))
    if not 0.0 < lengths < math.inf:
        return math.nan
    cosine = float(before @ after) / lengths
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def straightness(sketches: NDArray[np.float64]) -> float:
    """Distance between a path's ends as a share of its length.

    Args:
        sketches: shape ``(T, k)``, one row a capture.

    Returns:
        1 for a straight line, 0 for a path that came back. NaN for fewer than three points, and for
        a path without a length, or with a point that is not finite.
    """
    if len(sketches) < 3:
        return math.nan
    length = float(np.linalg.norm(np.diff(sketches, axis=0), axis=1).sum())
    if not 0.0 < length < math.inf:
        return math.nan
    return float(np.linalg.norm(sketches[-1] - sketches[0])) / length
