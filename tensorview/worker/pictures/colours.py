"""Colours of every view, as plain numbers: no VTK, so that any client can share them.

A ramp is a tuple of control points ``(position, red, green, blue)``, all in [0, 1], positions
ascending from 0 to 1; in between, colours are linear in sRGB.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensorview.snapshot import GROUP_DEAD, GROUP_NONE

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour: TypeAlias = "tuple[float, float, float]"
Ramp: TypeAlias = "tuple[tuple[float, float, float, float], ...]"

PAGE: Colour = (0.995, 0.995, 0.995)
PANEL: Colour = (0.89, 0.895, 0.91)
INK: Colour = (0.13, 0.14, 0.17)
MUTED: Colour = (0.42, 0.44, 0.48)
WINDOW: Colour = (0.965, 0.968, 0.973)
LINE: Colour = (0.72, 0.74, 0.77)
GRID: Colour = (0.89, 0.9, 0.915)

# Both arms fall equally in lightness (CIE L* 99 to 38), so that neither sign looks larger.
DIVERGING: Ramp = (
    (0.0, 0.11, 0.3, 0.66),
    (0.125, 0.21, 0.5, 0.83),
    (0.25, 0.5, 0.68, 0.93),
    (0.375, 0.76, 0.84, 0.97),
    (0.5, 1.0, 1.0, 1.0),
    (0.625, 0.99, 0.8, 0.75),
    (0.75, 0.95, 0.56, 0.49),
    (0.875, 0.84, 0.33, 0.29),
    (1.0, 0.67, 0.12, 0.15),
)
"""Correlation: negative blue, zero white, positive red."""

# Nine in ten weights lie within a fifth of their layer's range, which a linear ramp shows as white.
WEIGHTS: Ramp = tuple(
    (0.5 + 0.5 * math.copysign(abs(2 * place - 1) ** 1.7, place - 0.5), red, green, blue)
    for place, red, green, blue in DIVERGING
)
"""Weights, and activations of both signs: the same colours, closer together around zero."""

SEQUENTIAL: Ramp = (
    (0.0, 1.0, 1.0, 1.0),
    (0.06, 0.89, 0.9, 0.92),
    (0.16, 0.74, 0.76, 0.8),
    (0.32, 0.56, 0.59, 0.65),
    (0.55, 0.36, 0.4, 0.48),
    (0.78, 0.19, 0.23, 0.32),
    (1.0, 0.05, 0.07, 0.15),
)
"""Activations: ink on paper, so that the many zeros are blank and hues are left to the groups.
Steeper at the low end, where most activations are."""

STEPS: Ramp = (
    (0.0, 0.71, 0.69, 0.7),
    (0.25, 0.77, 0.58, 0.64),
    (0.5, 0.81, 0.46, 0.58),
    (0.75, 0.84, 0.32, 0.52),
    (1.0, 0.86, 0.06, 0.47),
)
"""Trajectories: from grey at step 0 to pink now."""

DEPTH: Ramp = (
    (0.0, 0.23, 0.22, 0.53),
    (0.2, 0.16, 0.41, 0.62),
    (0.4, 0.15, 0.55, 0.55),
    (0.6, 0.3, 0.66, 0.45),
    (0.8, 0.6, 0.74, 0.28),
    (1.0, 0.9, 0.7, 0.12),
)
"""Lines of many layers, by their place in the network."""

NOT_FINITE: Colour = (1.0, 0.85, 0.0)
UNDEFINED: Colour = (0.8, 0.81, 0.83)
NO_GROUP: Colour = (0.6, 0.62, 0.66)
DEAD: Colour = (0.2, 0.21, 0.24)

# The first seven after Okabe and Ito, "Color Universal Design", 2008, the rest after Tol, "Colour
# schemes", 2021 (muted): told apart with every common kind of colour blindness.
GROUPS: tuple[Colour, ...] = (
    (0.0, 0.447, 0.698),
    (0.902, 0.624, 0.0),
    (0.0, 0.62, 0.451),
    (0.8, 0.475, 0.655),
    (0.835, 0.369, 0.0),
    (0.337, 0.706, 0.914),
    (0.941, 0.894, 0.259),
    (0.2, 0.133, 0.533),
    (0.533, 0.133, 0.333),
    (0.6, 0.6, 0.2),
)
"""Groups, and lines of few layers, in this order; then again from the first."""


def group_colour(group: int) -> Colour:
    """Return the colour of a group number, of `GROUP_NONE` or of `GROUP_DEAD`."""
    if group == GROUP_DEAD:
        return DEAD
    return NO_GROUP if group == GROUP_NONE else GROUPS[group % len(GROUPS)]


def group_colours(groups: NDArray[Any]) -> NDArray[Any]:
    """Return the colours of group numbers, shape ``(n, 3)``, float64."""
    distinct, inverse = np.unique(groups, return_inverse=True)
    table = np.array([group_colour(int(group)) for group in distinct]).reshape(-1, 3)
    result: NDArray[Any] = table[inverse.reshape(-1)]
    return result


def lighter(colours: NDArray[Any] | Colour, *, by: float) -> NDArray[Any]:
    """Mix colours with white, *by* in [0, 1]."""
    return np.asarray(colours) * (1 - by) + by


def ramp_colours(
    values: NDArray[Any], ramp: Ramp, *, low: float, high: float, not_finite: Colour
) -> NDArray[Any]:
    """Colour values by a ramp.

    Args:
        values: any shape and float dtype.
        ramp: its ends lie at *low* and *high*, which are finite; values beyond take the ends.
        low: value of position 0.
        high: value of position 1, above *low*.
        not_finite: colour of NaN and infinities.

    Returns:
        Shape ``(*values.shape, 3)``, float64 in [0, 1].
    """
    points = np.array(ramp)
    finite = np.isfinite(values)
    # Halves, because the difference of two finite numbers may be infinite.
    place = np.where(finite, values, low).astype(np.float64) / 2 - low / 2
    place /= high / 2 - low / 2
    channels = [np.interp(place, points[:, 0], points[:, 1 + i]) for i in range(3)]
    result = np.stack(channels, axis=-1)
    result[~finite] = not_finite
    return result


def ramp_colour(place: float, ramp: Ramp) -> Colour:
    """Return the colour at a place of a ramp, in [0, 1]."""
    red, green, blue = ramp_colours(
        np.array(place), ramp, low=0.0, high=1.0, not_finite=NOT_FINITE
    ).tolist()
    return red, green, blue


def to_bytes(colours: NDArray[Any]) -> NDArray[Any]:
    """Return colours as uint8, for VTK."""
    result: NDArray[Any] = np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return result
