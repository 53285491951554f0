"""Paths of weights through three dimensions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorview.analysis.trajectory import (
    axes_title,
    grow_extent,
    parse_axes,
    project,
    segments,
    thin,
)
from tensorview.errors import ConfigurationError


def walk(seed, *, count=50, dimensions=20):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dimensions)).cumsum(axis=0)


def test_projection_is_the_principal_components():
    """Coordinates and shares of variance are those of a singular value decomposition."""
    path = walk(0)
    points, axes, shares = project(path, previous_axes=None)
    centred = path - path.mean(axis=0)
    _, singular, vectors = np.linalg.svd(centred, full_matrices=False)

    assert shares == pytest.approx((singular**2 / (singular**2).sum())[:3])
    assert np.abs(axes) == pytest.approx(np.abs(vectors[:3]), abs=1e-8)
    assert points == pytest.approx(centred @ axes.T)


def test_a_path_in_three_dimensions_keeps_all_its_distances():
    """Nothing is lost where there is nothing to lose."""
    path = walk(1, dimensions=3) @ np.linalg.qr(np.random.default_rng(2).normal(size=(9, 3)))[0].T
    points, _, shares = project(path, previous_axes=None)

    assert shares.sum() == pytest.approx(1)
    assert np.linalg.norm(points[5] - points[40]) == pytest.approx(
        np.linalg.norm(path[5] - path[40])
    )


def test_signs_and_order_stay_from_capture_to_capture():
    """As the path grows, the axes turn slowly and never mirror."""
    path = walk(3, count=200)
    _, axes, _ = project(path[:50], previous_axes=None)
    for count in range(51, 200):
        before, (_, axes, shares) = axes, project(path[:count], previous_axes=axes)

        assert ((axes * before).sum(axis=1) >= 0).all()
        assert abs(axes[0] @ before[0]) > 0.9
        assert shares[0] * 1.1 >= shares[1]
        assert shares[1] * 1.1 >= shares[2]


def test_nearly_equal_axes_do_not_swap_until_one_leads_clearly():
    """Two axes keep their places until the other has a tenth more variance."""
    rng = np.random.default_rng(4)
    base = np.linalg.qr(rng.normal(size=(100, 2)) - 0)[0]
    base -= base.mean(axis=0)
    base = np.linalg.qr(base)[0]
    previous = np.zeros((3, 5))
    previous[0, 0] = previous[1, 1] = 1

    def leading(second_variance):
        path = np.zeros((100, 5))
        path[:, 0], path[:, 1] = base[:, 0], base[:, 1] * np.sqrt(second_variance)
        return np.abs(project(path, previous_axes=previous)[1][0]).argmax()

    assert leading(0.95) == 0
    assert leading(1.08) == 0
    assert leading(1.15) == 1


def test_rows_that_are_not_finite_are_gaps():
    """A capture with broken weights gives no point and moves no other."""
    path = walk(5)
    expected, axes, _ = project(path, previous_axes=None)
    broken = np.insert(path, 20, np.nan, axis=0)
    broken = np.insert(broken, 30, np.inf, axis=0)
    points, _, _ = project(broken, previous_axes=axes)

    assert np.isnan(points[[20, 30]]).all()
    assert np.delete(points, [20, 30], axis=0) == pytest.approx(expected)


@pytest.mark.parametrize(
    "path", [np.zeros((1, 5)), np.ones((6, 5)), np.full((3, 4), np.nan), np.ones((2, 0))]
)
def test_a_path_that_stands_still_has_no_variance(path):
    """Shares are NaN, finite rows are at the origin."""
    points, axes, shares = project(path, previous_axes=None)

    assert np.isnan(shares).all()
    assert axes.shape == (3, path.shape[1])
    assert np.nan_to_num(points).tolist() == np.zeros((len(path), 3)).tolist()
    assert np.isfinite(points).all() == np.isfinite(path).all()


def test_two_points_have_one_axis():
    """What there is not is zero, not noise."""
    points, axes, shares = project(walk(6, count=2), previous_axes=None)

    assert shares == pytest.approx([1, 0, 0])
    assert axes[1:].tolist() == np.zeros((2, 20)).tolist()
    assert points[:, 1:].tolist() == np.zeros((2, 2)).tolist()


@given(count=st.integers(1, 3000), limit=st.integers(2, 64))
def test_thinning_keeps_first_and_newest_and_stays_even(count, limit):
    """At any time the captures kept are evenly spread, with the first and the newest."""
    captures = np.empty(0, np.int64)
    for capture in range(count):
        captures = np.append(captures, capture)
        captures = captures[thin(captures, limit=limit)]
    gaps = np.diff(captures)

    assert captures[0] == 0
    assert captures[-1] == count - 1
    assert len(captures) <= limit
    assert len(set(gaps[:-1])) <= 1
    assert count <= limit // 2 or len(captures) >= min(count, limit // 2)


def test_extents_hold_every_point_and_grow_in_few_steps():
    """A path that doubles a thousandfold changes its box some dozen times, and never shrinks it."""
    extent, changes = None, 0
    path = np.cumsum(np.random.default_rng(7).normal(size=(2000, 3)), axis=0)
    for count in range(1, len(path)):
        before, extent = extent, grow_extent(extent, path[:count])
        if before is not None:
            assert (extent[:, 0] <= before[:, 0]).all()
            assert (extent[:, 1] >= before[:, 1]).all()
            changes += not np.array_equal(before, extent)
        assert (extent[:, 0] <= path[:count].min(axis=0)).all()
        assert (extent[:, 1] >= path[:count].max(axis=0)).all()

    assert changes < 60


@pytest.mark.parametrize("points", [np.zeros((1, 3)), np.full((4, 3), np.nan), np.ones((2, 3))])
def test_an_extent_always_has_a_width(points):
    """Also where nothing moves, or nothing is finite."""
    extent = grow_extent(None, points)

    assert np.isfinite(extent).all()
    assert (extent[:, 0] < extent[:, 1]).all()


def test_axes_are_checked_against_the_weights():
    """Full and flat indices mean the same weight, and names show the full one."""
    shapes = {"conv1": (16, 1, 3, 3), "fc": (10, 5)}
    parsed = parse_axes({"conv1": [((0, 0, 1, 1), (15, 0, 2, 2), 9)]}, shapes=shapes)

    assert parsed == {"conv1": (((0, 0, 1, 1), (15, 0, 2, 2), (1, 0, 0, 0)),)}
    assert axes_title(parsed["conv1"][0]) == "w[0, 0, 1, 1] w[15, 0, 2, 2] w[1, 0, 0, 0]"
    assert parse_axes(None, shapes=shapes) == {}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            {"conv9": []},
            r"trajectory_axes names layer 'conv9', which is not watched: expected one of fc\.",
        ),
        ({"fc": [(1, 2)]}, r"trajectory_axes\['fc'\] holds \(1, 2\): expected three weight ind"),
        ({"fc": [(1, 2, 50)]}, r"trajectory_axes\['fc'\] holds 50: expected an index into a weig"),
        ({"fc": [((0, 0), (10, 0), 1)]}, r"trajectory_axes\['fc'\] holds \(10, 0\): expected an"),
        ({"fc": [((0, 0), (1.5, 0), 1)]}, r"trajectory_axes\['fc'\] holds \(1\.5, 0\): expected"),
        ([1, 2], r"trajectory_axes=\[1, 2\] cannot be used: expected a dict of layer name to a l"),
    ],
)
def test_axes_that_are_not_there_are_refused(axes, message):
    """One sentence says what was found and what was expected."""
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        parse_axes(axes, shapes={"fc": (10, 5)})


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True).map(sorted),
    st.lists(st.tuples(st.integers(0, 45), st.integers(0, 5)), max_size=6),
)
def test_every_event_counts_at_the_first_point_after_it(captures, events):
    """Whatever points are kept; events after the last of them are yet to come."""
    segment, pruned = segments(np.array(captures), events=np.array(events, np.int64).reshape(-1, 2))
    before = [-1, *captures]

    assert segment.tolist() == [sum(e <= capture for e, _ in events) for capture in captures]
    assert pruned.tolist() == [
        sum(count for e, count in events if last < e <= capture)
        for last, capture in zip(before, captures, strict=False)
    ]
