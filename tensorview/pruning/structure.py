"""What shrinks together with a layer, proved on a copy before anything real is touched."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch_pruning
from torch import Tensor, nn

from tensorview.capture.layers import WATCHABLE
from tensorview.capture.probe import dtype_of, follow_model, probing, run_probe
from tensorview.errors import PruningError
from tensorview.pruning.proof import SAMPLES, floating_tensors, prove
from tensorview.pruning.surgery import axis_of
from tensorview.steering.commands import near_matches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tensorview.capture.probe import Probe

TYPES = torch_pruning.ops.OPTYPE

# They take any number of channels; where they care which, the proof fails.
_OPERATIONS = (
    *(TYPES.ELEMENTWISE, TYPES.CONCAT, TYPES.SPLIT, TYPES.RESHAPE),
    *(TYPES.UNBIND, TYPES.EXPAND, TYPES.SLICE),
)
_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """What one module has of each filter of a layer.

    Attributes:
        module: dotted name in the unwrapped model.
        role: ``"writes"`` (its outputs), ``"normalises"`` (BatchNorm) or ``"reads"`` (its inputs).
        entries: shape ``(F, n)``, ascending along a row: which indices along that axis belong to
            each filter. ``n`` is 1 but for a Linear behind a flatten, which has one a position.
        length: of that axis, other layers' channels included.
    """

    module: str
    role: str
    entries: NDArray[np.int64]
    length: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """All that must shrink when filters of a layer go.

    Attributes:
        layer: the layer asked for.
        filters: how many it has, ``F``.
        cuts: of every module that shrinks; that of the layer comes first.
    """

    layer: str
    filters: int
    cuts: tuple[Cut, ...]

    @property
    def writers(self) -> tuple[Cut, ...]:
        """Whose filters go together."""
        return tuple(cut for cut in self.cuts if cut.role == "writes")

    @property
    def readers(self) -> tuple[Cut, ...]:
        """Who reads the filters' activations."""
        return tuple(cut for cut in self.cuts if cut.role == "reads")


def find_structure(model: nn.Module, layer: str, *, probe: Probe) -> Structure:
    """Find what must shrink when filters of *layer* go, and prove it on a copy.

    The model itself is not touched, nor are random states.

    Args:
        model: unwrapped.
        layer: name of a Conv, ConvTranspose or Linear.
        probe: a call of the model; a few of its samples are run.

    Raises:
        PruningError: its filters cannot be removed, or not provably; the reason is said.
    """
    name = _layer_name(model, layer)
    twin = _twin(model, name)
    ours = follow_model(replace(probe, autocast=None), twin)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structure = _traced(twin, name, ours)
            prove(twin, structure, ours)
        except PruningError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
            raise PruningError(f"Cannot prune layer {name!r}: {reason}.") from error
    return structure


def _layer_name(model: nn.Module, layer: str) -> str:
    modules = dict(model.named_modules(remove_duplicate=False))
    if layer not in modules:
        known = [name for name, module in modules.items() if isinstance(module, WATCHABLE)]
        raise PruningError(
            f"There is no layer {layer!r} in the model. {near_matches(layer, known)}"
        )
    module = modules[layer]
    if not isinstance(module, WATCHABLE):
        raise PruningError(
            f"Layer {layer!r} is a {type(module).__name__} and has no filters to prune: expected "
            f"a Conv, ConvTranspose or Linear."
        )
    return next(name for name, other in model.named_modules() if other is module)


def _twin(model: nn.Module, name: str) -> nn.Module:
    """Copy the model, in float32 where it is in less, every parameter ready to be traced."""
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise PruningError(
            f"Cannot prune layer {name!r}: the model cannot be copied for the proof: {reason}."
        ) from error
    if dtype_of(twin) in (torch.float16, torch.bfloat16):
        twin.float()
    for parameter in twin.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return twin


def _traced(twin: nn.Module, name: str, probe: Probe) -> Structure:
    """Follow the layer's outputs through the autograd graph."""
    calls: Counter[nn.Module] = Counter()

    def forward(model: nn.Module, _: object) -> list[Tensor]:
        outputs = floating_tensors(run_probe(model, probe, stop=SAMPLES))
        return [output for output in outputs if output.grad_fn is not None]

    handles = [
        module.register_forward_pre_hook(lambda module, _: calls.update([module]))
        for module in twin.modules()
    ]
    graph = torch_pruning.DependencyGraph()
    with probing(twin), torch.enable_grad():
        graph.build_dependency(twin, example_inputs=None, forward_fn=forward, verbose=False)
    for handle in handles:
        handle.remove()
    root = twin.get_submodule(name)
    if not calls[root]:
        raise PruningError(f"Cannot prune layer {name!r}: a forward pass does not call it.")
    if root not in graph.module2node:
        raise PruningError(
            f"Cannot prune layer {name!r}: nothing that it computes can be followed to the "
            f"model's outputs."
        )
    pruner = graph.get_pruner_of_module(root)
    filters = int(pruner.get_out_channels(root))
    if filters == 1:
        raise PruningError(f"Cannot prune layer {name!r}: it has a single filter.")
    names = {module: path for path, module in twin.named_modules()}
    names.update({parameter: path for path, parameter in twin.named_parameters()})
    cuts = []
    for item in graph.get_pruning_group(root, pruner.prune_out_channels, list(range(filters))):
        node = item.dep.target
        if _bears_anything(node):
            continue
        start = f"Cannot prune layer {name!r}:"
        if node.type == TYPES.OUTPUT:
            raise PruningError(f"{start} its filters are channels of the model's output.")
        other = names[node.module]
        _check_module(start, other, node.module, calls[node.module], twin)
        reads = graph.is_in_channel_pruning_fn(item.dep.handler)
        normalises = node.type == TYPES.BN
        role = "normalises" if normalises else "reads" if reads else "writes"
        module: Any = node.module
        cuts.append(
            Cut(
                module=other,
                role=role,
                entries=_entries(start, other, item, filters),
                length=module.num_features
                if normalises
                else int(module.weight.shape[axis_of(module, role)]),
            )
        )
    if not any(cut.role == "reads" for cut in cuts):
        raise PruningError(
            f"Cannot prune layer {name!r}: no other layer reads its filters, which are channels "
            f"of the model's output."
        )
    return Structure(layer=name, filters=filters, cuts=tuple(cuts))


def _bears_anything(node: Any) -> bool:
    """Whether an operation takes any number of channels."""
    return node.type in _OPERATIONS or (
        node.type == TYPES.PRELU and node.module.num_parameters == 1
    )


def _entries(start: str, other: str, item: Any, filters: int) -> NDArray[np.int64]:
    rows: list[list[int]] = [[] for _ in range(filters)]
    for index, root in zip(item.idxs, item.root_idxs, strict=True):
        rows[root].append(index)
    if len({len(row) for row in rows}) != 1:
        raise PruningError(f"{start} only some of its filters reach {other!r}.")
    return np.array([sorted(row) for row in rows], np.int64)


def _check_module(start: str, other: str, module: Any, calls: int, twin: nn.Module) -> None:
    """Refuse what works on the filters and cannot shrink with them."""
    if isinstance(module, nn.Parameter):
        raise PruningError(
            f"{start} parameter {other!r} works on its filters, and belongs to no Conv, Linear or "
            f"BatchNorm that could shrink with it."
        )
    kind = type(module).__name__
    if not isinstance(module, (*WATCHABLE, nn.modules.batchnorm._BatchNorm)):  # noqa: SLF001
        raise PruningError(
            f"{start} {other!r} ({kind}) works on its filters, and only Conv, Linear and "
            f"BatchNorm can shrink with it."
        )
    if getattr(module, "groups", 1) != 1:
        raise PruningError(
            f"{start} {other!r} is a convolution in {module.groups} groups, where no filter can "
            f"go alone."
        )
    if calls > 1:
        raise PruningError(f"{start} {other!r} is called {calls} times in one forward pass.")
    own = {**module._parameters, **module._buffers}  # noqa: SLF001
    for name, tensor in own.items():
        if tensor is None:
            continue
        if name not in _TENSORS:
            raise PruningError(
                f"{start} {other!r} ({kind}) has {name!r} beside its weight and bias, and what "
                f"that does is not known."
            )
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
            raise PruningError(
                f"{start} '{other}.{name}' is a {type(tensor).__name__}, not a plain tensor."
            )
    if "weight" not in own:
        raise PruningError(f"{start} the weight of {other!r} is computed from other parameters.")
    for name, parameter in module.named_parameters(recurse=False):
        owners = [
            path
            for path, candidate in twin.named_parameters(remove_duplicate=False)
            if candidate is parameter
        ]
        if len(owners) > 1:
            raise PruningError(
                f"{start} '{other}.{name}' is shared: it is {' and '.join(map(repr, owners))}."
            )
