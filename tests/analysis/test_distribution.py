"""Histograms of activations."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tensorview.analysis import distribution
from tensorview.analysis.distribution import (
    BINS,
    accumulate,
    find_extremes,
    over_samples,
    summarise,
)


def count(maps, *, sizes=None):
    state = None
    for chunk in torch.split(maps, len(maps) if sizes is None else sizes):
        state = accumulate(state, chunk, extremes=find_extremes(chunk))
    return [array.numpy() for array in summarise(state)]


def expected_shares(values):
    finite = values[np.isfinite(values)]
    low, high = finite.min(), finite.max()
    shares = np.histogram(finite[finite != 0], bins=BINS, range=(low, high))[0] / len(finite)
    return shares, [low, high], np.mean(finite == 0)


@given(seed=st.integers(0, 2**31), samples=st.integers(2, 9), positions=st.integers(1, 40))
def test_one_chunk_is_counted_exactly(seed, samples, positions):
    """Shares, range and zero mass are those of numpy's histogram without the zeros."""
    rng = np.random.default_rng(seed)
    # Multiples of a power of two, so that no value lies on a rounded bin edge.
    values = np.maximum(rng.integers(-64, 1000, (samples, 2, positions)), 0) / 8
    values[0, :, 0], values[1, :, 0] = 0, 256
    shares, ends, zeros = count(torch.tensor(values, dtype=torch.float32))

    for channel in range(2):
        expected = expected_shares(values[:, channel])
        assert shares[channel] == pytest.approx(expected[0], abs=1e-6)
        assert ends[channel].tolist() == expected[1]
        assert zeros[channel] == pytest.approx(expected[2])


def test_shares_and_zero_mass_sum_to_one():
    """Every finite value is counted once; nothing finite sums to nothing."""
    maps = torch.randn(6, 5, 30).relu()
    maps[:, 1] = 0
    maps[:, 2] = -2.5
    maps[:, 3] = torch.nan
    maps[0, 4, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    shares, ends, zeros = count(maps)

    assert shares.sum(1) + zeros == pytest.approx([1, 1, 1, 0, 1], abs=1e-6)
    assert zeros[1] == 1
    assert ends[[1, 2, 3]].tolist() == [[0, 0], [-2.5, -2.5], [0, 0]]
    assert np.isfinite(ends).all()


@pytest.mark.parametrize("scale", [3e38, 1e-40, 1e-45, 1e30])
def test_extreme_ranges_lose_no_value(scale):
    """Ranges whose width overflows, or is subnormal, still count every value."""
    maps = torch.tensor([[[-1.0, -0.5, 0.25, 1.0]]]) * scale
    shares, _, zeros = count(maps)

    assert shares.sum() + zeros.sum() == pytest.approx(1)


def test_zero_is_in_the_range_only_where_it_occurs():
    """A channel far from zero is shown over its own range."""
    maps = torch.linspace(5, 6, 64).reshape(1, 1, 64)

    assert count(maps)[1].tolist() == [[5, 6]]


def test_chunks_blur_by_at_most_one_fine_bin():
    """Counted in chunks, the distribution moves by less than a bin, and its mass stays."""
    maps = torch.randn(64, 3, 50, generator=torch.Generator().manual_seed(0))
    whole, ends, _ = count(maps)
    parts, part_ends, _ = count(maps, sizes=7)

    assert part_ends.tolist() == ends.tolist()
    assert parts.sum(1) == pytest.approx(whole.sum(1), abs=1e-6)
    assert np.abs(np.cumsum(parts, 1) - np.cumsum(whole, 1)).max() < 0.02


def test_a_constant_chunk_joins_a_varying_one():
    """A chunk that is a single value lands in that value's bin."""
    maps = torch.cat([torch.full((1, 1, 64), 0.5), torch.linspace(-1, 1, 64).reshape(1, 1, 64)])
    shares, ends, _ = count(maps, sizes=1)

    assert ends.tolist() == [[-1, 1]]
    assert shares[0].argmax() in (BINS * 3 // 4 - 1, BINS * 3 // 4)
    assert shares.sum() == pytest.approx(1)


def test_blocks_give_what_one_pass_gives(monkeypatch):
    """The result does not depend on how many values are worked on at a time."""
    maps = torch.randn(5, 3, 40).relu()
    whole = count(maps)
    monkeypatch.setitem(distribution._BLOCK_VALUES, "cpu", 3 * 7)

    for expected, actual in zip(whole, count(maps), strict=True):
        assert expected.tolist() == actual.tolist()


def test_dead_is_constant_finite_and_seen_twice():
    """A channel is dead where all its values, two at least, are one finite number."""
    maps = torch.randn(4, 5, 3)
    maps[:, 1] = 0
    maps[:, 2] = 1.25
    maps[:, 3] = torch.inf
    maps[:, 4] = 0
    maps[0, 4, 0] = torch.nan

    assert find_extremes(maps).dead.tolist() == [False, True, True, False, False]
    assert find_extremes(maps[:1, :, :1]).dead.tolist() == [False] * 5


@pytest.mark.parametrize("shape", [(4, 5, 3), (1, 5, 3), (4, 1, 3), (4, 5, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_reductions_over_samples_are_the_same_in_any_layout(shape, channels_last):
    """Channels and positions keep their places, wherever they lie in memory."""
    maps = torch.randn(shape)
    laid_out = maps.transpose(1, 2).contiguous().transpose(1, 2) if channels_last else maps
    found = over_samples(laid_out, lambda rows: rows.amin(0))
    extremes = find_extremes(laid_out)

    assert found.tolist() == maps.amin(0).tolist()
    assert extremes.low.tolist() == maps.amin((0, 2)).tolist()
    assert extremes.high.tolist() == maps.amax((0, 2)).tolist()


def test_channels_that_lie_closest_cost_little_more():
    """What is in ``torch.channels_last`` takes at most ten times as long, where it took fifty."""
    maps = torch.randn(64, 16, 1024)
    swapped = maps.transpose(1, 2).contiguous().transpose(1, 2)

    def fastest(action):
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    def look(laid_out):
        find_extremes(laid_out)
        over_samples(laid_out, lambda rows: rows.sum(0))

    assert fastest(lambda: look(swapped)) < 10 * fastest(lambda: look(maps))
