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
_BLOCK_VALUES = {"cpu": 2**18, "cuda": 2**25}
# About as many values of a channel, of every sample, tell where to shift it.
_SHIFT_VALUES = 512
# Sums of squares below this may have lost products to underflow: 2**24 of the smallest float32.
_SMALL = 2.0**-100
# Multiplications from which one more call costs less than what it saves.
_WORTH_HALVING = 2**23


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
    with torch.autocast(maps.device.type, enabled=False), torch.no_grad():
        return merge(state, _moments(maps, dtype))


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
    pcc = (state.comoment * (0.5 * scale[:, None])).mul_(scale)
    # The copy, because reading a transposed matrix element by element costs more than all else.
    pcc = pcc.T.contiguous().add_(pcc).clamp_(-1, 1)
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


def _moments(maps: Tensor, dtype: torch.dtype) -> Moments:
    """Moments of one chunk, shape ``(N, C, P)``."""
    samples, channels, positions = maps.shape
    count = samples * positions
    if not count:
        zeros = torch.zeros(channels, channels, dtype=torch.float64, device=maps.device)
        return Moments(count=0, mean=zeros.sum(0), comoment=zeros)
    shift = _near_mean(maps, dtype)
    # Squares of very large or small values leave the range of float32. On the CPU, where a look at
    # a result waits for nobody, that is seen afterwards; elsewhere it is prevented at once.
    scale = None if maps.is_cpu else _scale(maps, shift)
    products, sums = _sums(maps, shift, scale)
    if scale is None and not _in_range(products.diagonal(), maps):
        scale = _scale(maps, shift)
        products, sums = _sums(maps, shift, scale)
    offset = sums / count
    comoment = products.addr_(offset, offset, alpha=-count)
    if scale is not None:
        back = scale.double().reciprocal()
        comoment, offset = comoment.mul_(back[:, None]).mul_(back), offset * back
    return Moments(count=count, mean=shift.double() + offset, comoment=comoment)


def _near_mean(maps: Tensor, dtype: torch.dtype) -> Tensor:
    """Shape ``(C,)``: the mean of some values of each channel; of a constant one, its value."""
    step = max(1, maps.shape[0] * maps.shape[2] // _SHIFT_VALUES)
    some = maps[:, :, ::step].transpose(0, 1).to(dtype).flatten(1)
    return torch.minimum(torch.maximum(some.mean(1), some.amin(1)), some.amax(1))


def _scale(maps: Tensor, shift: Tensor) -> Tensor:
    """Shape ``(C,)``: powers of two, which lose no digit, that bring deviations to about 1."""
    low, high = maps.amin(2).amin(0).to(shift.dtype), maps.amax(2).amax(0).to(shift.dtype)
    largest = torch.maximum(high - shift, shift - low)
    return torch.exp2(-torch.frexp(largest)[1].clamp(-120, 120).to(shift.dtype))


def _in_range(squares: Tensor, maps: Tensor) -> bool:
    """Whether no sum of squares has overflowed, and none but a constant channel's underflowed."""
    if not bool((squares < torch.inf).all()):
        return False
    small = squares < _SMALL
    if not bool(small.any()):
        return True
    below = maps[:, small]
    return bool((below.amax((0, 2)) == below.amin((0, 2))).all())


def _sums(maps: Tensor, shift: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums of products ``(C, C)`` and sums ``(C,)`` of deviations from *shift*, in float64."""
    samples, channels, positions = maps.shape
    product_dtype = exact_dtype(shift.dtype)
    budget = max(_BLOCK_VALUES.get(maps.device.type, 2**18), 4 * channels * channels)
    width = max(1, min(positions, budget // max(1, channels)))
    height = max(1, min(samples, budget // max(1, channels * width)))
    products = torch.zeros(channels, channels, dtype=torch.float64, device=maps.device)
    sums = torch.zeros(channels, dtype=torch.float64, device=maps.device)
    buffer = torch.empty(channels * height * width, dtype=shift.dtype, device=maps.device)
    for row in range(0, samples, height):
        for column in range(0, positions, width):
            block = maps[row : row + height, :, column : column + width].transpose(0, 1)
            centred = buffer[: block.numel()].view(block.shape)
            torch.sub(block, shift[:, None, None], out=centred)
            centred = centred.flatten(1)
            if scale is not None:
                centred.mul_(scale[:, None])
            sums += centred.sum(1)
            products += _gram(centred.to(product_dtype))
    return products, sums


def _gram(rows: Tensor) -> Tensor:
    """Products of all pairs of *rows*; of large ones, the lower corner is not computed twice.

    But on the CPU, where what is computed costs more than that it is asked for.
    """
    count, length = rows.shape
    if count < 2 or count * count * length < _WORTH_HALVING or not rows.is_cpu:
        return rows @ rows.T
    first, second = rows[: count // 2], rows[count // 2 :]
    across = first @ second.T
    return torch.cat(
        [
            torch.cat([_gram(first), across], 1),
            torch.cat([across.T, _gram(second)], 1),
        ]
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
