"""Putting back what a forward pass changes in a model: attributes, what they hold, buffers."""

from __future__ import annotations

import contextlib
import math
import operator
import random
from collections import OrderedDict, defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

# Tensors beyond this, largest first, are not copied, nor put back if the model writes into them.
_MAX_TENSOR_BYTES = 256 * 2**20
# Likewise containers, once those before hold as many items together.
_MAX_ITEMS = 2**18

_RECORDED = (
    *(Tensor, torch.Generator, random.Random, np.random.RandomState, np.random.Generator),
    *(list, deque, dict, set, tuple),
)
# Most attributes are, and are told fastest by their exact type.
_PLAIN = {type(None), bool, int, float, str}
_REGISTRIES = ("_parameters", "_buffers", "_modules")


@contextlib.contextmanager
def state_restored(model: nn.Module) -> Iterator[list[str]]:
    """Undo, at the end of the block, what it changes in the state of *model*'s modules.

    Of every module, attributes are rebound, removed where new, and set where deleted; so are its
    parameters, buffers, submodules and hooks. Lists, deques, dicts and sets among the attributes,
    nested ones too, get their items back in place, tensors their values, and random generators
    their state; modules in such containers are treated alike. The inside of other objects is not
    looked into, and values of parameters are not copied.

    Yields:
        Names of what was changed and, being too large to be copied, was not put back; complete
        once the block has ended.
    """
    record = _Record()
    record.add_modules("", model)
    record.copy_tensors()
    lost: list[str] = []
    try:
        yield lost
    finally:
        with torch.no_grad():
            lost += record.restore()


class _Record:
    """State of some modules, and how to restore it."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
        self._unknown: list[tuple[str, Callable[[], bool]]] = []
        self._tensors: list[tuple[str, Tensor]] = []
        # Holds what was met, so that no id is used anew.
        self._met: dict[int, Any] = {}
        self._room = _MAX_ITEMS

    def add_modules(self, name: str, root: nn.Module) -> None:
        """Record *root*, which goes by *name*, and all modules in it."""
        for path, module in root.named_modules(prefix=name):
            if id(module) not in self._met:
                self._met[id(module)] = module
                self._add_module(f"{path}." if path else "", module)

    def copy_tensors(self) -> None:
        """Copy the values of all tensors met, the smallest first, as far as there is room."""
        room: float = _MAX_TENSOR_BYTES
        for name, tensor in sorted(self._tensors, key=lambda entry: _nbytes(entry[1])):
            room -= _nbytes(tensor)
            if room < 0:
                self._unknown.append((name, _write_detector(tensor)))
            else:
                self._undo.append(_writer(tensor))

    def restore(self) -> list[str]:
        """Put everything back; return names of what was changed and could not be."""
        lost = [name for name, changed in self._unknown if changed()]
        for undo in self._undo:
            undo()
        return lost

    def _add_module(self, prefix: str, module: nn.Module) -> None:
        own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if isinstance(module, LazyModuleMixin) and any(map(is_lazy, own)):
            return  # its first call makes it another class, for good
        attributes = vars(module)
        saved = dict(attributes)
        self._undo.append(lambda: _rebind(attributes, saved))
        for key, value in saved.items():
            if key in _REGISTRIES:
                registered = dict(value.items())  # those of scripted modules are no dicts
                refill = _refill if isinstance(value, dict) else _rebind
                self._undo.append(partial(refill, value, registered))
            else:
                self._add(prefix + key, value)
        for key, buffer in module.named_buffers(recurse=False):
            self._add(prefix + key, buffer)

    def _add(self, name: str, value: Any) -> None:
        if type(value) in _PLAIN:
            return
        if isinstance(value, nn.Module):
            self.add_modules(name, value)
            return
        if not isinstance(value, _RECORDED) or id(value) in self._met:
            return
        self._met[id(value)] = value
        if isinstance(value, Tensor):
            if not isinstance(value, nn.Parameter) and not is_lazy(value):
                self._tensors.append((name, value))
        elif type(value) in _CONTAINERS:
            self._add_container(name, value)
        else:
            self._add_generator(value)

    def _add_generator(self, value: Any) -> None:
        if isinstance(value, torch.Generator):
            self._undo.append(partial(value.set_state, value.get_state()))
        elif type(value) is random.Random:
            self._undo.append(partial(value.setstate, value.getstate()))
        elif isinstance(value, np.random.RandomState):
            self._undo.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, np.random.Generator):
            bits = value.bit_generator
            self._undo.append(partial(setattr, bits, "state", bits.state))

    def _add_container(self, name: str, container: Any) -> None:
        size = len(container)
        if size > self._room:
            self._unknown.append((name, lambda: len(container) != size))
            return
        self._room -= size
        refill = _CONTAINERS[type(container)]
        if refill is not None:
            self._undo.append(partial(refill, container, container.copy()))
        for item in container.values() if isinstance(container, dict) else container:
            self._add(name, item)


def _is_copied(tensor: Tensor) -> bool:
    """Whether values can be copied from and to this kind of tensor."""
    plain = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized)
    expanded = 0 in tensor.stride() if plain else False
    return plain and not expanded and not hasattr(tensor, "__tensor_flatten__")


def _nbytes(tensor: Tensor) -> float:
    return tensor.nbytes if _is_copied(tensor) else math.inf


def _write_detector(tensor: Tensor) -> Callable[[], bool]:
    if tensor.is_inference():
        return lambda: False
    version = tensor._version  # noqa: SLF001
    return lambda: tensor._version != version  # noqa: SLF001


def _writer(tensor: Tensor) -> Callable[[], None]:
    copied = tensor.detach().clone()

    def write() -> None:
        # Versions do not tell: batch_norm writes its running statistics without a new one. Other
        # devices are not asked, for that would wait for them. On the CPU memory may be read-only.
        if tensor.is_cpu and torch.equal(_bits(tensor), _bits(copied)):
            return
        with torch.inference_mode() if tensor.is_inference() else contextlib.nullcontext():
            # Through `data`, a tensor saved for a backward pass is not taken for changed.
            tensor.data.copy_(copied)

    return write


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().resolve_conj().resolve_neg().reshape(-1).view(torch.uint8)


def _rebind(names: Any, saved: dict[str, Any]) -> None:
    """Restore the names that changed, and leave the others as they are."""
    now = dict(names.items())
    for name in now.keys() - saved.keys():
        del names[name]
    for name, value in saved.items():
        if name not in now or now[name] is not value:
            names[name] = value


def _refill(container: Any, saved: Any) -> None:
    """Restore a dict, with its order."""
    if not _same(container, saved) or not _same(container.values(), saved.values()):
        container.clear()
        container.update(saved)


def _same(first: Collection[Any], second: Collection[Any]) -> bool:
    """Whether both hold the same objects in the same order."""
    return len(first) == len(second) and all(map(operator.is_, first, second))


def _refill_sequence(container: Any, saved: Any) -> None:
    if not _same(container, saved):
        container.clear()
        container.extend(saved)


def _refill_set(container: set[Any], saved: set[Any]) -> None:
    if container != saved:
        container.clear()
        container.update(saved)


# Exact types: what a subclass does when filled is unknown.
_CONTAINERS: dict[type, Callable[[Any, Any], None] | None] = {
    list: _refill_sequence,
    deque: _refill_sequence,
    dict: _refill,
    OrderedDict: _refill,
    defaultdict: _refill,
    set: _refill_set,
    tuple: None,
}
