"""The probe: a fixed batch, and running it without leaving a trace in the training."""

from __future__ import annotations

import contextlib
import copy
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from tensorview.capture.random_states import random_states_kept
from tensorview.capture.restoring import state_restored
from tensorview.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_Result = TypeVar("_Result")

DEFAULT_SAMPLES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Arguments of one call of the model.

    Attributes:
        args: positional arguments. Tensors whose first axis is `size` long hold samples.
        kwargs: keyword arguments, likewise.
        size: number of samples.
        device: of the model's first parameter when the probe was taken.
        dtype: of its first floating parameter then, None without one.
        autocast: dtype of the autocast under which it was taken, None for none. The probe
            runs under the same, so that it meets the arithmetic of the training.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    size: int
    device: torch.device
    dtype: torch.dtype | None
    autocast: torch.dtype | None


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """Dtype of the model's first floating parameter, None without one."""
    dtypes = (parameter.dtype for parameter in model.parameters())
    return next((dtype for dtype in dtypes if dtype.is_floating_point), None)


def take_probe(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    samples: int | None = DEFAULT_SAMPLES,
) -> Probe:
    """Copy the first *samples* of a call's arguments.

    Args:
        model: unwrapped; its device and dtype are noted.
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
        dtype=dtype_of(model),
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
    return _moved(take_probe(model, args, kwargs, samples=None), model)


def follow_model(probe: Probe, model: nn.Module) -> Probe:
    """Follow a model that has changed its device or precision since the probe was taken.

    Tensors of the precision that the model had get the one that it has; others keep theirs.
    """
    unchanged = (probe.device, probe.dtype) == (device_of(model), dtype_of(model))
    return probe if unchanged else _moved(probe, model)


def _moved(probe: Probe, model: nn.Module) -> Probe:
    device, dtype = device_of(model), dtype_of(model)

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype if tensor.dtype == probe.dtype else None)

    return replace(
        probe,
        args=_map_tensors(probe.args, move),
        kwargs=_map_tensors(probe.kwargs, move),
        device=device,
        dtype=dtype,
    )


def run_probe(model: nn.Module, probe: Probe, *, start: int = 0, stop: int | None = None) -> Any:
    """Call the model with samples *start* to *stop*, and return its output; inside `probing`.

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
            return model(*args, **kwargs)
    except Exception as error:
        if isinstance(error, CaptureError) or is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CaptureError(
            f"The probe cannot be taken by the model: {reason.rstrip('.')}; pass probe= a batch "
            f"that the model takes in evaluation mode."
        ) from error


def is_recording_graph() -> bool:
    """Whether what is sent to the GPU is recorded as a CUDA graph instead of being computed."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether smaller chunks may help."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text)
    )


def in_chunks(chunk: int, action: Callable[[int], _Result]) -> tuple[_Result, int]:
    """Call *action* with a number of samples that fits in memory: *chunk*, halved until it does.

    Returns:
        What *action* returned, and the number that it was called with last.

    Raises:
        CaptureError: not even one sample fits.
    """
    while True:
        try:
            return action(chunk), chunk
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if chunk == 1:
                raise CaptureError(
                    "The probe cannot be run: there is no memory left for even one sample of the "
                    "probe."
                ) from None
        chunk = (chunk + 1) // 2


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
def probing(model: nn.Module, *, among_threads: bool = False) -> Iterator[list[str]]:
    """Run the model without a trace.

    Without gradients, eagerly, in evaluation mode, with fixed random numbers (so that a model that
    samples shows the same noise at each capture). Afterwards modules' modes, all state that
    `tensorview.capture.restoring.state_restored` covers, and the random states of torch (CPU and
    the model's devices), Python and numpy are as before. Forward hooks and pre-hooks of the user's
    own do run, since they may be part of what the model computes, as in spectral norm; what they
    keep outside the model stays changed.

    Args:
        model: that is run.
        among_threads: see `random_states_kept`.

    Yields:
        Names of changed state that could not be put back, complete once the block has ended.
    """
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    with (
        random_states_kept(
            model,
            [device for device in devices if device.type == "cuda"],
            among_threads=among_threads,
        ),
        state_restored(model) as lost,
        evaluating(model),
        _eagerly(),
        torch.no_grad(),
    ):
        yield lost


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
