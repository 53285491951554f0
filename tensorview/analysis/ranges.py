"""Steady ranges for display: rounded up to a few round numbers, and never shrinking."""

from __future__ import annotations

import math

_MANTISSAS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
_SMALLEST, _LARGEST = 1e-30, 1e38


def nice_symmetric(previous: float | None, absmax: float) -> float:
    """Widen the symmetric range ``[-previous, previous]`` until it holds *absmax*.

    Args:
        previous: the range so far, None at first.
        absmax: largest magnitude to show; what is not finite is ignored.

    Returns:
        Positive and finite: 1, 1.5, 2, 3, 5 or 7 times a power of ten; 1 while there is nothing to
        show.
    """
    if not math.isfinite(absmax) or absmax <= 0:
        return 1.0 if previous is None else previous
    return max(round_up(absmax), previous or 0.0)


def nice_range(
    previous: tuple[float, float] | None, low: float, high: float
) -> tuple[float, float]:
    """Widen the range *previous* until it holds *low*, *high* and 0.

    Returns:
        Finite, low < high; either end 0 or plus or minus a round number; (0, 1) while there is
        nothing to show. Ends that are not finite are ignored.
    """
    old_low, old_high = (0.0, 0.0) if previous is None else previous
    new_low = -round_up(-low) if math.isfinite(low) and low < 0 else 0.0
    new_high = round_up(high) if math.isfinite(high) and high > 0 else 0.0
    result = min(old_low, new_low), max(old_high, new_high)
    return result if result[0] < result[1] else (0.0, 1.0)


def round_up(value: float) -> float:
    """Round a positive finite *value* up to 1, 1.5, 2, 3, 5 or 7 times a power of ten."""
    if value >= _LARGEST:
        return max(value, _LARGEST)
    value = max(value, _SMALLEST)
    exponent = math.floor(math.log10(value))
    for power in (exponent - 1, exponent):
        for mantissa in _MANTISSAS:
            candidate = float(f"{mantissa}e{power}")
            if candidate >= value:
                return candidate
    return float(f"1e{exponent + 1}")
