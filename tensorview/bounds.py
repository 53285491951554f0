"""How much of each layer a snapshot carries, so that it stays below 64 MiB whatever the model."""

from __future__ import annotations

import bisect
import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tensorview.capture.layers import WatchedLayer

_Plan = TypeVar("_Plan")

_MIB = 2**20
WEIGHT_BYTES = 23 * _MIB
MAP_BYTES = 20 * _MIB
CORRELATION_BYTES = 8 * _MIB
HISTOGRAM_BYTES = 4 * _MIB
TRAJECTORY_BYTES = 4 * _MIB
SCALAR_BYTES = 4 * _MIB

MAX_CHANNELS = 512

MAX_VALUES = 8192
"""Values of a channel that its distribution and its correlations are taken over. More tell little
more: of so many the share in a bin is known to half a percent, an r of 0.9 to 0.002."""

MAX_CAPTURES = 512
"""Of which a snapshot tells: points of a path, rows of the table of scalars. Every capture's files
repeat them, so this bounds what a capture of a long run takes."""

LEAST_POSITIONS = 8
"""Of a map, that these are taken over however many samples there are: fewer would be those of its
corners and edges, where padding shows."""

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
        position_step: distance of the positions that distribution and correlation are taken over.
        reduced: "" for all, else what was done, for people.
    """

    size: tuple[int, ...]
    channels: int
    samples: tuple[int, ...]
    stride: int
    position_step: int
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


def largest(most: int, fits: Callable[[int], bool]) -> int:
    """Largest number from 1 to *most* that fits, given that all smaller ones do; 1 if none does."""
    return max(1, bisect.bisect_left(range(1, most + 1), x=True, key=lambda n: not fits(n)))


def plan_weights(
    layers: Sequence[WatchedLayer], *, itemsizes: Sequence[int], focus: str = ""
) -> list[WeightPlan]:
    """Share `WEIGHT_BYTES` out: the largest cap a layer that keeps the sum within.

    Args:
        layers: watched.
        itemsizes: bytes of one weight of each, as it crosses: 4 or 8.
        focus: name of a layer that is planned as if alone, and of which more than `MAX_CHANNELS`
            filters and input channels may be shown; the others share what it leaves.
    """

    def plan(index: int, cap: int) -> WeightPlan:
        layer = layers[index]
        most = max(layer.out, layer.in_per_group) if layer.name == focus else MAX_CHANNELS
        return _plan_weight(layer, itemsizes[index], cap, most=most)

    def nbytes(index: int, found: WeightPlan) -> int:
        return _weight_bytes(layers[index], itemsizes[index], found)

    return _share(layers, plan, nbytes, limit=WEIGHT_BYTES, focus=focus)


def _share(
    layers: Sequence[WatchedLayer],
    plan: Callable[[int, int], _Plan],
    nbytes: Callable[[int, _Plan], int],
    *,
    limit: int,
    focus: str,
) -> list[_Plan]:
    """Plan the layers with a common cap on each; the one in focus first, and alone.

    Args:
        layers: watched.
        plan: from a layer's index and its cap to its plan.
        nbytes: from a layer's index and its plan to what that takes.
        limit: of the sum.
        focus: name of a layer, "" for none.
    """

    def plan_some(indices: list[int], left: int) -> dict[int, _Plan]:
        def fits(cap: int) -> bool:
            return sum(nbytes(index, plan(index, cap)) for index in indices) <= left

        cap = largest(left, fits)
        return {index: plan(index, cap) for index in indices}

    first = plan_some([i for i, layer in enumerate(layers) if layer.name == focus], limit)
    left = limit - sum(nbytes(index, found) for index, found in first.items())
    plans = first | plan_some([i for i in range(len(layers)) if i not in first], left)
    return [plans[index] for index in range(len(layers))]


def _weight_bytes(layer: WatchedLayer, item: int, plan: WeightPlan) -> int:
    kernel = 1 if plan.kernel_norms else math.prod(layer.kernel)
    indices = 4 * (plan.filters + plan.in_channels)
    return item * plan.filters * plan.in_channels * kernel + indices


def _plan_weight(layer: WatchedLayer, item: int, cap: int, *, most: int) -> WeightPlan:
    filters, in_channels = layer.out, layer.in_per_group
    norms = math.prod(layer.kernel) > 1

    def sampled(side: int, *, norms: bool, reduced: str) -> WeightPlan:
        return WeightPlan(
            filters=min(side, filters),
            in_channels=min(side, in_channels),
            kernel_norms=norms,
            reduced=reduced,
        )

    def fits(plan: WeightPlan) -> bool:
        return _weight_bytes(layer, item, plan) <= cap

    everything = max(filters, in_channels)
    whole = sampled(everything, norms=False, reduced="")
    if fits(whole):
        return whole
    reduced = "kernel norms" if norms else ""
    if norms and fits(plan := sampled(everything, norms=True, reduced=reduced)):
        return plan
    side = largest(most, lambda side: fits(sampled(side, norms=norms, reduced=reduced)))
    plan = sampled(side, norms=norms, reduced=reduced)
    chosen = (
        f"{plan.filters} of {filters} filters, {plan.in_channels} of {in_channels} input channels"
    )
    return dataclasses.replace(plan, reduced=f"{reduced}, {chosen}" if norms else chosen)


def plan_activations(
    layers: Sequence[WatchedLayer],
    *,
    sizes: Sequence[tuple[int, ...] | None],
    probe_size: int,
    samples: Sequence[int],
    focus: str = "",
) -> list[ActivationPlan | None]:
    """Share out what activations may take, likewise.

    Args:
        layers: watched.
        sizes: shape of one sample's activation of each, channels first; None where there is none.
        probe_size: samples in the probe.
        samples: single maps asked for.
        focus: name of a layer that comes first, as for the weights.
    """
    channels = _plan_channels(sizes, focused=[layer.name == focus for layer in layers])

    def plan(index: int, cap: int) -> ActivationPlan | None:
        size = sizes[index]
        if not size:
            return None
        whole = ActivationPlan(
            size=size,
            channels=channels[index],
            samples=tuple(samples),
            stride=1,
            position_step=position_step(size, probe_size),
            reduced="",
        )
        return _fit_activation(whole, cap, out=layers[index].out)

    def nbytes(_: int, found: ActivationPlan | None) -> int:
        return 0 if found is None else _map_bytes(found)

    return _share(layers, plan, nbytes, limit=MAP_BYTES, focus=focus)


def _map_bytes(plan: ActivationPlan) -> int:
    height, width = fold_map(plan.size)
    pixels = math.ceil(height / plan.stride) * math.ceil(width / plan.stride)
    return 4 * (1 + len(plan.samples)) * plan.channels * pixels


def _fit_activation(whole: ActivationPlan, cap: int, *, out: int) -> ActivationPlan:
    """Reduce the maps of *whole* to *cap* bytes, and say of how many channels and samples.

    Args:
        whole: every map in full.
        cap: bytes.
        out: channels of the layer.
    """
    plan = whole
    while plan.samples and _map_bytes(plan) > cap:
        plan = dataclasses.replace(plan, samples=plan.samples[:-1])
    while _map_bytes(plan) > cap and plan.stride < max(fold_map(plan.size)):
        plan = dataclasses.replace(plan, stride=plan.stride + 1)
    parts = []
    if plan.channels < plan.size[0]:
        parts.append(f"{plan.channels} of {out} channels")
    if len(plan.samples) < len(whole.samples):
        parts.append(f"maps of {len(plan.samples)} of {len(whole.samples)} samples")
    if plan.stride > 1:
        parts.append(f"maps averaged over {plan.stride} x {plan.stride}")
    return dataclasses.replace(plan, reduced=", ".join(parts))


def position_step(size: tuple[int, ...], probe_size: int) -> int:
    """Choose the distance of positions so that a channel has about `MAX_VALUES` values.

    More where these are fewer than `LEAST_POSITIONS` a sample. The distance shares no divisor with
    the width of a map, so that no column is left out.

    Args:
        size: shape of one sample's activation, channels first.
        probe_size: samples.
    """
    height, width = fold_map(size)
    positions = height * width
    step = max(1, min(-(-positions * probe_size // MAX_VALUES), positions // LEAST_POSITIONS))
    while math.gcd(step, width) > 1:
        step += 1
    return step


def fold_map(size: tuple[int, ...] | None) -> tuple[int, int]:
    """Height and width of one channel's map, folded to two dimensions."""
    return fold(size[1:]) if size else (0, 0)


def max_points(paths: int) -> int:
    """Points that each of *paths* trajectories may have."""
    return max(2, min(MAX_CAPTURES, TRAJECTORY_BYTES // (24 * max(1, paths) + 16)))


def max_rows(columns: int) -> int:
    """Rows that a table of *columns* scalars may have."""
    return max(2, min(MAX_CAPTURES, SCALAR_BYTES // (8 * max(1, columns))))


def _plan_channels(
    sizes: Sequence[tuple[int, ...] | None], *, focused: Sequence[bool]
) -> list[int]:
    counts = [size[0] if size else 0 for size in sizes]

    def shown(most: int) -> list[int]:
        return [
            min(count, MAX_CHANNELS if first else most)
            for count, first in zip(counts, focused, strict=True)
        ]

    def fits(most: int) -> bool:
        chosen = shown(most)
        return (
            4 * sum(count * count for count in chosen) <= CORRELATION_BYTES
            and _CHANNEL_BYTES * sum(chosen) <= HISTOGRAM_BYTES
        )

    return shown(largest(MAX_CHANNELS, fits))
