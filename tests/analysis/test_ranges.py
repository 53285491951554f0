"""Steady display ranges."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorview.analysis.ranges import nice_range, nice_symmetric

ANY = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(values=st.lists(ANY, min_size=1, max_size=8))
def test_symmetric_ranges_hold_what_came_and_never_shrink(values):
    """Positive, finite, holding every finite value, growing only."""
    shown = None
    for value in values:
        before, shown = shown, nice_symmetric(shown, value)

        assert 0 < shown < math.inf
        assert before is None or shown >= before or not math.isfinite(value)
        assert not math.isfinite(value) or shown >= value


@given(ends=st.lists(st.tuples(ANY, ANY), min_size=1, max_size=8))
def test_ranges_hold_what_came_and_never_shrink(ends):
    """Finite, low below high, holding every finite end."""
    shown = None
    for low, high in ends:
        before, shown = shown, nice_range(shown, low, high)

        assert -math.inf < shown[0] < shown[1] < math.inf
        assert not math.isfinite(low) or shown[0] <= low
        assert not math.isfinite(high) or shown[1] >= high
        assert before in (None, (0.0, 1.0)) or (shown[0] <= before[0] and shown[1] >= before[1])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.2, 0.2), (0.21, 0.3), (1.2, 1.5), (7.1, 10), (0.1, 0.1), (999, 1000), (0.05, 0.05)],
)
def test_ranges_are_round_numbers(value, expected):
    """1, 1.5, 2, 3, 5 or 7 times a power of ten."""
    assert nice_symmetric(None, value) == expected
    assert nice_range(None, -value, 0.0) == (-expected, 0)


def test_a_slowly_growing_value_rarely_changes_the_range():
    """From 1 to 10 in a thousand captures the range changes six times."""
    shown, seen = None, set()
    for step in range(1000):
        shown = nice_symmetric(shown, 1 + 9 * step / 999)
        seen.add(shown)

    assert seen == {1, 1.5, 2, 3, 5, 7, 10}
