"""Pearson correlation of feature maps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tensorview.analysis import correlation
from tensorview.analysis.correlation import accumulate, correlate, pearson
from tensorview.errors import CaptureError, ConfigurationError


def reference(maps):
    rows = maps.double().movedim(1, 0).flatten(1).numpy()
    return np.corrcoef(rows)


def related_maps(seed, shape, *, mean=0.0, std=1.0, dtype=torch.float32):
    """Maps of which neighbours are more or less alike."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(shape, generator=generator, dtype=torch.float64)
    maps[:, 1:] += 0.7 * maps[:, :-1]
    return (mean + std * maps).to(dtype)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 7), (3, 6, 5, 4), (2, 3, 2, 4, 3), (64, 3, 1)])
def test_n3_equals_numpy_for_every_rank(shape):
    """Samples and positions of any rank are correlated together, as numpy does."""
    maps = related_maps(0, shape)

    assert pearson(maps) == pytest.approx(reference(maps), abs=1e-6)


@pytest.mark.parametrize(
    ("mean", "std"), [(1e4, 1e-2), (-1e4, 1e-2), (100, 0.1), (0, 1e25), (0, 1e-30), (0, 1e-38)]
)
def test_n5_large_means_and_extreme_scales_keep_their_digits(mean, std):
    """Float32 maps with mean 1e4 and deviation 1e-2 are within 1e-5 of a float64 reference."""
    maps = related_maps(1, (16, 5, 20, 20), mean=mean, std=std)

    assert pearson(maps) == pytest.approx(reference(maps), abs=1e-5)


@given(
    seed=st.integers(0, 2**31),
    samples=st.integers(2, 12),
    positions=st.integers(1, 9),
    cuts=st.sets(st.integers(1, 11)),
)
def test_chunks_give_what_one_pass_gives(seed, samples, positions, cuts):
    """However the probe is cut into chunks, the correlation is the same."""
    maps = related_maps(seed, (samples, 3, positions), mean=50.0)
    state = None
    for chunk in np.split(np.arange(samples), sorted(cut for cut in cuts if cut < samples)):
        state = accumulate(state, maps[chunk])

    assert correlate(state).numpy() == pytest.approx(pearson(maps), abs=1e-6, nan_ok=True)


def test_blocks_of_positions_give_what_one_pass_gives(monkeypatch):
    """The result does not depend on how many values are worked on at a time."""
    maps = related_maps(3, (6, 4, 30))
    whole = pearson(maps)
    monkeypatch.setitem(correlation._BLOCK_VALUES, "cpu", 4 * 7)

    assert pearson(maps) == pytest.approx(whole, abs=1e-7)


def test_n4_constant_and_non_finite_channels_are_nan_and_leave_the_others_alone():
    """A channel without a correlation gives a NaN row and column, and nothing else changes."""
    maps = related_maps(4, (8, 7, 5, 5))
    good = [0, 2, 5]
    expected = pearson(maps[:, good])
    maps[:, 1] = 3.7
    maps[2, 3, 1, 1] = torch.nan
    maps[0, 4, 0, 0] = torch.inf
    maps[:, 6] = 0
    pcc = pearson(maps)

    assert pcc[np.ix_(good, good)] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(pcc[[1, 3, 4, 6]]).all()
    assert np.isnan(pcc[:, [1, 3, 4, 6]]).all()


def test_n4_duplicates_and_negatives_are_exactly_one_and_minus_one():
    """Equal maps correlate with exactly 1, negated ones with -1, and nothing leaves [-1, 1]."""
    maps = related_maps(5, (7, 4, 6, 6))
    maps[:, 1] = maps[:, 0]
    maps[:, 2] = -2 * maps[:, 0]
    pcc = pearson(maps)

    assert pcc[0, 1] == pytest.approx(1, abs=1e-7)
    assert pcc[0, 2] == pytest.approx(-1, abs=1e-7)
    assert np.abs(pcc).max() == 1
    assert (pcc.diagonal() == 1).all()
    assert (pcc == pcc.T).all()


@pytest.mark.parametrize("shape", [(1, 3, 1), (1, 3), (0, 3, 4), (4, 0, 5), (1, 1, 1)])
def test_n4_too_little_to_correlate_is_nan(shape):
    """One value, or none, has no correlation."""
    pcc = pearson(torch.rand(shape))

    assert pcc.shape == (shape[1], shape[1])
    assert np.isnan(pcc).all()


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int8]
)
def test_n2_every_real_dtype_is_widened_exactly(dtype):
    """Narrow dtypes are widened before anything is computed."""
    maps = (related_maps(6, (5, 3, 8)) * 8).to(dtype)

    assert pearson(maps) == pytest.approx(reference(maps.to(torch.float64)), abs=1e-6)


def test_n3_memory_layout_does_not_matter():
    """Channels-last, expanded and strided maps correlate like contiguous ones."""
    maps = related_maps(7, (4, 6, 8, 8))
    expected = pearson(maps)

    assert pearson(maps.to(memory_format=torch.channels_last)) == pytest.approx(expected, abs=1e-6)
    assert pearson(maps.flip(3)[:, :, :, ::2].flip(3)) == pytest.approx(
        pearson(maps[:, :, :, 1::2].contiguous()), abs=1e-6
    )
    assert np.isnan(pearson(maps[:1, :, :1, :1].expand(4, 6, 8, 8))).all()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_products_of_halves_are_those_of_the_whole(count, monkeypatch):
    """However few rows there are, and however long these."""
    rows = related_maps(10, (1, count, 50))[0]
    monkeypatch.setattr(correlation, "_WORTH_HALVING", 1)

    assert correlation._gram(rows).numpy() == pytest.approx((rows @ rows.T).numpy(), abs=1e-4)


def test_batch_sum_is_the_paper_s_and_overstates():
    """Summing over the batch first hides what tells the channels of each sample apart."""
    generator = torch.Generator().manual_seed(8)
    shared = torch.randn(1, 1, 10, 10, generator=generator)
    maps = shared + 2 * torch.randn(64, 2, 10, 10, generator=generator)

    assert pearson(maps, variant="batch_sum") == pytest.approx(
        reference(maps.double().sum(0, keepdim=True)), abs=1e-9
    )
    assert pearson(maps)[0, 1] < 0.4
    assert pearson(maps, variant="batch_sum")[0, 1] > 0.9


def test_allowing_rounded_products_does_not_round_ours():
    """A user who trades matrix precision for speed still sees exact correlations."""
    maps = related_maps(9, (8, 4, 9, 9), mean=10, std=0.01)
    expected = pearson(maps)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = pearson(maps)
    finally:
        torch.set_float32_matmul_precision(before)

    assert rounded == pytest.approx(expected, abs=1e-6)


def test_what_cannot_be_correlated_is_named():
    """Maps without a channel axis and unknown variants are refused in one sentence."""
    with pytest.raises(
        CaptureError,
        match=r"^Cannot correlate maps of shape \(3,\): expected \(samples, channels, \*\)\.$",
    ):
        pearson(torch.ones(3))
    with pytest.raises(
        ConfigurationError,
        match=r"^correlation='mean' is unknown: expected one of position, batch_sum\.$",
    ):
        pearson(torch.ones(3, 2), variant="mean")
