"""Taking filters out of a model and its optimizers, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tensorview.capture.layers import TRANSPOSED
from tensorview.errors import PruningError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch.optim import Optimizer

    from tensorview.pruning.structure import Cut, Structure

# Attributes that say how long an axis is, by role.
_SIZES = {
    "writes": ("out_channels", "out_features"),
    "normalises": ("num_features",),
    "reads": ("in_channels", "in_features"),
}


def remove(
    model: nn.Module,
    structure: Structure,
    filters: Sequence[int],
    *,
    optimizers: Sequence[Optimizer],
) -> None:
    """Take filters out of *model*: the parameters shrink, and stay the objects that they are.

    So hooks, param groups and whatever else refers to a parameter stay valid. Gradients, statistics
    of BatchNorm and every tensor of the optimizers' state that has its parameter's shape lose the
    same entries; what is left is bit for bit as before. To be called between an optimizer's
    ``step()`` and the next forward pass, or between ``backward()`` and ``step()``.

    Args:
        model: the one, unwrapped, that *structure* was found in, not pruned since.
        structure: what shrinks with the layer.
        filters: which filters go, in any order; at least one of the layer's stays.
        optimizers: all that update the model; their state may be empty.

    Raises:
        PruningError: they cannot go, or an optimizer's state cannot follow. Nothing was changed.
    """
    _prepare(model, structure, filters, optimizers=optimizers).make()


def check(
    model: nn.Module,
    structure: Structure,
    filters: Sequence[int],
    *,
    optimizers: Sequence[Optimizer],
) -> None:
    """Raise a PruningError where `remove` would, and change nothing."""
    _prepare(model, structure, filters, optimizers=optimizers)


def _prepare(
    model: nn.Module,
    structure: Structure,
    filters: Sequence[int],
    *,
    optimizers: Sequence[Optimizer],
) -> _Changes:
    removed = checked_filters(structure, filters)
    changes = _Changes()
    try:
        for module, cuts in _modules(model, structure):
            _shrink(changes, module, cuts, removed, structure, optimizers)
    except RuntimeError as error:  # out of memory
        raise PruningError(
            f"Cannot prune layer {structure.layer!r}: {' '.join(str(error).split()).rstrip('.')}."
        ) from error
    return changes


def kept(
    structure: Structure, filters: Sequence[int]
) -> dict[str, tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]]:
    """Say which outputs and inputs of each module remain once *filters* have gone.

    Returns:
        By module name: indices of the outputs and of the inputs that remain, ascending; None for
        an axis that does not change. BatchNorm counts as outputs.

    Raises:
        PruningError: as `remove` raises it for *filters*.
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
    """Return *filters* ascending.

    Raises:
        PruningError: none, not whole numbers, out of range, named twice, or all that there are.
    """
    start, count = f"Cannot prune layer {structure.layer!r}:", structure.filters
    given = np.asarray(filters)
    if given.ndim != 1 or given.size == 0 or not np.issubdtype(given.dtype, np.integer):
        raise PruningError(f"{start} filters={filters!r} are no filter numbers.")
    ascending = np.sort(given).astype(np.int64)
    if ascending[0] < 0 or ascending[-1] >= count:
        wrong = ascending[0] if ascending[0] < 0 else ascending[-1]
        raise PruningError(f"{start} it has no filter {wrong}, only 0 to {count - 1}.")
    twice = ascending[:-1][ascending[1:] == ascending[:-1]]
    if twice.size:
        raise PruningError(f"{start} filter {twice[0]} is named twice.")
    if ascending.size == count:
        raise PruningError(f"{start} of its {count} filters at least one must stay.")
    return ascending


def axis_of(module: nn.Module, role: str) -> int:
    """Axis of a module's weight that *role* is about."""
    if role == "normalises":
        return 0
    return int((role == "reads") != isinstance(module, TRANSPOSED))


def _remaining(cut: Cut, removed: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.setdiff1d(np.arange(cut.length), cut.entries[removed])


def _modules(model: nn.Module, structure: Structure) -> Iterator[tuple[nn.Module, list[Cut]]]:
    for name in dict.fromkeys(cut.module for cut in structure.cuts):
        yield model.get_submodule(name), [cut for cut in structure.cuts if cut.module == name]


class _Changes:
    """Assignments that are made together or not at all."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[[Any], None], Any, Any]] = []

    def add(self, assign: Callable[[Any], None], *, old: Any, new: Any) -> None:
        self._steps.append((assign, old, new))

    def make(self) -> None:
        done: list[tuple[Callable[[Any], None], Any]] = []
        try:
            for assign, old, new in self._steps:
                done.append((assign, old))
                assign(new)
        except BaseException:
            for assign, old in reversed(done):
                assign(old)
            raise


def _shrink(
    changes: _Changes,
    module: nn.Module,
    cuts: list[Cut],
    removed: NDArray[np.int64],
    structure: Structure,
    optimizers: Sequence[Optimizer],
) -> None:
    named = {**dict(module.named_parameters(recurse=False))}
    named.update(module.named_buffers(recurse=False))
    for name, tensor in named.items():
        select = _selection(module, name, tensor, cuts, removed)
        if not select:
            continue
        _check_lengths(module, name, tensor, cuts, structure)
        if isinstance(tensor, nn.Parameter):
            _follow_state(changes, tensor, select, f"{cuts[0].module}.{name}", optimizers)
            _follow_parameter(changes, tensor, select)
        else:
            _replace_data(changes, tensor, _selected(tensor, select))
    for cut in cuts:
        for attribute in _SIZES[cut.role]:
            if hasattr(module, attribute):
                changes.add(
                    lambda value, attribute=attribute: setattr(module, attribute, value),
                    old=getattr(module, attribute),
                    new=cut.length - cut.entries[removed].size,
                )


def _selection(
    module: nn.Module, name: str, tensor: Tensor, cuts: list[Cut], removed: NDArray[np.int64]
) -> dict[int, NDArray[np.int64]]:
    """Indices to keep along each axis of one tensor of a module that shrinks."""
    if tensor.ndim == 0:  # BatchNorm's count of batches
        return {}
    if name == "weight":
        return {axis_of(module, cut.role): _remaining(cut, removed) for cut in cuts}
    return {0: _remaining(cut, removed) for cut in cuts if cut.role != "reads"}


def _check_lengths(
    module: nn.Module, name: str, tensor: Tensor, cuts: list[Cut], structure: Structure
) -> None:
    for cut in cuts:
        if name == "weight" or cut.role != "reads":
            axis = axis_of(module, cut.role) if name == "weight" else 0
            if tensor.shape[axis] != cut.length:
                raise PruningError(
                    f"Cannot prune layer {structure.layer!r}: axis {axis} of "
                    f"'{cut.module}.{name}' is {tensor.shape[axis]} long and was {cut.length} when "
                    f"its structure was found: find it anew."
                )


def _follow_state(
    changes: _Changes,
    parameter: nn.Parameter,
    select: dict[int, NDArray[np.int64]],
    name: str,
    optimizers: Sequence[Optimizer],
) -> None:
    for optimizer in optimizers:
        if parameter not in optimizer.state:
            continue
        state = optimizer.state[parameter]
        for key, value in state.items():
            if not isinstance(value, Tensor):
                continue
            if value.shape == parameter.shape:
                changes.add(
                    lambda new, state=state, key=key: state.__setitem__(key, new),
                    old=value,
                    new=_selected(value, select),
                )
            elif value.numel() > 1:
                raise PruningError(
                    f"Cannot prune with {type(optimizer).__name__}: its state {key!r} for "
                    f"{name!r} has the shape {tuple(value.shape)}, not the parameter's "
                    f"{tuple(parameter.shape)}."
                )


def _follow_parameter(
    changes: _Changes, parameter: nn.Parameter, select: dict[int, NDArray[np.int64]]
) -> None:
    gradient = parameter.grad
    new_gradient = None if gradient is None else _selected(gradient, select)
    # A gradient must have its parameter's shape, so it goes first and comes last.
    changes.add(
        lambda value: setattr(parameter, "grad", value),
        old=gradient,
        new=None,
    )
    _replace_data(changes, parameter, _selected(parameter, select))
    changes.add(
        lambda value: setattr(parameter, "grad", value),
        old=None,
        new=new_gradient,
    )


def _replace_data(changes: _Changes, tensor: Tensor, new: Tensor) -> None:
    def assign(value: Tensor) -> None:
        # While a loss of former steps is alive, so are the nodes that collect its parameters'
        # gradients, and they expect the old shape; a change of dtype makes PyTorch forget them.
        other = torch.float32 if value.dtype == torch.float64 else torch.float64
        tensor.data = torch.empty(0, dtype=other, device=value.device)
        tensor.data = value

    changes.add(assign, old=tensor.data, new=new)


def _selected(tensor: Tensor, select: dict[int, NDArray[np.int64]]) -> Tensor:
    """Keep the given entries along the given axes, in the tensor's own order in memory."""
    order = sorted(range(tensor.ndim), key=lambda axis: -tensor.stride(axis))
    data = tensor.detach().permute(order)
    for axis, indices in select.items():
        index = torch.from_numpy(indices).to(tensor.device)
        data = data.index_select(order.index(axis), index)
    return data.permute([order.index(axis) for axis in range(tensor.ndim)])
