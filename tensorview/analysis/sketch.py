"""A short sketch of a layer's weights: a fixed random projection to 64 numbers.

Up to 64 weights are their own sketch. More are multiplied by a fixed matrix of signs, so that
squared lengths of weights, and of differences between them, are right on average, with a relative
standard deviation of about ``sqrt(2 / 64)`` = 18 % (lengths: 9 %), whatever the weights.

The matrix is a product, so that one pass and one narrow matrix product over the weights are
enough. With the flat weights as rows of `_WIDTH` (a prime, so that these rows never align with the
columns of a weight matrix), group ``g`` of 8 and bucket ``k`` of 8 hold::

    S[g, k] = sum over c in bucket(g, c) == k of  b[g, c] * sum over r of  A[g, r] * (D * W)[r, c]

with signs ``A``, ``b`` and ``D``. Alone, ``A`` and ``b`` would be fooled by weights that are all
alike (a matrix of rank one); ``D``, repeated every `_PERIOD` rows, breaks those up.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from tensorview.analysis.precision import exact_dtype

DIMENSIONS = 64

_GROUPS = _BUCKETS = 8
_WIDTH = 4093
_PERIOD = 64
_SEED = 20180613


def sketch(weights: Tensor) -> Tensor:
    """Project *weights* to at most `DIMENSIONS` numbers.

    Args:
        weights: any shape; the same number of weights always meets the same matrix.

    Returns:
        Shape ``(min(n, 64),)``, float64, on the weights' device. Weights with a non-finite value
        give a sketch with one, from which nothing should be concluded.
    """
    flat = weights.detach().reshape(-1)
    if len(flat) <= DIMENSIONS:
        return flat.double()
    flat = flat.float()
    rows, rest = divmod(len(flat), _WIDTH)
    row_signs = _row_signs(rows + 1, flat.device)
    breakers, buckets = _shared_signs(flat.device)
    width = min(len(flat), _WIDTH)
    dtype = exact_dtype(torch.float32)
    sums = torch.zeros(_GROUPS, width, dtype=torch.float64, device=flat.device)
    with torch.autocast(flat.device.type, enabled=False):
        for start in range(0, rows, _PERIOD):
            stop = min(start + _PERIOD, rows)
            block = flat[start * _WIDTH : stop * _WIDTH].view(-1, _WIDTH)
            signed = (block * breakers[: stop - start]).to(dtype)
            sums += row_signs[:, start:stop].to(dtype) @ signed
        tail = flat[rows * _WIDTH :] * breakers[rows % _PERIOD, :rest]
        sums[:, :rest] += row_signs[:, rows : rows + 1] * tail
        projected = torch.bmm(sums[:, None], buckets[:, :width]).reshape(-1)
    return projected / math.sqrt(_GROUPS)


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """Estimate ``|w_after - w_before| / |w_before|`` from two sketches.

    Returns:
        Scalar, float64, with a relative standard deviation of about 14 %. NaN where the
        weights before were all zero.
    """
    length = torch.linalg.vector_norm(before)
    return torch.where(length > 0, torch.linalg.vector_norm(after - before) / length, torch.nan)


@lru_cache(maxsize=4096)
def _row_signs(rows: int, device: torch.device) -> Tensor:
    """Shape ``(8, rows)``, float32."""
    return _signs((_GROUPS, rows), torch.Generator("cpu").manual_seed(_SEED + rows)).to(device)


@lru_cache(maxsize=16)
def _shared_signs(device: torch.device) -> tuple[Tensor, Tensor]:
    """``D``, shape ``(64, 4093)``, float32; signs by bucket, shape ``(8, 4093, 8)``, float64."""
    generator = torch.Generator("cpu").manual_seed(_SEED)
    breakers = _signs((_PERIOD, _WIDTH), generator)
    bucket = torch.randint(_BUCKETS, (_GROUPS, _WIDTH, 1), generator=generator, device="cpu")
    signs = _signs((_GROUPS, _WIDTH, 1), generator).double()
    buckets = torch.where(bucket == torch.arange(_BUCKETS, device="cpu"), signs, 0.0)
    return breakers.to(device), buckets.to(device)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator, device="cpu").float() * 2 - 1
