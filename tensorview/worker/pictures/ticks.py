"""Round numbers along axes, and how they are written."""

from __future__ import annotations

import math


def ticks(low: float, high: float, *, count: int) -> list[float]:
    """Return round numbers from *low* to *high*, at most about *count* of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next((m * magnitude for m in (1, 2, 5) if m * magnitude >= 0.999 * raw), 10 * magnitude)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, *, count: int) -> list[float]:
    """Return powers of ten from *low* to *high*, both above 0, at most *count* of them."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, -(-(last - first + 1) // max(count, 1)))
    return [10.0**exponent for exponent in range(first, last + 1, stride)]


def label(value: float) -> str:
    """Write a number of an axis: short, thousands apart, powers of ten where it is far from 1."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
