"""Distribution of each channel's activations, streamed over chunks on the maps' own device.

The range is that of all values; counted may be fewer of them, evenly chosen by the caller. A chunk
is counted into `FINE_BINS` bins over its own range. Where chunks follow each other, the counts are
spread over the range of all, each bin's evenly, so a value may move by at most one fine bin a
chunk; a single chunk is counted exactly. Nothing here waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

BINS = 32
FINE_BINS = 8 * BINS

# Small enough to stay in a CPU's cache, large enough to keep a GPU busy.
_BLOCK_VALUES = {"cpu": 2**18, "cuda": 2**25}


@dataclass(frozen=True, kw_only=True, eq=False)
class Extremes:
    """Range of each channel so far, on the maps' device.

    Attributes:
        count: values seen per channel.
        low: shape ``(C,)``, the maps' dtype (at least float32): smallest finite value, +inf where
            none is.
        high: shape ``(C,)``: largest finite value, -inf where none is.
        finite: shape ``(C,)``, int64: how many values are finite.
        all_finite: every value is known to be finite; False where that was not looked at.
    """

    count: int
    low: Tensor
    high: Tensor
    finite: Tensor
    all_finite: bool = False

    def select(self, channels: Tensor) -> Extremes:
        """Return those of *channels*, int64 indices."""
        return Extremes(
            count=self.count,
            low=self.low[channels],
            high=self.high[channels],
            finite=self.finite[channels],
            all_finite=self.all_finite,
        )

    @property
    def dead(self) -> Tensor:
        """Shape ``(C,)``, bool: two values or more, all finite and all the same."""
        constant = self.low == self.high
        if self.all_finite and self.count > 1:
            return constant
        return constant & (self.finite == self.count) & (self.finite > 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Counts of each channel's finite values so far, zeros apart, on the maps' device.

    Attributes:
        extremes: of the values counted, and of those beside them.
        counts: shape ``(C, FINE_BINS)``, float64, over the range of *extremes*.
        zeros: shape ``(C,)``, int64.
    """

    extremes: Extremes
    counts: Tensor
    zeros: Tensor


def find_extremes(maps: Tensor) -> Extremes:
    """Find each channel's range.

    Args:
        maps: shape ``(N, C, P)``, float32 or float64.
    """
    channels = maps.shape[1]
    count = maps.shape[0] * maps.shape[2]
    if maps.device.type == "cpu" and count:
        # Here a look at a result waits for nobody, and masks cost more than all else together.
        low = over_samples(maps, lambda rows: rows.amin(0)).amin(1)
        high = over_samples(maps, lambda rows: rows.amax(0)).amax(1)
        if bool((high - low < torch.inf).all()):
            finite = torch.full((channels,), count, device=maps.device)
            return Extremes(count=count, low=low, high=high, finite=finite, all_finite=True)
    low = torch.full((channels,), torch.inf, dtype=maps.dtype, device=maps.device)
    high = -low
    finite = torch.zeros(channels, dtype=torch.int64, device=maps.device)
    for block in _blocks(maps):
        is_finite = block.isfinite()
        low = torch.minimum(low, torch.where(is_finite, block, torch.inf).amin((0, 2)))
        high = torch.maximum(high, torch.where(is_finite, block, -torch.inf).amax((0, 2)))
        finite += is_finite.sum((0, 2))
    return Extremes(count=count, low=low, high=high, finite=finite)


def over_samples(maps: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """Reduce over samples, along the order in which values lie in memory.

    Where channels lie closest (``torch.channels_last``) that is up to fifty times as fast.

    Args:
        maps: shape ``(N, C, P)``.
        reduce: from shape ``(N, n)`` to ``(n,)``.

    Returns:
        Shape ``(C, P)``.
    """
    channels, positions = maps.shape[1:]
    if maps.stride(1) < maps.stride(2):
        return reduce(maps.transpose(1, 2).flatten(1)).view(positions, channels).T
    return reduce(maps.flatten(1)).view(channels, positions)


def merge_extremes(first: Extremes | None, second: Extremes) -> Extremes:
    """Range of both parts together."""
    if first is None:
        return second
    return Extremes(
        count=first.count + second.count,
        low=torch.minimum(first.low, second.low),
        high=torch.maximum(first.high, second.high),
        finite=first.finite + second.finite,
    )


def accumulate(state: Histogram | None, maps: Tensor, *, extremes: Extremes) -> Histogram:
    """Add one chunk.

    Args:
        state: of the chunks before, None for the first.
        maps: shape ``(N, C, P)``, float32 or float64.
        extremes: of these maps, or of more that they were chosen from.
    """
    chunk = _count(maps, extremes)
    if state is None:
        return chunk
    merged = merge_extremes(state.extremes, extremes)
    return Histogram(
        extremes=merged,
        counts=_spread(state, merged) + _spread(chunk, merged),
        zeros=state.zeros + chunk.zeros,
    )


def summarise(state: Histogram) -> tuple[Tensor, Tensor, Tensor]:
    """Turn counts into shares.

    Returns:
        Histogram ``(C, BINS)``, range ``(C, 2)`` and zero mass ``(C,)``, all float32, with the
        meaning they have in `tensorview.snapshot.Activations`. The range is 0 to 0 where no value
        is finite.
    """
    finite = state.extremes.finite
    # Counts are whole numbers, but those that were spread: rounded, their sum is exact again.
    total = (state.counts.sum(1) + state.zeros).round().clamp(min=1)
    coarse = state.counts.view(-1, BINS, FINE_BINS // BINS).sum(2) / total[:, None]
    ends = torch.stack([state.extremes.low, state.extremes.high], 1)
    ends = torch.where((finite > 0)[:, None], ends, 0)
    return coarse.float(), ends.float(), (state.zeros / total).float()


def _blocks(maps: Tensor) -> Iterator[Tensor]:
    samples, channels, positions = maps.shape
    budget = _BLOCK_VALUES.get(maps.device.type, 2**18)
    width = max(1, min(positions, budget // max(1, channels)))
    height = max(1, budget // max(1, channels * width))
    for row in range(0, samples, height):
        for column in range(0, positions, width):
            yield maps[row : row + height, :, column : column + width]


def _count(maps: Tensor, extremes: Extremes) -> Histogram:
    channels = maps.shape[1]
    device = maps.device
    # Halves, because the width of a range may overflow where its ends do not.
    base = (-0.5 * extremes.low).view(1, -1, 1)
    # A range of one value has its place at 0 whatever the scale.
    scale = (FINE_BINS / (base + 0.5 * extremes.high.view(1, -1, 1))).clamp(
        0, torch.finfo(maps.dtype).max
    )
    offset, one = _constants(channels, device)
    counts = torch.zeros(channels * (FINE_BINS + 1), dtype=torch.int64, device=device)
    zeros = torch.zeros(channels, dtype=torch.int64, device=device)
    for block in _blocks(maps):
        zeros += _count_zeros(block, all_finite=extremes.all_finite)
        # A value at the upper end belongs to the last bin.
        place = torch.add(base, block, alpha=0.5).mul_(scale).clamp_(0, FINE_BINS - 1)
        if not extremes.all_finite:
            place = torch.where(block.isfinite(), place, FINE_BINS)
        index = place.int().add_(offset).flatten()
        counts.index_add_(0, index, one.expand(len(index)))
    # Zeros were counted like any value; what puts them into a bin tells which one to empty.
    place = (base * scale).clamp_(0, FINE_BINS - 1).nan_to_num_(0.0).int().add_(offset)
    counts.index_add_(0, place.flatten(), zeros, alpha=-1)
    counts = counts.view(channels, FINE_BINS + 1)[:, :FINE_BINS].double()
    return Histogram(extremes=extremes, counts=counts, zeros=zeros)


@lru_cache(maxsize=256)
def _constants(channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """First place of each channel, shape ``(1, C, 1)``, and a 1. Not to be changed."""
    with torch.inference_mode(mode=False):
        offset = torch.arange(channels, device=device) * (FINE_BINS + 1)
        one = torch.ones(1, dtype=torch.int64, device=device)
        return offset.int().view(1, -1, 1), one


def _count_zeros(block: Tensor, *, all_finite: bool) -> Tensor:
    """Zeros of each channel of one block, shape ``(C,)``, int64."""
    count = block.shape[0] * block.shape[2]
    if all_finite and count < 2**24:  # so far float32 counts exactly, and several times as fast
        return count - block.sign().abs_().sum((0, 2)).long()
    return count - torch.count_nonzero(block, dim=(0, 2))


def _spread(state: Histogram, merged: Extremes) -> Tensor:
    """Counts over the wider range *merged*, each bin's spread evenly."""
    device = state.counts.device
    low, high = state.extremes.low.double(), state.extremes.high.double()
    start = merged.low.double()
    width = (merged.high.double() - start) / FINE_BINS
    steps = torch.arange(FINE_BINS + 1, dtype=torch.float64, device=device)
    edges = start[:, None] + width[:, None] * steps
    # Where the part is a single value, the first edge above it takes all.
    own = ((high - low) / FINE_BINS).clamp(min=torch.finfo(torch.float64).tiny)
    place = ((edges - low[:, None]) / own[:, None]).nan_to_num(0.0).clamp(0, FINE_BINS)
    place[:, -1] = FINE_BINS
    place[:, 0] = 0
    # A product with a triangle, because a CUDA cumsum is refused in deterministic mode.
    triangle = torch.ones(FINE_BINS, FINE_BINS + 1, dtype=torch.float64, device=device).triu(1)
    below = state.counts @ triangle
    index = place.floor().clamp(max=FINE_BINS - 1).to(torch.int64)
    share = below.gather(1, index) + (place - index) * state.counts.gather(1, index)
    return share[:, 1:] - share[:, :-1]
