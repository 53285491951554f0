"""Groups of correlated filters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorview.analysis.groups import LINKAGES, group
from tensorview.errors import ConfigurationError
from tensorview.snapshot import GROUP_DEAD, GROUP_NONE

ALIVE = np.zeros(64, bool)


def symmetric(pairs, *, size, dtype=np.float64):
    pcc = np.eye(size, dtype=dtype)
    for (first, second), r in pairs.items():
        pcc[first, second] = pcc[second, first] = r
    return pcc


def test_complete_linkage_keeps_every_pair_above_the_threshold():
    """A chain of similar filters is one group only for transitive linkage."""
    chain = symmetric({(0, 1): 0.95, (1, 2): 0.92, (0, 2): 0.5}, size=4)

    assert group(chain, ALIVE[:4]).tolist() == [0, 0, GROUP_NONE, GROUP_NONE]
    assert group(chain, ALIVE[:4], linkage="transitive").tolist() == [0, 0, 0, GROUP_NONE]


def test_the_closest_join_first():
    """A filter that fits either of two goes with the closer one alone."""
    pcc = symmetric({(0, 1): 0.93, (1, 2): 0.97, (2, 3): 0.95, (3, 4): 0.91}, size=5)

    assert group(pcc, ALIVE[:5]).tolist() == [GROUP_NONE, 0, 0, 1, 1]


@given(seed=st.integers(0, 2**31), size=st.integers(2, 20))
def test_groups_are_those_of_joining_pair_by_pair(seed, size):
    """As by definition: again and again the closest two, by their farthest pair."""
    rng = np.random.default_rng(seed)
    pcc = np.corrcoef(rng.normal(size=(size, 3)))
    members = [[number] for number in range(size)]
    while True:
        pairs = [
            (pcc[np.ix_(mine, other)].min(), mine, other)
            for mine in members
            for other in members
            if mine[0] < other[0]
        ]
        r, mine, other = max(pairs, default=(-1.0, [], []))
        if r < 0.8:
            break
        members = sorted([*(rest for rest in members if rest not in (mine, other)), mine + other])
    expected = np.full(size, GROUP_NONE)
    for number, mine in enumerate(sorted(sorted(mine) for mine in members if len(mine) > 1)):
        expected[mine] = number

    assert group(pcc, ALIVE[:size], threshold=0.8).tolist() == expected.tolist()


def test_groups_are_numbered_by_their_smallest_member():
    """The lowest filter of all that are in a group is in group 0."""
    pcc = symmetric({(3, 4): 0.99, (0, 5): 0.91, (1, 2): 0.95}, size=6)

    assert group(pcc, ALIVE[:6]).tolist() == [0, 1, 1, 2, 2, 0]
    assert group(pcc, ALIVE[:6]).dtype == np.int32


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.9, 0.0, 1.0, -1.0, -0.3, 0.1])
def test_n4_a_correlation_at_the_threshold_counts_as_above(linkage, dtype, threshold):
    """r equal to the threshold joins a group, the next smaller number does not."""
    tie = dtype(threshold)
    below = np.nextafter(tie, dtype(-2))
    pcc = np.full((4, 4), below)
    pcc[0, 1] = pcc[1, 0] = tie
    np.fill_diagonal(pcc, 1)

    assert group(pcc, ALIVE[:4], threshold=threshold, linkage=linkage).tolist() == [
        0,
        0,
        GROUP_NONE,
        GROUP_NONE,
    ]


@pytest.mark.parametrize("linkage", LINKAGES)
def test_n4_dead_and_nan_filters_are_in_no_group(linkage):
    """Dead filters are marked, and what has no correlation stays alone at any threshold."""
    pcc = np.ones((5, 5))
    pcc[1] = pcc[:, 1] = np.nan
    pcc[3] = pcc[:, 3] = np.nan
    dead = np.array([False, True, False, False, False])

    assert group(pcc, dead, threshold=-1.0, linkage=linkage).tolist() == [
        0,
        GROUP_DEAD,
        0,
        GROUP_NONE,
        0,
    ]


@pytest.mark.parametrize("size", [0, 1])
def test_nothing_to_group(size):
    """No filter and a single one are fine."""
    assert group(np.ones((size, size)), ALIVE[:size]).tolist() == [GROUP_NONE] * size


@given(seed=st.integers(0, 2**31), size=st.integers(2, 20), threshold=st.floats(-1, 1))
def test_members_fit_each_other_and_groups_are_maximal(seed, size, threshold):
    """Inside a group all pairs are above the threshold; no two groups could be one."""
    rng = np.random.default_rng(seed)
    pcc = np.corrcoef(rng.normal(size=(size, 4)))
    groups = group(pcc, ALIVE[:size], threshold=threshold)
    members = [np.flatnonzero(groups == number) for number in range(groups.max() + 1)]

    for mine in members:
        assert len(mine) > 1
        assert (pcc[np.ix_(mine, mine)] + np.eye(len(mine)) * 3 >= threshold).all()
    for index, mine in enumerate(members):
        for other in members[index + 1 :]:
            assert pcc[np.ix_(mine, other)].min() < threshold
    assert groups.tolist() == group(pcc, ALIVE[:size], threshold=threshold).tolist()


@pytest.mark.parametrize("threshold", [np.nan, 1.1, -2])
def test_n4_a_threshold_that_no_correlation_can_reach_is_refused(threshold):
    """The message says what was given and what is possible."""
    with pytest.raises(
        ConfigurationError, match=r"^threshold=.* cannot be used: expected a Pearson r from -1 to 1"
    ):
        group(np.eye(2), ALIVE[:2], threshold=threshold)


def test_an_unknown_linkage_is_refused():
    """The message names both that there are."""
    with pytest.raises(
        ConfigurationError,
        match=r"^linkage='single' cannot be used: expected 'complete' or 'transitive'\.$",
    ):
        group(np.eye(2), ALIVE[:2], linkage="single")
