"""Finding each layer's activation: following its output to what the next layer reads.

From the output of a watched layer, the tensor is followed through the normalisation and
element-wise nonlinearity that directly follow, whether written as modules, functions, methods or
in place. The way ends before anything else that reads the tensor: another layer, an addition, a
concatenation, pooling, a change of shape, an active dropout. What the tensor holds then is handed
over at that moment, before the next operation can overwrite it.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from tensorview.capture.layers import why_no_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from tensorview.capture.layers import WatchedLayer

# By name, so that `torch.relu`, `F.relu`, `Tensor.relu` and `Tensor.relu_` are one entry.
_NONLINEARITIES = {
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu"),
    *("mish", "sigmoid", "logsigmoid", "hardsigmoid", "hardswish", "hardtanh", "tanh"),
    *("hardshrink", "softshrink", "tanhshrink", "softplus", "softsign", "threshold"),
    *("clamp", "clamp_min", "clamp_max", "clip", "abs", "exp", "sin", "square"),
}
_NORMALISATIONS = {
    *("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"),
    "local_response_norm",
}
_STEPS = _NONLINEARITIES | _NORMALISATIONS
_DROPOUTS = {
    *("dropout", "dropout1d", "dropout2d", "dropout3d"),
    *("alpha_dropout", "feature_dropout", "feature_alpha_dropout"),
}
_SAME_VALUES = {
    *("contiguous", "clone", "detach", "data"),
    *("to", "type", "float", "double", "half", "bfloat16"),
}
_PRODUCTS = {"mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"}
_IN_PLACE_OPERATORS = {
    *("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__"),
    *("__imod__", "__ipow__", "__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__"),
}


class Following(TorchFunctionMode):
    """Follows the outputs of watched layers for the length of one forward pass.

    Args:
        layers: watched.
        point: ``"after"`` what directly follows each layer, or ``"raw"``: its own output.
        receive: called with a layer's index and its activation, at most once a layer. It must not
            keep the tensor, which may be overwritten next.

    Attributes:
        warnings: by layer index, a sentence for each layer that was called more than once (the
            first call counts), never, or whose activation could not be followed. Complete once the
            pass has ended.
    """

    def __init__(
        self,
        layers: Sequence[WatchedLayer],
        *,
        point: str,
        receive: Callable[[int, Tensor], None],
    ) -> None:
        super().__init__()
        self.receive = receive
        self.warnings: dict[int, str] = {}
        self._layers = layers
        self._point = point
        self._chains: list[_Chain] = []
        self._calls = [0] * len(layers)
        self._hooks: list[Any] = []

    def __enter__(self) -> Following:  # noqa: PYI034  # typing.Self needs Python 3.11
        """Hook the layers and watch every function called."""
        self._hooks = [
            layer.module.register_forward_hook(self._make_hook(index))
            for index, layer in enumerate(self._layers)
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Unhook the layers; unless the pass failed, hand over what is still on its way."""
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()
        if kind is None:
            for chain in list(self._chains):
                self._end(chain)
            for index, calls in enumerate(self._calls):
                self._judge_calls(index, calls)
        self._chains.clear()
        # It holds what it received, and this: a circle that only a full collection would free.
        del self.receive

    def _judge_calls(self, index: int, calls: int) -> None:
        name = self._layers[index].name
        if calls == 0:
            self.warnings[index] = f"Layer {name!r} was not called: its activations are not shown."
        elif calls > 1 and index not in self.warnings:
            self.warnings[index] = (
                f"Layer {name!r} was called {calls} times in one pass: its activations are those "
                f"of the first call."
            )

    def _make_hook(self, index: int) -> Callable[[Any, Any, Any], None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            self._calls[index] += 1
            if self._calls[index] > 1:
                return
            if not isinstance(output, Tensor):
                self._refuse(index, f"is {type(output).__name__}, not a tensor")
                return
            chain = _Chain(index, output)
            self._chains.append(chain)
            if self._point == "raw":
                self._end(chain)

        return hook

    def _end(self, chain: _Chain) -> None:
        self._chains.remove(chain)
        if chain.overwritten:
            self.warnings[chain.layer] = (
                f"The output of layer {self._layers[chain.layer].name!r} is overwritten by an "
                f"operation that cannot be seen: its activations are not shown."
            )
        elif chain.tensor.ndim == 0:
            self._refuse(chain.layer, "is a single number")
        elif problem := why_no_numbers(chain.tensor):
            self._refuse(chain.layer, problem)
        else:
            self.receive(chain.layer, chain.tensor.detach())

    def _refuse(self, index: int, problem: str) -> None:
        self.warnings[index] = (
            f"Cannot capture layer {self._layers[index].name!r}: its output {problem}. Leave it "
            f"out with layers=[...]."
        )

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call *func*, and see which ways go on through it and which end before it."""
        kwargs = kwargs or {}
        if not self._chains:
            return func(*args, **kwargs)
        inputs = list(_tensors((args, kwargs)))
        touched = [chain for chain in self._chains if any(map(chain.holds, inputs))]
        if not touched:
            return func(*args, **kwargs)
        name = _name(func)
        ways = [_way(name, args, kwargs, chain=chain) for chain in touched]
        for chain, way in zip(touched, ways, strict=True):
            if way == "ends" and _writes(name, args, kwargs):
                self._end(chain)
        result = func(*args, **kwargs)
        for chain, way in zip(touched, ways, strict=True):
            same_shape = isinstance(result, Tensor) and result.shape == chain.tensor.shape
            if way == "advances" and same_shape:
                chain.advance(result)
            elif way == "same" and same_shape:
                chain.add_alias(result)
            elif chain in self._chains and any(map(_holds_values, _tensors(result))):
                self._end(chain)
        return result


class _Chain:
    """One layer's output on its way."""

    def __init__(self, layer: int, tensor: Tensor) -> None:
        self.layer = layer
        self.tensor = tensor
        self._version = _version(tensor)
        self._aliases = [tensor]
        self._sources: list[weakref.ref[Tensor]] = []

    @property
    def overwritten(self) -> bool:
        return _version(self.tensor) != self._version

    def holds(self, tensor: Tensor) -> bool:
        """Whether *tensor* has the values followed."""
        return any(tensor is alias for alias in self._aliases)

    def came_from(self, tensor: Tensor) -> bool:
        """Whether the values followed were computed from *tensor*."""
        return any(tensor is source() for source in self._sources)

    def add_alias(self, tensor: Tensor) -> None:
        if not self.holds(tensor):
            self._aliases.append(tensor)

    def advance(self, tensor: Tensor) -> None:
        self._sources += [weakref.ref(alias) for alias in self._aliases if alias is not tensor]
        self._aliases = [tensor]
        self.tensor = tensor
        self._version = _version(tensor)


def _way(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, chain: _Chain) -> str:
    """How a function treats the values followed: ``advances``, ``same`` or ``ends``."""
    first = args[0] if args else kwargs.get("input")
    operands = [item for item in args[:2] if isinstance(item, Tensor)]
    if name.rstrip("_") in _STEPS:
        return "advances" if isinstance(first, Tensor) and chain.holds(first) else "ends"
    if name in _SAME_VALUES or (name in _DROPOUTS and not _is_active(name, args, kwargs)):
        return "same" if isinstance(first, Tensor) and chain.holds(first) else "ends"
    if name in _PRODUCTS and len(operands) == 2:
        # x * sigmoid(x), a nonlinearity written by hand
        own = all(chain.holds(item) or chain.came_from(item) for item in operands)
        return "advances" if own else "ends"
    return "ends"


def _writes(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    in_place = kwargs.get("inplace", name in _DROPOUTS and len(args) > 3 and args[3])
    method = name.endswith("_") and not name.endswith("__")
    return bool(method or in_place or name in _IN_PLACE_OPERATORS or "out" in kwargs)


def _is_active(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a dropout drops; the third argument of each says so."""
    if len(args) > 2:
        return bool(args[2])
    return bool(kwargs.get("training", kwargs.get("train", "alpha" not in name)))


def _name(func: Any) -> str:
    name = str(getattr(func, "__name__", ""))
    if name == "__get__":  # reading an attribute, for example ``Tensor.shape``
        return str(getattr(func.__self__, "__name__", ""))
    return name.split(".", maxsplit=1)[0]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)  # noqa: SLF001


def _holds_values(tensor: Tensor) -> bool:
    """Whether reading this is more than a look, such as ``isnan`` or ``>``."""
    return tensor.is_floating_point()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
