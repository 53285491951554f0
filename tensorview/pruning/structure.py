"""What shrinks together with a layer, proved on a copy before anything real is touched."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tensorview.analysis.precision import exact_dtype, whole_float32
from tensorview.capture.layers import WATCHABLE
from tensorview.capture.probe import device_of, dtype_of, follow_model, probing, run_probe
from tensorview.errors import PruningError
from tensorview.pruning.proof import SAMPLES, floating_tensors, prove
from tensorview.pruning.surgery import axis_of, sentence
from tensorview.steering.commands import near_matches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tensorview.capture.probe import Probe

_TYPES = torch_pruning.ops.OPTYPE

# They hold no numbers of a filter. Where they care which channel is which, the proof fails.
_OPERATIONS = (
    *(_TYPES.ELEMENTWISE, _TYPES.CONCAT, _TYPES.SPLIT, _TYPES.SLICE),
    *(_TYPES.RESHAPE, _TYPES.UNBIND, _TYPES.EXPAND),
)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm  # noqa: SLF001  # has no public name
_TENSORS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


class _Place(NamedTuple):
    """Where a filter lies, in the fields that torch-pruning's index mappings read."""

    idx: int
    root_idx: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """What one module has of each filter of a layer.

    Attributes:
        module: dotted name in the unwrapped model.
        role: ``"writes"`` (its outputs), ``"normalises"`` (BatchNorm) or ``"reads"`` (its inputs).
        entries: shape ``(F, n)``, ascending in each row: the indices along that axis of the module
            that belong to each filter. A Linear behind a flatten has one a position, others one.
        length: of that axis; more than ``F * n`` where other layers' channels lie there too.
    """

    module: str
    role: str
    entries: NDArray[np.int64]
    length: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """All that shrinks when filters of a layer go.

    Attributes:
        layer: the layer asked for.
        filters: how many it has, ``F``.
        cuts: of every module that shrinks, once for each role. The layer's own comes first.
    """

    layer: str
    filters: int
    cuts: tuple[Cut, ...]

    @property
    def writers(self) -> tuple[Cut, ...]:
        """The layer, and those that lose filters with it because their outputs are added."""
        return tuple(cut for cut in self.cuts if cut.role == "writes")

    @property
    def readers(self) -> tuple[Cut, ...]:
        """Layers that read the filters' activations."""
        return tuple(cut for cut in self.cuts if cut.role == "reads")


def find_structure(model: nn.Module, layer: str, *, probe: Probe) -> Structure:
    """Find what must shrink when filters of *layer* go, and prove it on a copy.

    Neither *model* nor a random state changes.

    Args:
        model: unwrapped.
        layer: name of a Conv, ConvTranspose or Linear.
        probe: a call of the model, of which the first samples are run.

    Raises:
        PruningError: its filters cannot go, or that they can is not proved; the reason is said.
    """
    name = _layer_name(model, layer)
    start = f"Cannot prune layer {name!r}:"
    on_gpu = device_of(model).type == "cuda"
    exact = whole_float32() if on_gpu else contextlib.nullcontext()
    with warnings.catch_warnings(), torch.inference_mode(mode=False), exact:
        warnings.simplefilter("ignore")
        try:
            twin = _twin(model, start)
            sample = follow_model(replace(probe, autocast=None), twin)
            structure = _traced(twin, name, sample)
            prove(twin, structure, sample)
        except PruningError:
            raise
        except Exception as error:
            raise PruningError(f"{start} {sentence(error)}.") from error
    return structure


def _layer_name(model: nn.Module, layer: str) -> str:
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise PruningError(
            f"Cannot prune layer {layer!r}: the model is scripted or traced by torch.jit; prune "
            f"the original model."
        )
    modules = dict(model.named_modules(remove_duplicate=False))
    if layer not in modules:
        known = [name for name, module in modules.items() if isinstance(module, WATCHABLE)]
        raise PruningError(
            f"There is no layer {layer!r} in the model. {near_matches(layer, known)}"
        )
    module = modules[layer]
    if not isinstance(module, WATCHABLE):
        raise PruningError(
            f"Cannot prune layer {layer!r}: it is a {type(module).__name__} and has no filters; "
            f"expected a Conv, ConvTranspose or Linear."
        )
    names: dict[nn.Module, str] = {other: name for name, other in model.named_modules()}
    return names[module]


def _twin(model: nn.Module, start: str) -> nn.Module:
    """Copy the model, precise enough for the proof, with every parameter to be followed."""
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise PruningError(
            f"{start} the model has parameters without values yet; run one batch first."
        )
    try:
        twin = copy.deepcopy(model, _not_copied(model))
    except Exception as error:
        raise PruningError(
            f"{start} a proof needs a copy of the model, which cannot be made ({sentence(error)})."
        ) from error
    twin.to(_proof_dtype(twin))
    for parameter in twin.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return twin


def _not_copied(model: nn.Module) -> dict[int, Any]:
    """What the copy has instead of a copy, by id."""
    # Tensors that were computed, and are kept as attributes, refuse to be copied.
    instead: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    # A hook that is a method would bring along a copy of whatever the user keeps beside the model.
    for module in model.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):  # noqa: SLF001
            owner = getattr(hook, "__self__", None)
            if owner is not None and not isinstance(owner, nn.Module):
                instead[id(owner)] = owner
    return instead


def _proof_dtype(model: nn.Module) -> torch.dtype:
    """Precision in which outputs are compared: never less than the whole of float32."""
    if dtype_of(model) == torch.float64:
        return torch.float64
    # A model may make tensors of float32 itself, so double is for the CPU's rounded products alone.
    on_gpu = device_of(model).type == "cuda"
    return torch.float32 if on_gpu else exact_dtype(torch.float32)


def _traced(twin: nn.Module, name: str, probe: Probe) -> Structure:
    """Follow the layer's outputs through the graph that autograd makes of a run."""
    start, root = f"Cannot prune layer {name!r}:", twin.get_submodule(name)
    graph, calls = _graph(twin, probe)
    if not calls[root]:
        raise PruningError(f"{start} the model does not call it on the probe.")
    if root not in graph.module2node:
        raise PruningError(f"{start} no gradient connects it with the model's output.")
    _check_module(start, name, root, twin)
    pruner = graph.get_pruner_of_module(root)
    filters = int(pruner.get_out_channels(root))
    if filters == 1:
        raise PruningError(f"{start} it has one filter, and at least one must stay.")
    names: dict[Any, str] = {module: path for path, module in twin.named_modules()}
    names |= {parameter: path for path, parameter in twin.named_parameters()}
    cuts = []
    for (node, side), places in _followed(start, graph, root, filters).items():
        module = node.module
        if node.type in _OPERATIONS or (node.type == _TYPES.PRELU and module.num_parameters == 1):
            continue
        if node.type == _TYPES.OUTPUT:
            raise PruningError(f"{start} its filters are channels of the model's output.")
        other = names[module]
        _check_module(start, other, module, twin)
        if calls[module] > 1:
            raise PruningError(
                f"{start} the model calls {other!r} {calls[module]} times in one forward pass."
            )
        reads = graph.is_in_channel_pruning_fn(side)
        role = "normalises" if node.type == _TYPES.BN else "reads" if reads else "writes"
        cuts.append(_cut(start, module, other, role, _rows(places, filters)))
    if not any(cut.role == "reads" for cut in cuts):
        raise PruningError(f"{start} no other layer reads its filters.")
    return Structure(layer=name, filters=filters, cuts=tuple(cuts))


def _graph(twin: nn.Module, probe: Probe) -> tuple[Any, Counter[nn.Module]]:
    """Trace one run; count how often it calls each module."""
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
    return graph, calls


def _followed(start: str, graph: Any, root: nn.Module, filters: int) -> dict[Any, set[_Place]]:
    """Where the filters lie, by node of the graph and side of it (its outputs, its inputs).

    The library's own walk would not end where channels are shifted and added to those beside them.
    """
    longest = max(max(parameter.shape, default=0) for parameter in graph.model.parameters())
    found: dict[Any, set[_Place]] = {}
    side = graph.get_pruner_of_module(root).prune_out_channels
    waiting = [(graph.module2node[root], side, {_Place(f, f) for f in range(filters)})]
    while waiting:
        node, side, places = waiting.pop()
        known = found.setdefault((node, side), set())
        new = places - known
        known |= new
        if len(known) > 2 * longest:  # one index may be a channel or, behind a flatten, a position
            raise PruningError(
                f"{start} where its filters go cannot be told, for example because channels are "
                f"shifted and added to those beside them."
            )
        for way in node.dependencies if new else ():
            if way.is_triggered_by(side):
                moved: Any = sorted(new)
                for mapping in filter(None, way.index_mapping):
                    moved = mapping(moved)
                if moved:
                    waiting.append((way.target, way.handler, {_Place(*place) for place in moved}))
    return found


def _rows(places: set[_Place], filters: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(filters)]
    for index, root in sorted(places):
        rows[root].append(index)
    return rows


def _cut(start: str, module: Any, other: str, role: str, rows: list[list[int]]) -> Cut:
    length = (
        module.num_features if role == "normalises" else module.weight.shape[axis_of(module, role)]
    )
    if len({len(row) for row in rows}) > 1:
        raise PruningError(f"{start} some of its filters reach {other!r}, and others do not.")
    entries = np.array(rows, np.int64)
    if entries.max() >= length or len(np.unique(entries)) < entries.size:
        raise PruningError(
            f"{start} which channels of {other!r} are its filters cannot be told, for example "
            f"because channels are padded, sliced or regrouped between them."
        )
    return Cut(module=other, role=role, entries=entries, length=length)


def _check_module(start: str, name: str, module: Any, twin: nn.Module) -> None:
    """Refuse what works on filters and cannot shrink with them."""
    if isinstance(module, nn.Parameter):
        raise PruningError(
            f"{start} parameter {name!r} works on its filters, and is no weight or bias of a Conv, "
            f"Linear or BatchNorm."
        )
    if not isinstance(module, (*WATCHABLE, _BATCH_NORM)):
        raise PruningError(
            f"{start} {name!r} works on its filters, and is a {type(module).__name__}; only Conv, "
            f"Linear and BatchNorm can shrink."
        )
    if getattr(module, "groups", 1) != 1:
        raise PruningError(
            f"{start} {name!r} is a convolution in {module.groups} groups, which must stay equally "
            f"large."
        )
    tensors = module._parameters | module._buffers  # noqa: SLF001  # with those that are None
    if "weight" not in tensors:
        raise PruningError(f"{start} the weight of {name!r} is computed from other parameters.")
    for own, tensor in tensors.items():
        _check_tensor(start, f"{name}.{own}", tensor, known=own in _TENSORS)
        owners = [
            f"{path}.{key}"
            for path, other in twin.named_modules()
            for key, parameter in other._parameters.items()  # noqa: SLF001
            if parameter is tensor is not None
        ]
        if len(owners) > 1:
            raise PruningError(f"{start} {' and '.join(map(repr, owners))} are one parameter.")


def _check_tensor(start: str, name: str, tensor: Tensor | None, *, known: bool) -> None:
    if not known and tensor is not None:
        raise PruningError(f"{start} what its module does with {name!r} is not known.")
    if tensor is not None and (
        type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided
    ):
        raise PruningError(f"{start} {name!r} is a {type(tensor).__name__}, not a plain tensor.")
