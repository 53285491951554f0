"""Everything captured at one step: numpy arrays in host memory, and nothing of torch or VTK.

Axis letters: ``F`` filters shown, ``I`` input channels of a filter, ``h w`` kernel, ``C`` channels
shown, ``B`` histogram bins, ``S`` map kinds, ``H W`` map, ``T`` captures kept, ``R`` table rows.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.errors import SnapshotError, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA_VERSION = 2
MAX_SNAPSHOT_BYTES = 64 * 2**20

GROUP_NONE = -1
"""``group`` of a filter whose maps resemble no other's."""
GROUP_DEAD = -2
"""``group`` of a filter whose activation is constant over the whole probe."""

VIEWS = ("weights", "trajectory", "distribution", "maps", "correlation", "scalars")


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """One layer's weights, filters first whatever the module's own axis order.

    Attributes:
        values: shape ``(F, I, h, w)``, float32 or float64. Kernels of other ranks are folded to
            two dimensions: Linear ``1 x 1``, Conv1d ``1 x w``, Conv3d ``(d*h) x w``.
        filters: shape ``(F,)``, int32: the true filter index of each row.
        in_channels: shape ``(I,)``, int32: the true index of each column within the filter's own
            convolution group.
        conv_groups: groups of the convolution, 1 for most. The input channel read by filter ``f``
            in column ``i`` is ``f // (out / conv_groups) * in_per_group + in_channels[i]``.
        in_per_group: input channels that each filter reads, before any reduction.
        out: number of filters of the layer, before any reduction.
        reduced: "" for all weights; else how they were reduced, for example ``"kernel norms"``.
        range: symmetric display range, positive and finite, steady over the run.
    """

    values: NDArray[Any]
    filters: NDArray[Any]
    in_channels: NDArray[Any]
    conv_groups: int
    in_per_group: int
    out: int
    reduced: str
    range: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Activations:
    """What the next layer reads of one layer, over the probe.

    Attributes:
        channels: shape ``(C,)``, int32: the true channel index of each entry below.
        out: number of channels of the layer, before any reduction.
        groups: shape ``(C,)``, int32: group number from 0, `GROUP_NONE` or `GROUP_DEAD`.
        pcc: shape ``(C, C)``, float32: Pearson correlation in [-1, 1], NaN for dead channels.
        histogram: shape ``(C, B)``, float32: share of the channel's finite values in each of B
            equal bins over its ``histogram_range``, zeros left out. With ``zero_mass`` sums to 1,
            to 0 where no value is finite.
        histogram_range: shape ``(C, 2)``, float32: smallest and largest finite value, 0 included
            only where it occurs. Equal ends for a constant channel.
        zero_mass: shape ``(C,)``, float32: share of values that are exactly zero.
        maps: shape ``(S, C, H, W)``, float32: first the mean over the probe, then one map a sample
            in ``map_samples``. Other ranks are folded: Linear ``1 x 1`` (extra axes ``1 x n``),
            Conv1d ``1 x W``, Conv3d ``(D*H) x W``. Non-finite values stay.
        map_samples: probe indices of ``maps[1:]``.
        map_stride: side of the square of positions that was averaged into one pixel; 1 for none.
        map_range: display range ``(low, high)``, finite, ``low < high``, steady over the run.
        sample_count: samples in the probe.
    """

    channels: NDArray[Any]
    out: int
    groups: NDArray[Any]
    pcc: NDArray[Any]
    histogram: NDArray[Any]
    histogram_range: NDArray[Any]
    zero_mass: NDArray[Any]
    maps: NDArray[Any]
    map_samples: tuple[int, ...]
    map_stride: int
    map_range: tuple[float, float]
    sample_count: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """The path of one layer's weights through one three-dimensional subspace.

    Attributes:
        subspace: ``"PCA"``, or the chosen weights: ``"w[0, 0, 1, 1] w[...] w[...]"``.
        points: shape ``(T, 3)``, float64, at ``Snapshot.trajectory_steps``. NaN where the weights
            were not finite.
        explained_variance: shape ``(3,)``, float64: share of the variance along each axis, sorted
            for PCA; NaN while fewer than two points differ, and for chosen weights.
        extent: shape ``(3, 2)``, float64: low and high end of each axis for display, finite,
            low < high, growing in coarse steps only.
        segment: shape ``(T,)``, int32: how many times filters or inputs had been removed; a path
            jumps where it grows.
        pruned: shape ``(T,)``, int32: filters removed since the point before.
    """

    subspace: str
    points: NDArray[Any]
    explained_variance: NDArray[Any]
    extent: NDArray[Any]
    segment: NDArray[Any]
    pruned: NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One watched layer at one step.

    Attributes:
        name: dotted path, as in ``model.named_modules()``.
        kind: class name of the module, for example ``"Conv2d"``.
        weight_shape: the weight's shape in PyTorch's own order, as it is at this step.
        original_filters: shape ``(out,)``, int32: the index that each filter had when watching
            began; more than its own where filters before it were removed.
        weights: None when the view was not asked for.
        activations: None without a probe, or when no view that shows them was asked for.
        trajectories: empty when the view was not asked for.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    original_filters: NDArray[Any]
    weights: Weights | None
    activations: Activations | None
    trajectories: tuple[Trajectory, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """Everything captured at one step. It owns its numbers: nothing later changes them.

    Attributes:
        step: optimizer steps done when it was taken.
        capture: number of the capture within the run, from 0, always growing.
        name: the run's name as shown in clients.
        layers: in the model's own order.
        views: which views are made of it, names from `VIEWS`.
        form: ``"auto"`` (large layers as atlas), ``"cells"`` or ``"atlas"``.
        trajectory_steps: shape ``(T,)``, int64: steps of every `Trajectory`'s points.
        trajectory_losses: shape ``(T,)``, float64, NaN where no loss was logged.
        scalars: column name -> shape ``(R,)``, float64. ``"step"`` is always there and the last
            row is this capture. Layer columns are ``"<layer>/<quantity>"``. Missing values are NaN.
        focus: name of the layer that clients show alone, "" for all.
    """

    step: int
    capture: int
    name: str
    layers: tuple[Layer, ...]
    views: tuple[str, ...]
    form: str
    trajectory_steps: NDArray[Any]
    trajectory_losses: NDArray[Any]
    scalars: dict[str, NDArray[Any]] = field(default_factory=dict)
    focus: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in to_table(self)[1])


def to_table(snapshot: Snapshot) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Split a snapshot into a JSON-ready description and the arrays it points into."""
    arrays: list[NDArray[Any]] = []
    description = _describe(snapshot, arrays)
    return {"schema": SCHEMA_VERSION, "snapshot": description}, arrays


# Neither this nor `_restore` is a function within another: one that calls itself is a circle, and
# would hold a snapshot's arrays until a full collection.
def _describe(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Return *value* ready for JSON; its arrays are added to *arrays*."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if dataclasses.is_dataclass(value):
        return {
            each.name: _describe(getattr(value, each.name), arrays)
            for each in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [_describe(item, arrays) for item in value]
    if isinstance(value, dict):
        return {key: _describe(item, arrays) for key, item in value.items()}
    return value


def from_table(table: Any, arrays: list[NDArray[Any]]) -> Snapshot:
    """Rebuild a snapshot from `to_table`'s two parts.

    Raises:
        SnapshotError: another schema version, or a description that does not fit.
    """
    found = table.get("schema") if isinstance(table, dict) else None
    if found != SCHEMA_VERSION:
        shown = found if type(found) is int else "unknown"
        raise SnapshotError(
            f"Cannot read a snapshot of schema version {shown}: expected {SCHEMA_VERSION}. "
            f"Use the same tensorview on both sides."
        )

    def build(kind: type, value: Any) -> Any:
        return None if value is None else kind(**value)

    try:
        fields = _restore(table["snapshot"], arrays)
        layers = tuple(
            Layer(
                **{
                    **layer,
                    "weights": build(Weights, layer["weights"]),
                    "activations": build(Activations, layer["activations"]),
                    "trajectories": tuple(Trajectory(**t) for t in layer["trajectories"]),
                }
            )
            for layer in fields["layers"]
        )
        return Snapshot(**{**fields, "layers": layers})
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SnapshotError(
            f"Cannot read a snapshot: damaged description ({printable(error)})."
        ) from None


def _restore(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Undo `_describe`."""
    if isinstance(value, dict):
        if set(value) == {"array"}:
            return arrays[value["array"]]
        return {key: _restore(item, arrays) for key, item in value.items()}
    return tuple(_restore(item, arrays) for item in value) if isinstance(value, list) else value
