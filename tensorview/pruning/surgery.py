"""Taking filters out of a model and its optimizers, in place."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tensorview.capture.layers import TRANSPOSED
from tensorview.errors import PruningError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch.optim import Optimizer

    from tensorview.pruning.structure import Cut, Structure

# Parameters and buffers that have that axis, by role.
_OWN = {
    "writes": ("weight", "bias"),
    "normalises": ("weight", "bias", "running_mean", "running_var"),
    "reads": ("weight",),
}
# Attributes that say how long an axis is, by role.
_SIZES = {
    "writes": ("out_channels", "out_features"),
    "normalises": ("num_features",),
    "reads": ("in_channels", "in_features"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A parameter or buffer that shrinks, and by axis the indices that remain."""

    tensor: Tensor
    kept: dict[int, NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Change:
    """An assignment that can be taken back."""

    assign: Callable[[Any], object]
    old: Any
    new: Any


def remove(
    model: nn.Module,
    structure: Structure,
    filters: Sequence[int],
    *,
    optimizers: Sequence[Optimizer],
) -> Callable[[], None]:
    """Take filters out of *model*: its parameters shrink, and stay the objects that they are.

    So hooks, param groups and whatever else refers to a parameter stay valid. Gradients, statistics
    of BatchNorm and every tensor in the optimizers' state that has its parameter's shape lose the
    same entries; what stays is bit for bit as before. To be called where no backward pass is
    pending: after ``backward()`` or after ``step()``.

    Args:
        model: the one, unwrapped, that *structure* was found in.
        structure: what shrinks with the layer, found since the last removal.
        filters: which filters go, in any order; at least one stays.
        optimizers: all that update the model. Their state may be empty.

    Returns:
        What takes all of it back.

    Raises:
        PruningError: these filters cannot go, the model has changed since *structure* was found,
            or an optimizer's state cannot follow. Nothing was changed.
    """
    removed = checked_filters(structure, filters)
    try:
        # Tensors made in inference mode could not be trained.
        with torch.inference_mode(mode=False), torch.no_grad():
            parts = _parts(model, structure, removed)
            changes = [change for part in parts.values() for change in _shrunk(part)]
            changes += _sizes(model, structure, removed)
            for optimizer in optimizers:
                changes += [
                    _Change(
                        assign=partial(state.__setitem__, key),
                        old=state[key],
                        new=_selected(state[key], part.kept),
                    )
                    for state, key, part in _entries(optimizer, parts, structure)
                ]
            _make(changes)
            return partial(_take_back, changes)
    except PruningError:
        raise
    except Exception as error:  # out of memory, an attribute that cannot be set
        raise PruningError(f"Cannot prune layer {structure.layer!r}: {sentence(error)}.") from error


def check(
    model: nn.Module,
    structure: Structure,
    filters: Sequence[int],
    *,
    optimizers: Sequence[Optimizer],
) -> None:
    """Raise a PruningError where `remove` would, and change nothing."""
    parts = _parts(model, structure, checked_filters(structure, filters))
    for optimizer in optimizers:
        _entries(optimizer, parts, structure)


def kept(
    structure: Structure, filters: Sequence[int]
) -> dict[str, tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]]:
    """Say which outputs and inputs of each module remain once *filters* have gone.

    Returns:
        By module name, indices of the outputs and of the inputs that remain, ascending; None for
        an axis that does not change. BatchNorm's channels count as outputs.

    Raises:
        PruningError: `remove` would refuse *filters*.
    """
    removed = checked_filters(structure, filters)
    remaining: dict[str, tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]] = {}
    for cut in structure.cuts:
        outputs, inputs = remaining.get(cut.module, (None, None))
        if cut.role == "reads":
            inputs = _remaining(cut, removed)
        else:
            outputs = _remaining(cut, removed)
        remaining[cut.module] = outputs, inputs
    return remaining


def checked_filters(structure: Structure, filters: Sequence[int]) -> NDArray[np.int64]:
    """Return *filters* in ascending order.

    Raises:
        PruningError: there are none, or all; one is no whole number, out of range or named twice.
    """
    start, count = f"Cannot prune layer {structure.layer!r}:", structure.filters
    given = np.asarray(filters)
    if given.ndim != 1 or given.size == 0 or not np.issubdtype(given.dtype, np.integer):
        raise PruningError(f"{start} filters={filters!r} is not a list of filter numbers.")
    ascending = np.sort(given).astype(np.int64)
    for wrong in (ascending[0], ascending[-1]):
        if not 0 <= wrong < count:
            raise PruningError(f"{start} it has filters 0 to {count - 1}, and no filter {wrong}.")
    twice = ascending[:-1][ascending[1:] == ascending[:-1]]
    if twice.size:
        raise PruningError(f"{start} filter {twice[0]} is named twice.")
    if ascending.size == count:
        raise PruningError(f"{start} at least one of its {count} filters must stay.")
    return ascending


def sentence(error: BaseException) -> str:
    """Return what *error* says in one line, without its full stop."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def axis_of(module: nn.Module, role: str) -> int:
    """Axis of a module's weight that *role* is about."""
    if role == "normalises":
        return 0
    return int((role == "reads") != isinstance(module, TRANSPOSED))


def _remaining(cut: Cut, removed: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.setdiff1d(np.arange(cut.length), cut.entries[removed])


def _parts(
    model: nn.Module, structure: Structure, removed: NDArray[np.int64]
) -> dict[Tensor, _Part]:
    """Parameters and buffers that hold numbers of the filters, checked to be as they were."""
    parts: dict[Tensor, _Part] = {}
    for cut in structure.cuts:
        try:
            module = model.get_submodule(cut.module)
        except AttributeError:
            raise _outdated(structure, f"the model has no module {cut.module!r} any more") from None
        tensors = module._parameters | module._buffers  # noqa: SLF001  # not what is computed
        if cut.role != "normalises" and tensors.get("weight") is None:
            raise _outdated(structure, f"{cut.module!r} has no weight of its own any more")
        for own in _OWN[cut.role]:
            tensor = tensors.get(own)
            if tensor is None:
                continue
            name, axis = f"{cut.module}.{own}", 0 if tensor.ndim == 1 else axis_of(module, cut.role)
            if tensor.shape[axis] != cut.length:
                raise _outdated(
                    structure,
                    f"axis {axis} of {name!r} was {cut.length} long and is {tensor.shape[axis]}",
                )
            part = parts.setdefault(tensor, _Part(tensor=tensor, kept={}))
            part.kept[axis] = _remaining(cut, removed)
    return parts


def _outdated(structure: Structure, change: str) -> PruningError:
    return PruningError(
        f"Cannot prune layer {structure.layer!r}: {change}; find its structure anew."
    )


def _shrunk(part: _Part) -> list[_Change]:
    tensor = part.tensor
    data = _Change(
        assign=lambda new: _assign_data(tensor, new),
        old=tensor.data,
        new=_selected(tensor.data, part.kept),
    )
    gradient = tensor.grad
    if gradient is None:
        return [data]

    def assign(value: Tensor | None) -> None:
        tensor.grad = value

    # A gradient must have its parameter's shape: it goes before and comes back after.
    return [
        _Change(assign=assign, old=gradient, new=None),
        data,
        _Change(assign=assign, old=None, new=_selected(gradient, part.kept)),
    ]


def _assign_data(tensor: Tensor, data: Tensor) -> None:
    if isinstance(tensor, nn.Parameter):
        # A loss that is still referred to keeps alive what collects the parameter's gradient, and
        # that expects the old shape. PyTorch makes it anew only where the dtype changes.
        other = torch.float16 if data.dtype == torch.float32 else torch.float32
        tensor.data = torch.empty(0, dtype=other, device=data.device)
    tensor.data = data


def _entries(
    optimizer: Optimizer, parts: Mapping[Tensor, _Part], structure: Structure
) -> list[tuple[dict[str, Any], str, _Part]]:
    """What of an optimizer's state shrinks: the state of a parameter, the key, the parameter.

    State of other parameters is looked at too: one vector may be for all, as in L-BFGS.
    """
    updated = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    if updated.isdisjoint(parts):
        return []
    found = []
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if _is_plain(value) and value.shape == parameter.shape:
                if parameter in parts:
                    found.append((state, key, parts[parameter]))
            elif not _is_scalar(value):
                raise PruningError(
                    f"Cannot prune layer {structure.layer!r} while {type(optimizer).__name__} "
                    f"updates it: its state {key!r} has not the shape of its parameter, so which "
                    f"entries belong to a filter is not known."
                )
    return found


def _is_plain(value: Any) -> bool:
    return type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided


def _is_scalar(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() <= 1
    return value is None or isinstance(value, (bool, int, float, str))


def _sizes(model: nn.Module, structure: Structure, removed: NDArray[np.int64]) -> Iterator[_Change]:
    for cut in structure.cuts:
        module = model.get_submodule(cut.module)
        for attribute in _SIZES[cut.role]:
            if hasattr(module, attribute):
                yield _Change(
                    assign=partial(setattr, module, attribute),
                    old=getattr(module, attribute),
                    new=len(_remaining(cut, removed)),
                )


def _make(changes: Iterable[_Change]) -> None:
    """Make all changes, or none."""
    tried = []
    try:
        for change in changes:
            tried.append(change)
            change.assign(change.new)
    except BaseException:
        _take_back(tried)
        raise


def _take_back(changes: Sequence[_Change]) -> None:
    for change in reversed(changes):
        with contextlib.suppress(Exception):  # the one that failed may fail again
            change.assign(change.old)


def _selected(tensor: Tensor, kept: Mapping[int, NDArray[np.int64]]) -> Tensor:
    """Copy what is kept along some axes, in the tensor's own order in memory."""
    order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    selected = tensor.permute(order)
    for axis, indices in kept.items():
        index = torch.from_numpy(indices).to(tensor.device)
        selected = selected.index_select(order.index(axis), index)
    return selected.permute([order.index(axis) for axis in range(tensor.ndim)])
