"""How much of each layer a snapshot carries, so that it stays below 64 MiB whatever the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tensorview.capture.layers import WatchedLayer

_MIB = 2**20
WEIGHT_BYTES = 23 * _MIB
MAP_BYTES = 20 * _MIB
CORRELATION_BYTES = 8 * _MIB
HISTOGRAM_BYTES = 4 * _MIB
TRAJECTORY_BYTES = 4 * _MIB
SCALAR_BYTES = 4 * _MIB

MAX_CHANNELS = 512

# Histogram, its range, zero mass, index and group of one channel, in float32 and int32.
_CHANNEL_BYTES = 4 * (32 + 2 + 1 + 2)


@dataclass(frozen=True, kw_only=True)
class WeightPlan:
    """How one layer's weights cross to the host.

    Attributes:
        filters: how many filters, evenly chosen.
        in_channels: how many input channels of each, evenly chosen.
        kernel_norms: one value a kernel, its Euclidean norm.
        reduced: "" for all weights, else what was done, for people.
    """

    filters: int
    in_channels: int
    kernel_norms: bool
    reduced: str


@dataclass(frozen=True, kw_only=True)
class ActivationPlan:
    """How one layer's activations cross to the host.

    Attributes:
        size: shape of one sample's activation, channels first.
        channels: how many channels, evenly chosen.
        samples: of which single maps are kept beside the mean.
        stride: side of the square of positions that is averaged into one pixel.
        reduced: "" for all, else what was done, for people.
    """

    size: tuple[int, ...]
    channels: int
    samples: tuple[int, ...]
    stride: int
    reduced: str


def fold(size: tuple[int, ...]) -> tuple[int, int]:
    """Fold any number of axes to two, keeping the last."""
    if not size:
        return 1, 1
    rows = 1
    for extent in size[:-1]:
        rows *= extent
    return rows, size[-1]


def evenly(total: int, shown: int) -> NDArray[np.int32]:
    """Choose *shown* of *total* indices, evenly, with the first and the last."""
    indices = np.arange(shown, dtype=np.int64)
    return (indices * (total - 1) // max(1, shown - 1)).astype(np.int32)


def water_level(demands: Sequence[int], budget: int) -> int:
    """Return the largest share that every demand may have, so that together they fit *budget*."""
    left = budget
    for served, demand in enumerate(sorted(demands)):
        share = left // (len(demands) - served)
        if demand > share:
            return share
        left -= demand
    return max(demands, default=0)


def plan_weights(layers: Sequence[WatchedLayer], *, itemsizes: Sequence[int]) -> list[WeightPlan]:
    """Give every layer the same share of `WEIGHT_BYTES`; what needs less leaves more to others.

    Args:
        layers: watched.
        itemsizes: bytes of one weight of each, as it crosses: 4 or 8.
    """

    def size(layer: WatchedLayer, item: int) -> int:
        kernel = math.prod(layer.kernel)
        return item * layer.out * layer.in_per_group * kernel + 4 * (layer.out + layer.in_per_group)

    cap = water_level(list(map(size, layers, itemsizes)), WEIGHT_BYTES)
    return [
        _plan_weight(layer, item, cap, whole=size(layer, item) <= cap)
        for layer, item in zip(layers, itemsizes, strict=True)
    ]


def _plan_weight(layer: WatchedLayer, item: int, cap: int, *, whole: bool) -> WeightPlan:
    filters, in_channels = layer.out, layer.in_per_group
    if whole:
        return WeightPlan(filters=filters, in_channels=in_channels, kernel_norms=False, reduced="")
    norms = math.prod(layer.kernel) > 1
    parts = ["kernel norms"] if norms else []

    def fits(filters: int, in_channels: int) -> bool:
        return item * filters * in_channels + 4 * (filters + in_channels) <= cap

    if not (norms and fits(filters, in_channels)):
        most = _largest(MAX_CHANNELS, lambda side: fits(min(side, filters), min(side, in_channels)))
        shown = min(most, filters), min(most, in_channels)
        parts.append(f"{shown[0]} of {filters} filters, {shown[1]} of {in_channels} input channels")
        filters, in_channels = shown
    return WeightPlan(
        filters=filters, in_channels=in_channels, kernel_norms=norms, reduced=", ".join(parts)
    )


def plan_activations(
    layers: Sequence[WatchedLayer],
    *,
    sizes: Sequence[tuple[int, ...] | None],
    samples: Sequence[int],
) -> list[ActivationPlan | None]:
    """Share what activations may take, likewise.

    Args:
        layers: watched.
        sizes: shape of one sample's activation of each, channels first; None where there is none.
        samples: single maps asked for.
    """
    channels = _plan_channels(sizes)
    maps = [fold_map(size) for size in sizes]

    def map_bytes(index: int, *, kept: int, stride: int) -> int:
        height, width = maps[index]
        pixels = math.ceil(height / stride) * math.ceil(width / stride)
        return 4 * (1 + kept) * channels[index] * pixels

    cap = water_level(
        [map_bytes(index, kept=len(samples), stride=1) for index in range(len(sizes))], MAP_BYTES
    )
    plans: list[ActivationPlan | None] = []
    for index, (layer, size) in enumerate(zip(layers, sizes, strict=True)):
        if size is None:
            plans.append(None)
            continue
        stride, kept = 1, len(samples)
        while kept and map_bytes(index, kept=kept, stride=1) > cap:
            kept -= 1
        while map_bytes(index, kept=kept, stride=stride) > cap and stride < max(maps[index]):
            stride += 1
        parts = []
        if channels[index] < layer.out:
            parts.append(f"{channels[index]} of {layer.out} channels")
        if kept < len(samples):
            parts.append(f"maps of {kept} of {len(samples)} samples")
        if stride > 1:
            parts.append(f"maps averaged over {stride} x {stride}")
        plans.append(
            ActivationPlan(
                size=size,
                channels=channels[index],
                samples=tuple(samples)[:kept],
                stride=stride,
                reduced=", ".join(parts),
            )
        )
    return plans


def fold_map(size: tuple[int, ...] | None) -> tuple[int, int]:
    """Height and width of one channel's map, folded to two dimensions."""
    return fold(size[1:]) if size else (0, 0)


def max_points(paths: int) -> int:
    """Points that each of *paths* trajectories may have."""
    return max(2, min(1024, TRAJECTORY_BYTES // (24 * max(1, paths) + 16)))


def max_rows(columns: int) -> int:
    """Rows that a table of *columns* scalars may have."""
    return max(2, min(1024, SCALAR_BYTES // (8 * max(1, columns))))


def _plan_channels(sizes: Sequence[tuple[int, ...] | None]) -> list[int]:
    counts = [min(size[0], MAX_CHANNELS) if size else 0 for size in sizes]
    pairs = water_level([4 * count * count for count in counts], CORRELATION_BYTES)
    single = water_level([_CHANNEL_BYTES * count for count in counts], HISTOGRAM_BYTES)
    return [min(count, math.isqrt(pairs // 4), single // _CHANNEL_BYTES) for count in counts]


def _largest(limit: int, fits: Callable[[int], Any]) -> int:
    """Largest number from 1 to *limit* that fits, 1 if none does."""
    return next((number for number in range(limit, 1, -1) if fits(number)), 1)
