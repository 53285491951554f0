"""Pearson correlation of feature maps, streamed over chunks on the maps' own device.

Every pair of channels is correlated over all samples and positions. The original paper sums the
maps over the batch first; that averages away what tells filters apart, finds many pairs that no
single sample shows, and is therefore offered by name only (``variant="batch_sum"``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tensorview.analysis.precision import exact_dtype
from tensorview.errors import CaptureError, ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

VARIANTS = ("position", "batch_sum")

# Small enough to stay in a CPU's cache, large enough to keep a GPU busy.
_BLOCK_VALUES = {"cpu": 2**19, "cuda": 2**25}


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Second moments of all channels so far, as float64 tensors on the maps' device.

    Attributes:
        count: values seen per channel.
        mean: shape ``(C,)``.
        comoment: shape ``(C, C)``: sums of products of deviations from the mean.
    """

    count: int
    mean: Tensor
    comoment: Tensor


def accumulate(state: Moments | None, maps: Tensor) -> Moments:
    """Add one chunk of feature maps.

    Args:
        state: of the chunks before, None for the first.
        maps: shape ``(N, C, *)``, any real dtype. Products of at most some thousand positions are
            summed in float32 (float64 for float64 maps) about a shift near the mean, then in
            float64, so that a large mean does not eat the digits.

    Raises:
        CaptureError: *maps* has fewer than two dimensions.
    """
    if maps.ndim < 2:
        raise CaptureError(
            f"Cannot correlate maps of shape {tuple(maps.shape)}: expected (samples, channels, *)."
        )
    maps = maps.detach().flatten(2) if maps.ndim > 2 else maps.detach().unsqueeze(2)
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    if not maps.dtype.is_floating_point or maps.dtype.itemsize == 1:
        maps = maps.to(dtype)
    samples, channels, positions = maps.shape
    with torch.autocast(maps.device.type, enabled=False), torch.no_grad():
        product_dtype = exact_dtype(dtype)
        budget = max(_BLOCK_VALUES.get(maps.device.type, 2**19), 4 * channels * channels)
        width = max(1, min(positions, budget // max(1, channels)))
        height = max(1, budget // max(1, channels * width))
        for row in range(0, samples, height):
            for column in range(0, positions, width):
                block = maps[row : row + height, :, column : column + width]
                state = merge(state, _moments(block.transpose(0, 1), dtype, product_dtype))
    if state is None:
        zeros = torch.zeros(channels, channels, dtype=torch.float64, device=maps.device)
        state = Moments(count=0, mean=zeros.sum(0), comoment=zeros)
    return state


def correlate(state: Moments) -> Tensor:
    """Turn moments into correlations.

    Returns:
        Shape ``(C, C)``, float64, on the maps' device, symmetric, in [-1, 1], ones on the diagonal.
        Row and column of a channel that is constant or has a non-finite value are NaN.
    """
    variance = state.comoment.diagonal()
    # Below this a channel differs from a constant by rounding alone.
    noise = state.count * (2.0**-50 * state.mean).square()
    deviation = torch.where(variance > noise, variance, torch.nan).sqrt()
    scale = deviation.reciprocal()
    pcc = (state.comoment * scale[:, None]).mul_(scale)
    # The copy, because reading a transposed matrix element by element costs more than all else.
    pcc = pcc.T.contiguous().add_(pcc).mul_(0.5).clamp_(-1, 1)
    diagonal = pcc.diagonal()
    diagonal.copy_(torch.where(diagonal.isnan(), torch.nan, 1.0))
    return pcc


def pearson(feature_maps: Tensor, *, variant: str = "position") -> NDArray[np.float64]:
    """Correlate every pair of feature maps over samples and positions.

    Args:
        feature_maps: shape ``(N, C, *)``, any real dtype. Centred first; sums in float64.
        variant: ``"position"``: per sample and position; ``"batch_sum"``: the maps are summed over
            the batch first.

    Returns:
        Shape ``(C, C)``, symmetric, in [-1, 1]. Row and column of a constant map, and of one with
        a non-finite value, are NaN.

    Raises:
        CaptureError: *feature_maps* has fewer than two dimensions.
        ConfigurationError: *variant* is unknown.

    Source: Chen et al., "In situ TensorView", 2018, section III-B, taken per position instead
    of on batch sums.
    """
    check_variant(variant)
    if variant == "batch_sum" and feature_maps.ndim >= 2:
        feature_maps = feature_maps.detach().sum(0, keepdim=True, dtype=torch.float64)
    result: NDArray[Any] = correlate(accumulate(None, feature_maps)).cpu().numpy()
    return result


def check_variant(variant: str) -> None:
    """Raise a ConfigurationError unless *variant* is one of `VARIANTS`."""
    if variant not in VARIANTS:
        raise ConfigurationError(
            f"correlation={variant!r} is unknown: expected one of {', '.join(VARIANTS)}."
        )


def _moments(block: Tensor, dtype: torch.dtype, product_dtype: torch.dtype) -> Moments:
    """Moments of one block, shape ``(C, n, P)``."""
    shift = block[:, 0].mean(1, keepdim=True, dtype=dtype)
    centred = torch.empty(block.shape, dtype=dtype, device=block.device)
    torch.sub(block, shift[:, :, None], out=centred)
    centred = centred.flatten(1)
    # A power of two loses no digit, and keeps squares of very large or small values in range.
    largest = torch.maximum(centred.amax(1), -centred.amin(1))
    exponent = torch.frexp(largest)[1].clamp(-120, 120).to(dtype)
    centred.mul_(torch.exp2(-exponent)[:, None])
    scale = torch.exp2(exponent.double())
    count = centred.shape[1]
    offset = centred.sum(1).double() / count
    wide = centred.to(product_dtype)
    products = torch.addr((wide @ wide.T).double(), offset, offset, alpha=-count)
    return Moments(
        count=count,
        mean=shift[:, 0].double() + scale * offset,
        comoment=products.mul_(scale[:, None]).mul_(scale),
    )


def merge(first: Moments | None, second: Moments) -> Moments:
    """Moments of both parts together.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979.
    """
    if first is None or first.count == 0:
        return second
    count = first.count + second.count
    delta = second.mean - first.mean
    cross = delta[:, None] * delta[None, :] * (first.count * second.count / count)
    return Moments(
        count=count,
        mean=first.mean + delta * (second.count / count),
        comoment=first.comoment + second.comoment + cross,
    )
