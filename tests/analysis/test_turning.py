"""Numbers of a path's shape."""

import math

import numpy as np
import pytest

from tensorview.analysis.turning import straightness, turning_angle


@pytest.mark.parametrize(
    ("points", "angle"),
    [
        ([[0, 0], [1, 0], [3, 0]], 0),
        ([[0, 0], [1, 0], [1, 5]], 90),
        ([[0, 0], [1, 0], [0, 0]], 180),
        ([[9, 9], [0, 0], [1, 0], [2, 1]], 45),
    ],
)
def test_the_angle_is_that_at_the_last_point_but_one(points, angle):
    """0 for straight on, 180 for back, whatever the lengths and what was before."""
    assert turning_angle(np.array(points, float)) == pytest.approx(angle)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[0, 0], [1, 0], [3, 0]], 1),
        ([[0, 0], [1, 0], [0, 0]], 0),
        ([[0, 0], [3, 0], [3, 4]], 5 / 7),
    ],
)
def test_straightness_is_distance_over_length(points, expected):
    """1 for a line, 0 for a path that came back."""
    assert straightness(np.array(points, float)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "points",
    [
        [[0, 0], [1, 1]],
        [[1, 1], [1, 1], [1, 1]],
        [[0, 0], [np.nan, 1], [2, 2]],
        [[0, 0], [1e308, 0], [-1e308, 1e308]],
    ],
)
def test_there_is_no_shape_of_too_little(points):
    """Two points, no movement, or what is not finite: NaN, and no warning."""
    with np.errstate(all="ignore"):
        assert math.isnan(turning_angle(np.array(points, float)))
        assert math.isnan(straightness(np.array(points, float)))
