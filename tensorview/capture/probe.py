"""The probe: a fixed batch, and running it without leaving a trace in the training."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tensorview.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DEFAULT_SAMPLES = 64

_SEED = 20180613
# Buffers beyond this, largest first, are not put back if the model changes them in evaluation mode.
_MAX_BUFFER_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Arguments of one call of the model.

    Attributes:
        args: positional arguments. Tensors whose first axis is `size` long hold samples.
        kwargs: keyword arguments, likewise.
        size: number of samples.
        device: of the model's first parameter when the probe was taken.
        autocast: dtype of the autocast under which it was taken, None for none. The probe
            runs under the same, so that it meets the arithmetic of the training.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    size: int
    device: torch.device
    autocast: torch.dtype | None


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def take_probe(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    samples: int | None = DEFAULT_SAMPLES,
) -> Probe:
    """Copy the first *samples* of a call's arguments.

    Args:
        model: unwrapped; its device is noted.
        args: of the call. Tensors anywhere in tuples, lists and dicts are cloned, and cut where
            their first axis is as long as that of the first tensor; all else is passed through.
        kwargs: of the call, likewise.
        samples: None for all.

    Raises:
        CaptureError: no tensor with at least one sample among the arguments.
    """
    tensors = [tensor for tensor in _tensors((args, dict(kwargs))) if tensor.ndim > 0]
    if not tensors or len(tensors[0]) == 0:
        raise CaptureError(
            "The probe holds no tensor with samples: pass probe= a tensor, a tuple of arguments or "
            "a dict of keyword arguments."
        )
    batch = len(tensors[0])
    size = batch if samples is None else min(batch, samples)

    def keep(tensor: Tensor) -> Tensor:
        cut = tensor.ndim > 0 and len(tensor) == batch
        return (tensor[:size] if cut else tensor).detach().clone()

    device = device_of(model)
    return Probe(
        args=_map_tensors(args, keep),
        kwargs=_map_tensors(dict(kwargs), keep),
        size=size,
        device=device,
        autocast=(
            torch.get_autocast_dtype(device.type)
            if torch.is_autocast_enabled(device.type)
            else None
        ),
    )


def given_probe(model: nn.Module, probe: Any) -> Probe:
    """Make a probe of what the user gave: a tensor, a tuple of arguments or a dict of keywords.

    It is used whole, on the model's device.

    Raises:
        CaptureError: none of these.
    """
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(probe, Tensor):
        args = (probe,)
    elif isinstance(probe, (tuple, list)):
        args = tuple(probe)
    elif isinstance(probe, dict):
        kwargs = probe
    else:
        raise CaptureError(
            f"probe= is a {type(probe).__name__}: expected a tensor, a tuple of arguments or a "
            f"dict of keyword arguments."
        )
    return on_device(take_probe(model, args, kwargs, samples=None), device_of(model), force=True)


def on_device(probe: Probe, device: torch.device, *, force: bool = False) -> Probe:
    """Follow a model that has moved to another device since the probe was taken."""
    if device == probe.device and not force:
        return probe

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device)

    return Probe(
        args=_map_tensors(probe.args, move),
        kwargs=_map_tensors(probe.kwargs, move),
        size=probe.size,
        device=device,
        autocast=probe.autocast,
    )


def run_probe(model: nn.Module, probe: Probe, *, start: int = 0, stop: int | None = None) -> None:
    """Call the model with samples *start* to *stop*; inside `probing`.

    Tensors are cloned, since a model may write into its input.

    Raises:
        CaptureError: the model cannot take the probe. Running out of memory raises as it does.
    """

    def cut(tensor: Tensor) -> Tensor:
        whole = tensor.ndim == 0 or len(tensor) != probe.size
        return (tensor if whole else tensor[start:stop]).clone()

    args, kwargs = _map_tensors(probe.args, cut), _map_tensors(probe.kwargs, cut)
    try:
        with torch.autocast(
            probe.device.type,
            dtype=probe.autocast or torch.bfloat16,
            enabled=probe.autocast is not None,
            # Casts cached without gradients would be found by the training.
            cache_enabled=False,
        ):
            model(*args, **kwargs)
    except Exception as error:
        if isinstance(error, CaptureError) or is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CaptureError(
            f"The probe cannot be taken by the model: {reason.rstrip('.')}; pass probe= a batch "
            f"that the model takes in evaluation mode."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether smaller chunks may help."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text)
    )


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold all modules in evaluation mode, then give each its own mode back.

    The attribute is set rather than ``eval()`` called: a model may override `train` to keep layers
    frozen or to merge weights, and that must not happen here.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def probing(model: nn.Module) -> Iterator[None]:
    """Run the model without a trace.

    Without gradients, eagerly, in evaluation mode, with fixed random numbers (so that a model that
    samples shows the same noise at each capture). Afterwards modules' modes, buffers that changed,
    and the random states of torch (CPU and the model's devices), Python and numpy are as before.
    """
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    with (
        _random_states([device for device in devices if device.type == "cuda"]),
        _buffers_restored(model),
        evaluating(model),
        _eagerly(),
        torch.no_grad(),
    ):
        yield


@contextlib.contextmanager
def _random_states(devices: Iterable[torch.device]) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    generators = [torch.default_generator]
    generators += [torch.cuda.default_generators[device.index or 0] for device in devices]
    states = [generator.get_state() for generator in generators]
    try:
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002
        for generator in generators:
            generator.manual_seed(_SEED)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@contextlib.contextmanager
def _buffers_restored(model: nn.Module) -> Iterator[None]:
    places = [
        (module._buffers, name, buffer)  # noqa: SLF001
        for module in model.modules()
        for name, buffer in module._buffers.items()  # noqa: SLF001
        if buffer is not None
    ]
    room = _MAX_BUFFER_BYTES
    saved: dict[int, tuple[Tensor, Tensor, int]] = {}
    for _, _, buffer in sorted(places, key=lambda place: place[2].nbytes):
        room -= 0 if id(buffer) in saved else buffer.nbytes
        if room >= 0 and id(buffer) not in saved:
            saved[id(buffer)] = buffer, buffer.detach().clone(), buffer._version  # noqa: SLF001
    try:
        yield
    finally:
        for owner, name, buffer in places:
            owner[name] = buffer
        with torch.no_grad():
            for buffer, copied, version in saved.values():
                if buffer._version != version:  # noqa: SLF001
                    buffer.copy_(copied)


def _eagerly() -> contextlib.AbstractContextManager[object]:
    """Compiled submodules run as they were written: our calls must cause no recompilation."""
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
        stance: contextlib.AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return contextlib.nullcontext()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Rebuild nested tuples, lists and dicts with *function* applied to each tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        made = copy.copy(value)
        for key, item in value.items():
            made[key] = _map_tensors(item, function)
        return made
    if isinstance(value, (tuple, list)):
        items = [_map_tensors(item, function) for item in value]
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return tuple(items) if isinstance(value, tuple) else items
    return value
