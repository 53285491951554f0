"""Writing filters as combinations of others: ranking, and least squares from second moments.

What a module reads of a layer's F filters is one variable a filter, seen at every sample and
position. With the mean and the covariance of these variables, and the Gram matrix of the kernels
that read them, everything here is linear algebra on F x F matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RIDGES = (1e-8, 1e-4, 1e-2, 1.0)
"""Tried on filters scaled to unit variance. The first is for numbers alone; the others matter where
the probe has few more values than there are filters."""

_WORTH = 0.99
"""A stronger ridge must explain better by a hundredth."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What one module reads of a layer's filters, over a probe or a part of it.

    Attributes:
        count: values of each filter.
        mean: shape ``(F,)``, float64.
        covariance: shape ``(F, F)``, float64.
    """

    count: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def about_zero(self) -> Seen:
        """Return the same with second moments about zero: for a fit without a constant."""
        return Seen(
            count=self.count,
            mean=np.zeros_like(self.mean),
            covariance=self.covariance + np.outer(self.mean, self.mean),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Removed filters as combinations of kept ones.

    Attributes:
        coefficients: shape ``(R, K)``, float64.
        constants: shape ``(R,)``, float64.
    """

    coefficients: NDArray[np.float64]
    constants: NDArray[np.float64]


def choose_ridges(halves: Sequence[Seen]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Choose for each filter the ridge by which each half of the samples explains the other best.

    So a probe with few values does not make the fits follow its noise.

    Args:
        halves: what was seen in each.

    Returns:
        The ridges, and the share of each filter's variance in one half that no combination of all
        others, fitted in the other half, explains, 0 for a constant filter: shape ``(F,)`` both.
    """
    pairs = [(halves[0], halves[-1]), (halves[-1], halves[0])]
    variance = np.mean([half.covariance.diagonal() for half in halves], axis=0)
    ridges = np.full(len(variance), RIDGES[0])
    left = np.full(len(variance), np.inf)
    for ridge in RIDGES:
        errors = np.mean([_left_by_others(fitted, other, ridge) for fitted, other in pairs], axis=0)
        better = errors < _WORTH * left
        ridges[better], left[better] = ridge, errors[better]
    shares = np.divide(left, variance, out=np.zeros_like(variance), where=variance > 0)
    return ridges, np.minimum(shares, 1.0)


def explain(
    seen: Seen,
    *,
    ridges: NDArray[np.float64],
    removed: NDArray[np.int64],
    kept: NDArray[np.int64],
) -> Fit:
    """Fit removed filters by kept ones and a constant, by least squares.

    Args:
        seen: of one reader.
        ridges: shape ``(F,)``, on filters scaled to unit variance.
        removed: shape ``(R,)``.
        kept: shape ``(K,)``, at least one.
    """
    correlation, deviation = _standardised(seen.covariance)
    inner = correlation[np.ix_(kept, kept)]
    solved = np.zeros((len(removed), len(kept)))
    for ridge in np.unique(ridges[removed]):
        np.fill_diagonal(inner, 1.0 + ridge)
        mine = ridges[removed] == ridge
        solved[mine] = np.linalg.solve(inner, correlation[np.ix_(kept, removed[mine])]).T
    scale = np.where(deviation > 0, deviation, 1.0)
    coefficients = solved * deviation[removed][:, None] / scale[kept]
    return Fit(
        coefficients=coefficients, constants=seen.mean[removed] - coefficients @ seen.mean[kept]
    )


def rank(
    seen: Sequence[Seen],
    *,
    grams: Sequence[NDArray[np.float64]],
    ridges: Sequence[NDArray[np.float64]],
    candidates: Sequence[int],
    count: int,
) -> list[int]:
    """Choose *count* of the *candidates*, those that are least missed first.

    A filter is missed by the variance that all others still there leave unexplained, times the
    squared norm of the kernels that read it, summed over the modules that do. After each choice its
    kernels are folded onto the others: the errors of successive choices add up, since what each
    leaves unexplained correlates with nothing that stays.

    Args:
        seen: of each module that reads the layer.
        grams: of each, shape ``(F, F)``: inner products of the kernels that read two filters.
        ridges: of each, shape ``(F,)``, see `choose_ridges`.
        candidates: filters that may go.
        count: at most as many as there are candidates, and one less than there are filters.
    """
    states = [
        _Elimination(each, gram, mine) for each, gram, mine in zip(seen, grams, ridges, strict=True)
    ]
    left = sorted(candidates)
    chosen = []
    for _ in range(count):
        missed = np.sum([state.missed() for state in states], axis=0)
        least = min(left, key=lambda index: float(missed[index]))
        left.remove(least)
        chosen.append(least)
        for state in states:
            state.remove(least)
    return chosen


class _Elimination:
    """Filters that go one by one, as one reader sees them."""

    def __init__(self, seen: Seen, gram: NDArray[np.float64], ridges: NDArray[np.float64]) -> None:
        correlation, deviation = _standardised(seen.covariance)
        np.fill_diagonal(correlation, 1.0 + ridges)
        self._precision = np.linalg.inv(correlation)
        self._gram = gram * np.outer(deviation, deviation)

    def missed(self) -> NDArray[np.float64]:
        return np.asarray(self._gram.diagonal() / self._precision.diagonal())

    def remove(self, index: int) -> None:
        row = self._precision[index].copy()
        folded = -row / row[index]
        folded[index] = 0.0
        mine = self._gram[index].copy()
        self._gram += np.outer(folded, mine) + np.outer(mine, folded)
        self._gram += mine[index] * np.outer(folded, folded)
        self._precision -= np.outer(row, row) / row[index]
        # It is out of the others' reach, and they of its.
        self._precision[index] = self._precision[:, index] = 0.0
        self._precision[index, index] = 1.0
        self._gram[index] = self._gram[:, index] = 0.0


def _standardised(
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale to unit variance; a constant filter correlates with none. Also the deviations."""
    deviation = np.sqrt(np.maximum(covariance.diagonal(), 0.0))
    scale = np.where(deviation > 0, deviation, 1.0)
    return covariance / np.outer(scale, scale), deviation


def _left_by_others(fitted: Seen, other: Seen, ridge: float) -> NDArray[np.float64]:
    """Mean squared error in *other* of each filter, fitted by all others in *fitted*."""
    correlation, deviation = _standardised(fitted.covariance)
    np.fill_diagonal(correlation, 1.0 + ridge)
    precision = np.linalg.inv(correlation)
    scale = np.where(deviation > 0, deviation, 1.0)
    # Row j weighs all filters so that filter j less its fit comes out.
    weights = precision / precision.diagonal()[:, None] * scale[:, None] / scale
    shift = weights @ (other.mean - fitted.mean)
    error = np.einsum("jk,kl,jl->j", weights, other.covariance, weights, optimize=True) + shift**2
    return np.asarray(np.maximum(error, 0.0))
