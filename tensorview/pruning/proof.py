"""The proof, on a copy, that removing filters is the same as silencing them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tensorview.capture.probe import probing, run_probe
from tensorview.errors import CaptureError, PruningError
from tensorview.pruning.surgery import axis_of, remove, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensorview.capture.probe import Probe
    from tensorview.pruning.structure import Structure

# More would cost seconds with large images, and show no more.
SAMPLES = 2

# Outputs may differ by this share of their scale: ten times what float32's rounding was seen to do
# in VGG16, in 100 layers of a ResNet and in 30 Linear layers.
_TOLERANCE = 2e-5
# By how many tolerances filters must be seen in the outputs, for these to say something.
_VISIBLE = 50.0

# Spread of random weights in units of 1 / sqrt(fan-in), tried until outputs are finite and show the
# filters: in very narrow layers all others may happen to be dead.
_GAINS = (1.4, 1.0, 0.5) * 3


def prove(twin: nn.Module, structure: Structure, probe: Probe) -> None:
    """Compare removing with silencing: with the model's own parameters, then with random ones.

    With random ones no filter is dead on the probe, so that no wrong index hides behind zeros.

    Args:
        twin: a copy of the model in float32 or float64. Its parameters become random.
        structure: what is to be proved.
        probe: for *twin*.

    Raises:
        PruningError: outputs differ, or cannot be compared.
    """
    few, half = _sets(structure.filters)
    _compare(twin, structure, few, probe, _silenced(twin, structure, few, probe))
    _check_training(twin, structure, few, probe)
    for seed, gain in enumerate(_GAINS):
        _randomise(twin, gain, seed)
        without_few = _silenced(twin, structure, few, probe)
        without_half = _silenced(twin, structure, half, probe)
        if _VISIBLE * _TOLERANCE < _difference(without_few, without_half) < math.inf:
            _compare(twin, structure, few, probe, without_few)
            _compare(twin, structure, half, probe, without_half)
            return
    raise PruningError(
        f"Cannot prune layer {structure.layer!r}: there is no proof that it can be, because with "
        f"random parameters the model's outputs do not show its filters."
    )


def floating_tensors(value: Any) -> list[Tensor]:
    """All floating tensors anywhere in tuples, lists, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        items = list(value.values())
    elif isinstance(value, (tuple, list)):
        items = list(value)
    elif dataclasses.is_dataclass(value):
        items = list(vars(value).values())
    else:
        return []
    return [tensor for item in items for tensor in floating_tensors(item)]


def _outputs(twin: nn.Module, probe: Probe, *, training: bool = False) -> list[Tensor]:
    with probing(twin):
        for module in twin.modules():
            module.training = training
        return floating_tensors(run_probe(twin, probe, stop=SAMPLES))


def _compare(
    twin: nn.Module,
    structure: Structure,
    filters: list[int],
    probe: Probe,
    expected: list[Tensor],
) -> None:
    start = f"Cannot prune layer {structure.layer!r}:"
    hint = "for example because channels are padded, sliced or regrouped between it and its readers"
    try:
        with _put_back(twin, structure):
            remove(twin, structure, filters, optimizers=())
            found = _outputs(twin, probe)
    except CaptureError as error:
        raise PruningError(
            f"{start} without some of its filters the model does not run, {hint} "
            f"({sentence(error.__cause__ or error)})."
        ) from error
    if _shapes(expected) != _shapes(found):
        raise PruningError(f"{start} its filters are channels of the model's output.")
    difference = _difference(expected, found)
    if not math.isfinite(difference):
        raise PruningError(f"{start} the model's outputs on the probe are not finite.")
    if difference > _TOLERANCE:
        raise PruningError(
            f"{start} removing its filters changes the output otherwise than silencing them does, "
            f"{hint}."
        )


def _check_training(
    twin: nn.Module, structure: Structure, filters: list[int], probe: Probe
) -> None:
    """Refuse where a part of the model that only training runs has the filters too."""
    try:
        expected = _shapes(_outputs(twin, probe, training=True))
    except CaptureError:
        return  # in training it needs more than a probe has
    try:
        with _put_back(twin, structure):
            remove(twin, structure, filters, optimizers=())
            found = _shapes(_outputs(twin, probe, training=True))
    except CaptureError:
        found = []
    if found != expected:
        raise PruningError(
            f"Cannot prune layer {structure.layer!r}: in training mode the model does not run "
            f"without some of its filters, or returns other shapes, so a part that evaluation "
            f"leaves out works on them."
        )


def _shapes(tensors: list[Tensor]) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors]


def _difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """Largest difference as a share of its tensor's scale; NaN where one is not finite."""
    shares = [
        (one - other).abs().max() / one.abs().max().clamp_min(torch.finfo(one.dtype).tiny)
        for one, other in zip(expected, found, strict=True)
        if one.numel()
    ]
    return float(torch.stack([share.cpu().double() for share in shares]).max()) if shares else 0.0


def _sets(count: int) -> tuple[list[int], list[int]]:
    """Two sets of filters to try, neither in the other.

    Filter 1 and the last: reversed, or shifted by one, they are others. Then filter 0 and an uneven
    part of the rest, an odd number in all, for operations that treat even and odd ones differently.
    """
    rest = np.random.default_rng(0).permutation(np.arange(2, count))
    return sorted({1, count - 1}), [0, *rest[: (count // 2 - 1) | 1][1:].tolist()]


def _silenced(
    twin: nn.Module, structure: Structure, filters: list[int], probe: Probe
) -> list[Tensor]:
    """Outputs when nobody listens to *filters*."""
    with _put_back(twin, structure):
        for cut in structure.readers:
            module = twin.get_submodule(cut.module)
            weight: Any = module.weight
            columns = torch.from_numpy(cut.entries[filters].ravel()).to(weight.device)
            weight.data = weight.data.index_fill(axis_of(module, cut.role), columns, 0)
        return _outputs(twin, probe)


@contextlib.contextmanager
def _put_back(twin: nn.Module, structure: Structure) -> Iterator[None]:
    modules = [twin.get_submodule(cut.module) for cut in structure.cuts]
    attributes = [(vars(module), dict(vars(module))) for module in modules]
    tensors = [
        (tensor, tensor.data)
        for module in modules
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    ]
    try:
        yield
    finally:
        for live, saved in attributes:
            live.update(saved)
        for tensor, data in tensors:
            tensor.data = data


def _randomise(twin: nn.Module, gain: float, seed: int) -> None:
    """Give parameters, and statistics of normalisations, values that hide nothing."""
    tensors = [
        (name, tensor)
        for module in twin.modules()
        for name, tensor in (
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        )
        if isinstance(tensor, nn.Parameter) or name in ("running_mean", "running_var")
    ]
    for number, (name, tensor) in enumerate(tensors):
        if tensor.is_floating_point():
            generator = torch.Generator(tensor.device).manual_seed(number + len(tensors) * seed)
            tensor.data.uniform_(*_range(name, tensor, gain), generator=generator)


def _range(name: str, tensor: Tensor, gain: float) -> tuple[float, float]:
    if tensor.ndim >= 2:
        bound = gain * math.sqrt(3 / max(1, tensor[0].numel()))
        return -bound, bound
    if name in ("weight", "running_var"):  # of a normalisation
        return 0.5, 1.5
    return -0.25, 0.75  # mostly positive, so that few filters are dead
