"""Filters as combinations of others: least squares from second moments, and their ranking."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorview.pruning.fit import RIDGES, Seen, choose_ridges, explain, rank


def see(values):
    """What a reader sees of *values*, shape (samples, filters)."""
    return Seen(
        count=len(values),
        mean=values.mean(axis=0),
        covariance=np.cov(values.T, bias=True).reshape(values.shape[1], -1),
    )


def mixed(samples=4000, filters=6, seed=0):
    """Values of filters that correlate, none a combination of the others."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(filters, filters)) + 2.0
    return random.normal(size=(samples, filters)) @ mixing + random.normal(size=filters)


def fitted(values, removed, kept, ridge=RIDGES[0]):
    ridges = np.full(values.shape[1], ridge)
    return explain(see(values), ridges=ridges, removed=np.array(removed), kept=np.array(kept))


def chosen_of(values, gram, *, candidates=None, count):
    """What `rank` chooses with the least ridge."""
    filters = values.shape[1]
    return rank(
        [see(values)],
        grams=[gram],
        ridges=[np.full(filters, RIDGES[0])],
        candidates=range(filters) if candidates is None else candidates,
        count=count,
    )


def test_a_combination_of_others_is_found_with_its_constant():
    """What a filter is of the others comes out: factors, zeros and the constant."""
    values = mixed()
    values[:, 2] = 0.5 * values[:, 0] - 3.0 * values[:, 5] + 0.25

    fit = fitted(values, [2], [0, 1, 3, 4, 5])

    np.testing.assert_allclose(fit.coefficients, [[0.5, 0, 0, 0, -3.0]], atol=1e-5)
    np.testing.assert_allclose(fit.constants, [0.25], atol=1e-5)


def test_the_fit_is_that_of_ordinary_least_squares():
    """On many samples: the same as numpy's own on the values themselves."""
    values = mixed()
    design = np.hstack([values[:, [0, 2, 4]], np.ones((len(values), 1))])
    expected = np.linalg.lstsq(design, values[:, [1, 3]], rcond=None)[0]

    fit = fitted(values, [1, 3], [0, 2, 4])

    np.testing.assert_allclose(fit.coefficients, expected[:3].T, rtol=1e-5)
    np.testing.assert_allclose(fit.constants, expected[3], rtol=1e-4)


def test_a_constant_filter_is_its_constant():
    """Dead filters take nothing from others, and give nothing to them."""
    values = mixed()
    values[:, 1], values[:, 3] = 7.0, -2.0

    fit = fitted(values, [1], [0, 2, 3])

    np.testing.assert_array_equal(fit.coefficients, [[0, 0, 0]])
    np.testing.assert_allclose(fit.constants, [7.0])
    assert fitted(values, [0], [1, 3]).coefficients.tolist() == [[0.0, 0.0]]


def test_all_constant_is_no_fault():
    """A layer that is dead as a whole can be ranked and fitted."""
    values = np.ones((50, 3))
    seen = see(values)

    ridges, left = choose_ridges([seen, seen])

    assert left.tolist() == [0.0, 0.0, 0.0]
    assert rank([seen], grams=[np.eye(3)], ridges=[ridges], candidates=range(3), count=2) == [0, 1]


def test_filters_that_are_copies_of_each_other_leave_no_trace():
    """Where kept filters are copies themselves, the sum of their factors is right."""
    values = mixed()
    values[:, 1] = values[:, 2] = values[:, 0]

    fit = fitted(values, [0], [1, 2, 3])

    np.testing.assert_allclose(fit.coefficients[0, :2].sum(), 1.0, atol=1e-6)
    np.testing.assert_allclose(fit.coefficients[0, 2], 0.0, atol=1e-6)


def test_a_probe_with_few_values_does_not_make_the_fit_follow_its_noise():
    """With fewer values than filters, the chosen ridge predicts new values better."""
    random = np.random.default_rng(1)
    common = random.normal(size=(600, 4))
    values = common @ random.normal(size=(4, 40)) + random.normal(size=(600, 40))
    few, new = values[:30], values[30:]
    ridges, _ = choose_ridges([see(few[0::2]), see(few[1::2])])
    kept = np.arange(1, 40)

    def error(ridge):
        fit = fitted(few, [0], kept, ridge)
        found = new[:, kept] @ fit.coefficients[0] + fit.constants[0]
        return np.square(found - new[:, 0]).mean()

    assert ridges[0] > RIDGES[0]
    assert 3 * error(ridges[0]) < error(RIDGES[0])


def test_what_is_unexplained_is_judged_on_other_samples():
    """Noise of its own is unexplained also where a fit could follow it; a copy is explained."""
    random = np.random.default_rng(2)
    values = random.normal(size=(60, 25))
    values[:, 1] = 2.0 * values[:, 0]

    _, left = choose_ridges([see(values[0::2]), see(values[1::2])])

    assert left[:2].max() < 1e-6
    assert left[2:].min() > 0.5


def missed(values, gram, removed):
    """What removing *removed* at once would leave unexplained, as loud as it is heard."""
    kept = [index for index in range(values.shape[1]) if index not in removed]
    fit = fitted(values, removed, kept)
    error = values[:, removed] - values[:, kept] @ fit.coefficients.T - fit.constants
    return np.einsum("ij,ij->", error.T @ error / len(values), gram[np.ix_(removed, removed)])


def loudness(filters, seed=3):
    kernels = np.random.default_rng(seed).normal(size=(filters, 12))
    return kernels @ kernels.T


def test_the_least_missed_filter_goes_first():
    """Of one, the choice is the best there is by what the next layer would hear."""
    values, gram = mixed(), loudness(6)

    (first,) = chosen_of(values, gram, count=1)

    assert first == min(range(6), key=lambda index: missed(values, gram, [index]))


def test_choices_build_on_each_other():
    """Each further choice is the best there is, given those before: kernels are folded on."""
    values, gram = mixed(), loudness(6)
    chosen = chosen_of(values, gram, count=3)

    for so_far in (1, 2):
        before = chosen[:so_far]
        others = [index for index in range(6) if index not in before]
        best = min(others, key=lambda index: missed(values, gram, [*before, index]))
        assert chosen[so_far] == best


def test_only_candidates_go():
    """Filters that were not offered stay, however little they are missed."""
    values = mixed()
    values[:, 0] = values[:, 1]

    chosen = chosen_of(values, loudness(6), candidates=[2, 4], count=2)

    assert sorted(chosen) == [2, 4]


def test_a_filter_that_nobody_hears_goes_first():
    """Loudness counts over all readers: silent in one is not silent in the other."""
    values = mixed()
    silent, loud = loudness(6), loudness(6, seed=4)
    silent[3] = silent[:, 3] = 0.0
    seen = see(values)

    def first(grams):
        ridges = [np.full(6, RIDGES[0])] * len(grams)
        return rank([seen] * len(grams), grams=grams, ridges=ridges, candidates=range(6), count=1)

    assert first([silent]) == [3]
    assert first([silent, 100 * loud]) == first([loud])


@settings(max_examples=30)
@given(st.permutations(range(5)), st.integers(0, 10**6))
def test_the_order_of_filters_does_not_matter(order, seed):
    """Permuted filters are chosen and fitted alike."""
    values, gram = mixed(500, 5, seed), loudness(5, seed)
    shuffled = values[:, order]

    chosen = chosen_of(values, gram, count=2)
    again = chosen_of(shuffled, gram[np.ix_(order, order)], count=2)

    assert [order[index] for index in again] == chosen


@pytest.mark.parametrize("removed", list(combinations(range(4), 2)))
def test_scale_does_not_matter(removed):
    """Filters in other units are fitted by the same combination, in these units."""
    values = mixed(filters=4)
    units = np.array([1e-4, 1.0, 1e5, 10.0])
    kept = [index for index in range(4) if index not in removed]

    fit, scaled = fitted(values, removed, kept), fitted(values * units, removed, kept)

    expected = fit.coefficients * units[list(removed)][:, None] / units[kept]
    np.testing.assert_allclose(scaled.coefficients, expected, rtol=1e-4)
