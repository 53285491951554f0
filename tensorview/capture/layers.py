"""Which layers are watched, and how their weights are read."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tensorview.bounds import fold
from tensorview.errors import CaptureError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
WATCHABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.Linear)


@dataclass(frozen=True, kw_only=True, eq=False)
class WatchedLayer:
    """One layer of the model.

    Attributes:
        name: dotted path, as in ``model.named_modules()``; the first one of a shared module. The
            class name where the model itself is the layer.
        kind: class name of the module.
        module: a Conv, ConvTranspose or Linear.
        weight_shape: the weight's shape in PyTorch's own order.
        original_shape: the same when watching began.
        kept: axis of the weight -> shape ``(n,)``, int64: where its entries lay then. Without the
            axes that never shrank.
        places: the same on the weight's device.
    """

    name: str
    kind: str
    module: nn.Module
    weight_shape: tuple[int, ...]
    original_shape: tuple[int, ...]
    kept: Mapping[int, NDArray[np.int64]] = dataclasses.field(default_factory=dict)
    places: Mapping[int, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def transposed(self) -> bool:
        """Whether filters are the weight's second axis."""
        return isinstance(self.module, TRANSPOSED)

    @property
    def conv_groups(self) -> int:
        """Groups of the convolution, 1 for Linear."""
        return int(getattr(self.module, "groups", 1))

    @property
    def out(self) -> int:
        """Number of filters."""
        shape = self.weight_shape
        return shape[1] * self.conv_groups if self.transposed else shape[0]

    @property
    def original_filters(self) -> NDArray[np.int32]:
        """Index that each filter had when watching began, shape ``(out,)``."""
        return self.kept.get(int(self.transposed), np.arange(self.out)).astype(np.int32)

    @property
    def in_per_group(self) -> int:
        """Input channels that each filter reads."""
        shape = self.weight_shape
        return shape[0] // self.conv_groups if self.transposed else shape[1]

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel folded to two dimensions: ``1 x 1``, ``1 x w``, ``h x w`` or ``(d*h) x w``."""
        return fold(self.weight_shape[2:])


def unwrap(model: nn.Module) -> nn.Module:
    """Return the eager module inside torch.compile's and distributed training's wrappers."""
    while True:
        if "_orig_mod" in model._modules:  # torch.compile  # noqa: SLF001
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def is_compiled(model: nn.Module) -> bool:
    """Whether calling *model* runs compiled code, which no hook inside could see."""
    while True:
        if "_orig_mod" in model._modules or model._compiled_call_impl is not None:  # noqa: SLF001
            return True
        if not isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            return False
        model = model.module


def select_layers(model: nn.Module, layers: Any = None) -> list[WatchedLayer]:
    """Choose the layers to watch, in the model's own order.

    Args:
        model: unwrapped, see `unwrap`; in evaluation mode where weights are parametrised (see
            `tensorview.capture.probe.evaluating`).
        layers: None for every Conv, ConvTranspose and Linear; names or globs; or a predicate
            ``(name, module) -> bool``.

    Raises:
        ConfigurationError: an unknown name, nothing to watch, or a layer whose weight cannot be
            read.
    """
    candidates: dict[str, nn.Module] = {
        name or type(module).__name__: module
        for name, module in model.named_modules()
        if isinstance(module, WATCHABLE)
    }
    if not candidates:
        if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
            raise ConfigurationError(
                "The model is scripted or traced by torch.jit, where no layer can be seen: watch "
                "the original model."
            )
        raise ConfigurationError(
            f"{type(model).__name__} has no Conv, ConvTranspose or Linear layer: there is nothing "
            f"to watch."
        )
    names = _chosen(model, candidates, layers)
    for name in names:
        _check_weight(name, candidates[name])
    _check_names(name for name in candidates if name in names)
    return [
        WatchedLayer(
            name=name,
            kind=type(module).__name__,
            module=module,
            weight_shape=tuple(_weight(module).shape),
            original_shape=tuple(_weight(module).shape),
        )
        for name, module in candidates.items()
        if name in names
    ]


def shrunk(
    layer: WatchedLayer, *, outputs: NDArray[np.int64] | None, inputs: NDArray[np.int64] | None
) -> WatchedLayer:
    """Describe a layer anew whose weight has become smaller.

    Args:
        layer: as it was; its module is smaller already.
        outputs: shape ``(n,)``, of the filters that it had, those it still has; None for all.
        inputs: likewise of what each filter reads.

    Raises:
        CaptureError: the weight has another shape than that.
    """
    axes = {int(layer.transposed): outputs, int(not layer.transposed): inputs}
    chosen = {axis: index for axis, index in axes.items() if index is not None}
    weight = _weight(layer.module)
    expected = tuple(
        len(chosen[axis]) if axis in chosen else size
        for axis, size in enumerate(layer.weight_shape)
    )
    if tuple(weight.shape) != expected:
        raise CaptureError(
            f"Cannot follow layer {layer.name!r}: its weight has become {tuple(weight.shape)}, and "
            f"{expected} was expected of the filters that are said to be kept."
        )
    former = {axis: layer.kept.get(axis, np.arange(layer.weight_shape[axis])) for axis in chosen}
    kept = {**layer.kept, **{axis: former[axis][index] for axis, index in chosen.items()}}
    return dataclasses.replace(
        layer,
        weight_shape=expected,
        kept=kept,
        places={axis: torch.from_numpy(kept[axis]).to(weight.device) for axis in kept},
    )


def unwatched_modules(model: nn.Module) -> list[str]:
    """Name the innermost modules that have weight matrices and are of a kind not watched."""
    return [
        f"{name or 'parameters of the model itself'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if not isinstance(module, WATCHABLE)
        and any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False))
        and ".parametrizations." not in f".{name}."
    ]


def read_weight(layer: WatchedLayer) -> Tensor:
    """Return a layer's weight as stored, detached; float16 and smaller widened to float32."""
    weight = _weight(layer.module).detach()
    return weight if weight.dtype in (torch.float32, torch.float64) else weight.float()


def why_no_numbers(tensor: Tensor) -> str:
    """Say what *tensor* is that it holds no plain real numbers; "" if it does."""
    if tensor.is_quantized or tensor.is_complex():
        return f"is {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.layout != torch.strided:
        return f"is {str(tensor.layout).removeprefix('torch.')}"
    return "is on the meta device and has no values" if tensor.is_meta else ""


def in_original_shape(weight: Tensor, layer: WatchedLayer) -> Tensor:
    """Return the weight with zeros for all that was removed; the weight itself if nothing was.

    It waits for no device.
    """
    for axis, place in layer.places.items():
        shape = list(weight.shape)
        shape[axis] = layer.original_shape[axis]
        weight = weight.new_zeros(shape).index_copy_(axis, place.to(weight.device), weight)
    return weight


def read_gradients(layer: WatchedLayer) -> list[Tensor]:
    """Return the gradients of the weight's parameters, of all parts of a parametrised one."""
    return [
        parameter.grad.detach()
        for name, parameter in layer.module.named_parameters()
        if name.startswith(("weight", "parametrizations.weight")) and parameter.grad is not None
    ]


def filters_first(weight: Tensor, layer: WatchedLayer) -> Tensor:
    """Return the weight as ``(F, I, h, w)``, each filter with the input channels that it reads.

    A ConvTranspose's weight is ``(in, out / groups, ...)``: filter ``g * out / groups + j`` reads
    rows ``g * in / groups`` and following, column ``j``.
    """
    height, width = layer.kernel
    shape = (layer.out, layer.in_per_group, height, width)
    if layer.transposed:
        groups = layer.conv_groups
        weight = weight.reshape(groups, layer.in_per_group, layer.out // groups, height, width)
        weight = weight.transpose(1, 2)
    return weight.reshape(shape)


def _weight(module: nn.Module) -> Tensor:
    return cast("Tensor", module.weight)


def _chosen(model: nn.Module, candidates: dict[str, nn.Module], layers: Any) -> set[str]:
    if layers is None:
        return set(candidates)
    if callable(layers):
        chosen = {name for name, module in candidates.items() if layers(name, module)}
        if not chosen:
            raise ConfigurationError(
                f"layers= chose none of {', '.join(candidates)}: there is nothing to watch."
            )
        return chosen
    chosen = set()
    everything = {**dict(model.named_modules(remove_duplicate=False)), **candidates}
    firsts = {id(module): name for name, module in candidates.items()}
    for pattern in [layers] if isinstance(layers, str) else layers:
        module = everything.get(pattern)
        if module is not None and id(module) in firsts:
            chosen.add(firsts[id(module)])
            continue
        found = fnmatch.filter(candidates, pattern)
        if not found:
            raise ConfigurationError(_unknown(pattern, candidates, everything))
        chosen.update(found)
    if not chosen:
        raise ConfigurationError(
            f"layers= is empty: expected some of {', '.join(candidates)}, or None for all."
        )
    return chosen


def _unknown(pattern: str, candidates: dict[str, nn.Module], everything: dict[str, Any]) -> str:
    if pattern in everything:
        return (
            f"Layer {pattern!r} is a {type(everything[pattern]).__name__} and cannot be watched: "
            f"expected a Conv, ConvTranspose or Linear."
        )
    near = difflib.get_close_matches(pattern, candidates, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
    known = f"Layers are {', '.join(list(candidates)[:10])}{', ...' * (len(candidates) > 10)}."
    return f"There is no layer {pattern!r} in the model. {hint or known}"


def _check_names(names: Iterable[str]) -> None:
    """Refuse two names that are one where VTK writes NUL and lone surrogates percent-encoded."""
    written: dict[str, str] = {}
    for name in names:
        text = _NO_TEXT.sub(lambda found: quote(found[0], errors="surrogatepass"), name)
        if written.setdefault(text, name) != name:
            raise ConfigurationError(
                f"Layers {written[text]!r} and {name!r} cannot be told apart in a file, where both "
                f"are {text!r}. Leave one out with layers=[...]."
            )


def _check_weight(name: str, module: nn.Module) -> None:
    weight: Any = module.weight
    if is_lazy(weight):
        raise ConfigurationError(
            f"Layer {name!r} has no weight yet: run one batch through the model before watching it."
        )
    problem = ""
    if not isinstance(weight, torch.Tensor):
        problem = f"is a {type(weight).__name__}"
    elif weight.dtype == torch.bool:
        problem = "is bool"
    elif no_numbers := why_no_numbers(weight):
        problem = no_numbers
    elif hasattr(weight, "__tensor_flatten__"):
        problem = f"is a {type(weight).__name__}"
    if problem:
        raise ConfigurationError(
            f"Cannot watch layer {name!r}: its weight {problem}. Leave it out with layers=[...]."
        )
