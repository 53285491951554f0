"""Paths of weights through three-dimensional subspaces, and what keeps their pictures steady."""

from __future__ import annotations

import math
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tensorview.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_SWAP_MARGIN = 1.1


def project(
    sketches: NDArray[np.float64], *, previous_axes: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Lay a path of sketches into the space of its first three principal components.

    Args:
        sketches: shape ``(T, k)``, one row a capture. Rows with a non-finite value are left out of
            the fit.
        previous_axes: shape ``(3, k)``, of the capture before, None for the first.

    Returns:
        Points ``(T, 3)``, NaN for rows left out; axes ``(3, k)``; explained variance ``(3,)``,
        shares that sum to at most 1, NaN while fewer than two points differ.

        Axes are sorted by variance and point the way they did before. Two axes keep their former
        places until one's variance exceeds the other's by a tenth, so that nearly equal ones do
        not change places back and forth. Missing axes (fewer dimensions than three, or nothing
        left to explain) are zero.
    """
    count, dimensions = sketches.shape
    usable = np.isfinite(sketches).all(axis=1)
    points = np.full((count, 3), np.nan)
    axes = np.zeros((3, dimensions))
    if not usable.any():
        return points, axes if previous_axes is None else previous_axes, np.full(3, np.nan)
    rows = sketches[usable]
    centred = rows - rows.mean(axis=0)
    scale = np.abs(centred).max(initial=0.0)
    shares = np.full(3, np.nan)
    # What is smaller differs by rounding alone.
    if scale > 1e-12 * np.abs(rows).max(initial=0.0):
        unit = centred / scale
        values, vectors = _principal(unit)
        found = min(3, dimensions)
        variances = np.zeros(3)
        variances[:found] = np.maximum(values[::-1][:found], 0.0)
        axes[:found] = vectors.T[::-1][:found]
        axes[variances <= 1e-12 * variances[0]] = 0.0
        shares = variances / np.maximum(values, 0.0).sum()
        if previous_axes is not None:
            axes, shares = _steady(axes, shares, previous_axes)
        else:
            largest = np.abs(axes).argmax(axis=1) if dimensions else np.zeros(3, int)
            axes = axes * np.where(axes[np.arange(3), largest] < 0, -1.0, 1.0)[:, None]
    elif previous_axes is not None:
        axes = previous_axes
    points[usable] = centred @ axes.T
    return points, axes, shares


def _principal(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ascending variances (times a constant) and axes, as columns, of centred *rows*.

    By torch, because numpy would start threads of its own beside those that train.
    """
    tensor = torch.from_numpy(rows)
    values, vectors = torch.linalg.eigh(tensor.T @ tensor)
    return values.numpy(), vectors.numpy()


def _steady(
    axes: NDArray[np.float64], shares: NDArray[np.float64], previous: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Order and point *axes* as *previous* ones, as far as their variances allow."""
    overlap = np.abs(axes @ previous.T)
    allowed = [
        list(order)
        for order in permutations(range(3))
        if all(
            shares[order[place]] * _SWAP_MARGIN >= shares[order[later]]
            for place in range(3)
            for later in range(place + 1, 3)
        )
    ]
    order = max(allowed, key=lambda order: float(overlap[order, np.arange(3)].sum()))
    axes, shares = axes[order], shares[order]
    signs = np.where(np.einsum("ak,ak->a", axes, previous) < 0, -1.0, 1.0)
    return axes * signs[:, None], shares


def thin(captures: NDArray[np.int64], *, limit: int) -> NDArray[np.int64]:
    """Choose which captures to keep: every one, then every second, fourth, ... and the newest.

    Args:
        captures: ascending numbers of the captures kept so far and the newest one.
        limit: most to keep, at least 2.

    Returns:
        Indices into *captures*. The distance kept depends on the newest number alone, so what is
        kept is spread evenly over the run at any time.
    """
    since = captures - captures[0]
    stride = 1
    while since[-1] // stride + 2 > limit:
        stride *= 2
    keep = since % stride == 0
    keep[-1] = True
    return np.flatnonzero(keep)


def segments(
    captures: NDArray[np.int64], *, events: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Divide a path where filters, or inputs, were removed.

    Args:
        captures: shape ``(T,)``, ascending numbers of the captures kept.
        events: shape ``(E, 2)``: number of the first capture after each, and how many filters it
            removed.

    Returns:
        Shapes ``(T,)``, int32: how many events each point follows, and how many filters were
        removed since the point before it. An event whose own capture is not kept counts at the
        next one that is.
    """
    after = np.searchsorted(captures, events[:, 0])
    happened = after < len(captures)
    begun, removed = np.zeros((2, len(captures)), np.int32)
    np.add.at(begun, after[happened], 1)
    np.add.at(removed, after[happened], events[happened, 1])
    return np.cumsum(begun, dtype=np.int32), removed


def grow_extent(
    previous: NDArray[np.float64] | None, points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Widen *previous* in coarse steps until it holds all finite *points*.

    Args:
        previous: shape ``(3, 2)`` or None.
        points: shape ``(T, 3)``.

    Returns:
        Shape ``(3, 2)``: finite, low < high. An end that is passed moves out by half of the width
        or by a power of two, whichever is more, so that the box does not follow every point.
    """
    finite = points[np.isfinite(points).all(axis=1)]
    if len(finite) == 0:
        return np.tile([-1.0, 1.0], (3, 1)) if previous is None else previous
    low, high = finite.min(axis=0), finite.max(axis=0)
    if previous is None:
        # One unit for all axes. A path that has not moved yet gets a box to grow from.
        spread = float((high - low).max()) or 2.0**-10 * float(np.abs(finite).max()) or 2.0**-20
        unit = _power_of_two(spread)
        still = high == low  # in the middle, not on a face of the box
        start = np.where(still, low - unit, np.floor(low / unit) * unit)
        end = np.where(still, high + unit, (np.floor(high / unit) + 1) * unit)
        return np.stack([start, end], axis=1)
    extent = previous.copy()
    for axis, (start, end) in enumerate(previous):
        step = (end - start) / 2
        if low[axis] < start:
            extent[axis, 0] = start - max(step, _power_of_two(start - low[axis]))
        if high[axis] > end:
            extent[axis, 1] = end + max(step, _power_of_two(high[axis] - end))
    return extent


def _power_of_two(value: float) -> float:
    return 2.0 ** math.ceil(math.log2(value))


def parse_axes(
    axes: Mapping[str, Sequence[Any]] | None, *, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[tuple[tuple[int, ...], ...], ...]]:
    """Check triples of weights against the layers' weight shapes.

    Args:
        axes: layer name -> triples; each of the three is a weight's index in PyTorch's own order,
            ``(o, i, row, col)`` for a Conv2d, or its number in the flattened weight.
        shapes: weight shape of every watched layer.

    Returns:
        The same, with full indices.

    Raises:
        ConfigurationError: a layer that is not watched, not three, or an index that is not there.
    """
    if axes is None:
        return {}
    if not hasattr(axes, "items"):
        raise ConfigurationError(
            f"trajectory_axes={axes!r} cannot be used: expected a dict of layer name to a list of "
            f"triples of weight indices."
        )
    parsed = {}
    for name, triples in axes.items():
        if name not in shapes:
            raise ConfigurationError(
                f"trajectory_axes names layer {name!r}, which is not watched: expected one of "
                f"{', '.join(shapes)}."
            )
        if not isinstance(triples, (list, tuple)):
            raise ConfigurationError(
                f"trajectory_axes of layer {name!r} cannot be used: expected a list of triples of "
                f"weight indices, found {triples!r}."
            )
        parsed[name] = tuple(_parse_triple(name, triple, shapes[name]) for triple in triples)
    return parsed


def _parse_triple(name: str, triple: Any, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    if not isinstance(triple, (tuple, list)) or len(triple) != 3:
        raise ConfigurationError(
            f"trajectory_axes[{name!r}] holds {triple!r}: expected three weight indices."
        )
    return tuple(_parse_index(name, index, shape) for index in triple)


def _parse_index(name: str, index: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    try:
        if isinstance(index, int):
            return tuple(int(part) for part in np.unravel_index(index, shape))
        full = tuple(index)
        if len(full) == len(shape) and all(
            isinstance(part, int) and 0 <= part < size
            for part, size in zip(full, shape, strict=True)
        ):
            return full
    except (TypeError, ValueError):
        pass
    raise ConfigurationError(
        f"trajectory_axes[{name!r}] holds {index!r}: expected an index into a weight of shape "
        f"{shape}."
    )


def axes_title(triple: Sequence[tuple[int, ...]]) -> str:
    """Name a triple of weights: ``"w[0, 0, 1, 1] w[...] w[...]"``."""
    return " ".join(f"w[{', '.join(map(str, index))}]" for index in triple)
