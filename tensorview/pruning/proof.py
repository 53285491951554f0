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
from tensorview.errors import PruningError
from tensorview.pruning.surgery import axis_of, remove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tensorview.capture.probe import Probe
    from tensorview.pruning.structure import Structure

# More would cost seconds with large images, and show no more.
SAMPLES = 2

# Outputs may differ by this share of their scale: float32's rounding, many layers deep.
_TOLERANCE = 1e-4
# Silencing filters must change them by this many tolerances for the comparison to say something.
_VISIBLE = 10.0

# Spread of random weights in units of 1 / sqrt(fan-in), tried until outputs are finite and show
# what is silenced.
_GAINS = (math.sqrt(2), 1.0, 0.5)


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
    some, others = _split(structure.filters)
    _compare(twin, structure, some, probe)
    for gain in _GAINS:
        _randomise(twin, gain)
        before = outputs_of(twin, probe)
        effect = _difference(before, _silenced(twin, structure, some, probe))
        if math.isfinite(effect) and effect > _VISIBLE * _TOLERANCE:
            break
    else:
        raise PruningError(
            f"Cannot prune layer {structure.layer!r}: it cannot be proved right, because with "
            f"random parameters the model's outputs do not show its filters."
        )
    _compare(twin, structure, some, probe)
    _compare(twin, structure, others, probe)


def outputs_of(model: nn.Module, probe: Probe) -> list[Tensor]:
    """Run a few samples and return all floating tensors in the output, in its order."""
    with probing(model):
        return floating_tensors(run_probe(model, probe, stop=SAMPLES))


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


def _compare(
    twin: nn.Module, structure: Structure, filters: NDArray[np.int64], probe: Probe
) -> None:
    expected = _silenced(twin, structure, filters, probe)
    start = f"Cannot prune layer {structure.layer!r}:"
    with _put_back(twin, structure):
        remove(twin, structure, filters.tolist(), optimizers=())
        try:
            found = outputs_of(twin, probe)
        except Exception as error:
            raise PruningError(
                f"{start} without some of its filters the model does not run "
                f"({' '.join(str(error).split())[:200].rstrip('.')}), for example because channels "
                f"are padded, sliced or regrouped between it and what reads it."
            ) from error
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in found]:
        raise PruningError(f"{start} its filters are channels of the model's output.")
    difference = _difference(expected, found)
    if not math.isfinite(difference):
        raise PruningError(f"{start} the model's outputs on the probe are not finite.")
    if difference > _TOLERANCE:
        raise PruningError(
            f"{start} removing its filters changes the output otherwise than silencing them does, "
            f"for example because channels are padded, sliced or regrouped between it and what "
            f"reads it."
        )


def _difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """Largest difference as a share of its tensor's scale; NaN where one is not finite."""
    shares = [
        (one - other).abs().max() / one.abs().max().clamp_min(torch.finfo(one.dtype).tiny)
        for one, other in zip(expected, found, strict=True)
        if one.numel()
    ]
    return float(torch.stack([share.double() for share in shares]).max()) if shares else 0.0


def _split(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An uneven third of the filters, and the others."""
    order = np.random.default_rng(0).permutation(count)
    third = max(1, count // 3)
    return order[:third], order[third:]


def _silenced(
    twin: nn.Module, structure: Structure, filters: NDArray[np.int64], probe: Probe
) -> list[Tensor]:
    """Outputs when nobody listens to *filters*."""
    with _put_back(twin, structure):
        for cut in structure.readers:
            module = twin.get_submodule(cut.module)
            weight: Any = module.weight
            columns = torch.from_numpy(cut.entries[filters].ravel()).to(weight.device)
            weight.data = weight.data.index_fill(axis_of(module, cut.role), columns, 0)
        return outputs_of(twin, probe)


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


def _randomise(twin: nn.Module, gain: float) -> None:
    """Give every parameter, and BatchNorm's statistics, values that hide nothing."""
    generators: dict[torch.device, torch.Generator] = {}

    def fill(tensor: Tensor, low: float, high: float) -> None:
        device = tensor.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(0)
        tensor.data.uniform_(low, high, generator=generators[device])

    for module in twin.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.is_floating_point():
                continue
            if parameter.ndim >= 2:
                bound = gain * math.sqrt(3 / max(1, parameter[0].numel()))
                fill(parameter, -bound, bound)
            elif name == "weight":
                fill(parameter, 0.5, 1.5)
            else:  # biases more often above zero, so that few filters are dead
                fill(parameter, -0.25, 0.75)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
            if module.running_mean is not None:
                fill(module.running_mean, -0.25, 0.25)
            if module.running_var is not None:
                fill(module.running_var, 0.5, 1.5)
