"""Synthetic snapshots for tests: small, consistent in themselves, the same for the same generator.

    snapshot = make_snapshot(np.random.default_rng(0))
    snapshot = make_snapshot(rng, layers=[make_layer(rng, filters=8, conv_groups=4)], form="cells")

Every default layer has one group of two filters, one dead filter and values without finite decimal
form. Pass ``special=True`` for NaN, infinities, -0.0 and a subnormal among weights and maps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.snapshot import (
    GROUP_DEAD,
    GROUP_NONE,
    VIEWS,
    Activations,
    Layer,
    Snapshot,
    Trajectory,
    Weights,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SPECIAL_VALUES = (np.nan, np.inf, -np.inf, -0.0, 1e-40)
"""The last is subnormal in float32; in float64 it is merely small."""


def make_snapshot(
    rng: np.random.Generator,
    *,
    layers: Sequence[Layer] | None = None,
    step: int = 150,
    every: int = 50,
    views: tuple[str, ...] = VIEWS,
    form: str = "auto",
    name: str = "LeNet",
) -> Snapshot:
    """Build a snapshot; its trajectory steps end at *step* and fit the layers' trajectories.

    Args:
        rng: source of all values.
        layers: default: a Conv2d, a grouped Conv2d and a Linear layer with 4 captures each.
        step: step of the snapshot, a multiple of *every*.
        every: steps between captures.
        views: names from `VIEWS`.
        form: ``"auto"``, ``"cells"`` or ``"atlas"``.
        name: the run's name.
    """
    if layers is None:
        layers = (
            make_layer(rng, name="conv1", filters=6, in_channels=1, map_size=(6, 5)),
            make_layer(rng, name="conv2", filters=8, in_channels=2, conv_groups=4, map_size=(3, 3)),
            make_layer(
                rng,
                name="fc",
                kind="Linear",
                filters=5,
                in_channels=12,
                kernel=(1, 1),
                map_size=(1, 1),
            ),
        )
    captures = next((t.points.shape[0] for layer in layers for t in layer.trajectories), 4)
    steps = step - every * np.arange(captures - 1, -1, -1, dtype=np.int64)
    losses = 2.3 / (1 + np.arange(captures, dtype=np.float64))
    losses[:1] = np.nan
    scalars = {"step": steps.astype(np.float64), "loss": losses.copy()}
    for layer in layers:
        for quantity in ("weight_norm", "gradient_norm", "update_ratio"):
            scalars[f"{layer.name}/{quantity}"] = rng.uniform(size=captures)
        for quantity in ("dead", "non_finite"):
            scalars[f"{layer.name}/{quantity}"] = rng.integers(0, 3, captures).astype(np.float64)
    return Snapshot(
        step=step,
        capture=step // every,
        name=name,
        layers=tuple(layers),
        views=views,
        form=form,
        trajectory_steps=steps,
        trajectory_losses=losses,
        scalars=scalars,
    )


def make_layer(
    rng: np.random.Generator,
    *,
    name: str = "conv1",
    kind: str = "Conv2d",
    filters: int = 6,
    in_channels: int = 2,
    kernel: tuple[int, int] = (3, 3),
    map_size: tuple[int, int] = (6, 5),
    conv_groups: int = 1,
    captures: int = 4,
    subspaces: int = 1,
    samples: int = 1,
    dtype: Any = np.float32,
    special: bool = False,
    removed: int = 0,
) -> Layer:
    """Build one layer with weights, activations and trajectories.

    Args:
        rng: source of all values.
        name: dotted path.
        kind: class name of the module.
        filters: number of filters F, which is also the number of channels C.
        in_channels: input channels that each filter reads.
        kernel: folded kernel ``(h, w)``.
        map_size: folded map ``(H, W)``.
        conv_groups: groups of the convolution; divides *filters*.
        captures: points T of each trajectory.
        subspaces: number of trajectories.
        samples: maps beside the mean.
        dtype: of the weights.
        special: put `SPECIAL_VALUES` among weights and maps and lose one point of each trajectory.
        removed: filters removed, the first ones, half way along the trajectories; 0 for no event.
    """
    weight_shape = (filters, in_channels) + (() if kind == "Linear" else kernel)
    return Layer(
        name=name,
        kind=kind,
        weight_shape=weight_shape,
        original_filters=np.arange(filters, dtype=np.int32) + removed,
        weights=make_weights(
            rng,
            shape=(filters, in_channels, *kernel),
            conv_groups=conv_groups,
            dtype=dtype,
            special=special,
        ),
        activations=make_activations(
            rng, channels=filters, map_size=map_size, samples=samples, special=special
        ),
        trajectories=tuple(
            make_trajectory(
                rng,
                captures=captures,
                subspace="w[0] w[1] w[2]" if index else "PCA",
                special=special,
                removed=removed,
            )
            for index in range(subspaces)
        ),
    )


def make_weights(
    rng: np.random.Generator,
    *,
    shape: tuple[int, int, int, int] = (6, 2, 3, 3),
    conv_groups: int = 1,
    dtype: Any = np.float32,
    special: bool = False,
) -> Weights:
    """Build weights of *shape* ``(F, I, h, w)`` with their display range (a power of two)."""
    filters, in_channels = shape[:2]
    values = rng.normal(scale=0.2, size=shape).astype(dtype)
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    if special:
        _sprinkle(values)
    return Weights(
        values=values,
        filters=np.arange(filters, dtype=np.int32),
        in_channels=np.arange(in_channels, dtype=np.int32),
        conv_groups=conv_groups,
        in_per_group=in_channels,
        out=filters,
        reduced="",
        range=float(2.0 ** np.ceil(np.log2(largest))),
    )


def make_activations(
    rng: np.random.Generator,
    *,
    channels: int = 6,
    map_size: tuple[int, int] = (6, 5),
    samples: int = 1,
    bins: int = 16,
    probe_size: int = 8,
    special: bool = False,
) -> Activations:
    """Build ReLU-like activations and what is derived of them.

    Channels 0 and 1 are nearly equal and form group 0, the last of three or more is dead.
    """
    values = np.maximum(rng.normal(size=(probe_size, channels, *map_size)), 0).astype(np.float32)
    groups = np.full(channels, GROUP_NONE, np.int32)
    if channels > 1:
        values[:, 1] = values[:, 0] * np.float32(0.9)
        groups[:2] = 0
    if channels > 2:
        values[:, -1] = 0
        groups[-1] = GROUP_DEAD
    flat = np.moveaxis(values, 1, 0).reshape(channels, probe_size * map_size[0] * map_size[1])
    histogram, histogram_range, zero_mass = _histogram(flat, bins=bins)
    maps = np.concatenate([values.mean(axis=0, keepdims=True), values[:samples]])
    high = float(maps.max(initial=0.0)) or 1.0
    if special:
        _sprinkle(maps)
    return Activations(
        channels=np.arange(channels, dtype=np.int32),
        out=channels,
        groups=groups,
        pcc=_pearson(flat),
        histogram=histogram,
        histogram_range=histogram_range,
        zero_mass=zero_mass,
        maps=maps,
        map_samples=tuple(range(samples)),
        map_stride=1,
        map_range=(0.0, high),
        sample_count=probe_size,
    )


def make_trajectory(
    rng: np.random.Generator,
    *,
    captures: int = 4,
    subspace: str = "PCA",
    special: bool = False,
    removed: int = 0,
) -> Trajectory:
    """Build a random walk of *captures* points; *special* makes the last one NaN.

    Where *removed* is not 0, that many filters are removed before the point in the middle.
    """
    points = rng.normal(size=(captures, 3)).cumsum(axis=0)
    shares = np.sort(rng.dirichlet(np.ones(3)))[::-1]
    extent = np.stack(
        [
            np.floor(points.min(axis=0, initial=0.0)) - 1,
            np.ceil(points.max(axis=0, initial=0.0)) + 1,
        ],
        axis=1,
    )
    if special:
        points[-1:] = np.nan
    pruned = np.zeros(captures, np.int32)
    pruned[captures // 2 : captures // 2 + 1] = removed
    return Trajectory(
        subspace=subspace,
        points=points,
        explained_variance=shares if subspace == "PCA" else np.full(3, np.nan),
        extent=extent,
        segment=np.cumsum(pruned > 0, dtype=np.int32),
        pruned=pruned,
    )


def _sprinkle(values: NDArray[Any]) -> None:
    flat = values.reshape(-1)
    count = min(len(SPECIAL_VALUES), flat.size)
    with np.errstate(under="ignore"):
        flat[:count] = np.array(SPECIAL_VALUES[:count], values.dtype)


def _histogram(flat: NDArray[Any], *, bins: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Histogram of each row without its zeros, the rows' ranges, the shares of zeros."""
    rows = flat.shape[0]
    histogram = np.zeros((rows, bins), np.float32)
    ranges = np.zeros((rows, 2), np.float32)
    zero_mass = np.zeros(rows, np.float32)
    for row, values in enumerate(flat if flat.size else ()):
        ranges[row] = values.min(), values.max()
        zero_mass[row] = np.mean(values == 0)
        low, high = ranges[row]
        if low < high:
            counts = np.histogram(values[values != 0], bins=bins, range=(low, high))[0]
            histogram[row] = counts / values.size
    return histogram, ranges, zero_mass


def _pearson(flat: NDArray[Any]) -> NDArray[Any]:
    if flat.size == 0:
        return np.full((len(flat), len(flat)), np.nan, np.float32)
    centred = flat.astype(np.float64) - flat.mean(axis=1, keepdims=True, dtype=np.float64)
    norm = np.sqrt(np.square(centred).sum(axis=1))
    norm[norm == 0] = np.nan
    pcc = centred @ centred.T / np.outer(norm, norm)
    return np.clip(pcc, -1, 1).astype(np.float32)
