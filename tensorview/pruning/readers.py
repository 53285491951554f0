"""The modules that read a layer's filters: what they see over a probe, and editing their weights.

Weights are edited in place and put back bit for bit, so that a function of the user's that measures
the model need not care which copy of it is meant.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tensorview.analysis import correlation, distribution
from tensorview.capture.activations import channels_second
from tensorview.capture.following import Following
from tensorview.capture.layers import TRANSPOSED
from tensorview.capture.probe import in_chunks, probing, run_probe
from tensorview.errors import CaptureError, PruningError
from tensorview.pruning.fit import Fit, Seen, choose_ridges
from tensorview.pruning.meter import CHUNK
from tensorview.pruning.proof import floating_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from tensorview.analysis.correlation import Moments
    from tensorview.capture.layers import WatchedLayer
    from tensorview.capture.probe import Probe
    from tensorview.pruning.structure import Cut, Structure

_BLOCK_VALUES = 2**22
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """One module that reads the layer, and what it read over the probe.

    Attributes:
        cut: which of its inputs belong to each filter.
        shift: name of the module that can take a constant: the reader itself if it has a bias,
            else the BatchNorm that directly follows it and that alone uses its output, "" for none.
        gram: inner products of the kernels that read two filters, shape ``(F, F)``, float64.
        seen: what it read; about zero where a constant can go nowhere.
        ridges: for fits on it, see `tensorview.pruning.fit.choose_ridges`.
        unexplained: shape ``(F,)``, float64: share of each filter's variance that no combination
            of all others explains, on samples that these were not fitted on.
    """

    cut: Cut
    shift: str
    gram: NDArray[np.float64]
    seen: Seen
    ridges: NDArray[np.float64]
    unexplained: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """What a probe shows of one layer.

    Attributes:
        samples: in the probe.
        pcc: shape ``(F, F)``, float64: Pearson r of its activations, NaN for dead filters. Where
            other layers' outputs are added to its own, of what is read of the sum: of several
            readers, the r that is least in size.
        dead: shape ``(F,)``, bool: constant over the probe. With a sum, for every reader of it.
        readers: of its filters.
    """

    samples: int
    pcc: NDArray[np.float64]
    dead: NDArray[np.bool_]
    readers: tuple[Reader, ...]


def observe(
    model: nn.Module, layer: WatchedLayer, *, structure: Structure, probe: Probe
) -> Observed:
    """Run the probe and gather what is needed to judge and to merge the filters of *layer*.

    Raises:
        PruningError: the model cannot take the probe, or a value is not finite.
    """

    def whole(chunk: int) -> Observed:
        watch = _Watch(model, layer, structure)
        with contextlib.ExitStack() as hooks:
            for hook in watch.hooks():
                hooks.callback(hook.remove)
            for start in range(0, probe.size, chunk):
                watch.run(probe, start=start, stop=start + chunk)
        return watch.result(probe.size)

    try:
        with probing(model):
            return in_chunks(min(probe.size, CHUNK), whole)[0]
    except CaptureError as error:
        raise PruningError(str(error)) from error


class _Watch:
    """Adds up what one layer gives and what its readers read.

    Its own activation tells nothing where others are added to it: then only readers count.
    """

    def __init__(self, model: nn.Module, layer: WatchedLayer, structure: Structure) -> None:
        self._model = model
        self._layer = layer
        self._followed = [layer] if len(structure.writers) == 1 else []
        self._activation: Moments | None = None
        self._extremes: distribution.Extremes | None = None
        self._readings = [
            _Reading(cut=cut, module=model.get_submodule(cut.module)) for cut in structure.readers
        ]

    def run(self, probe: Probe, *, start: int, stop: int) -> None:
        """Run samples *start* to *stop*."""
        with (
            Following(self._followed, point="after", receive=self.receive),
            _Listening(self._readings) as listening,
        ):
            given = run_probe(self._model, probe, start=start, stop=stop)
        listening.count(given)

    def hooks(self) -> Iterator[Any]:
        for reading in self._readings:
            yield reading.module.register_forward_pre_hook(reading.before, with_kwargs=True)
            yield reading.module.register_forward_hook(reading.after)
        for name, module in self._model.named_modules():
            if isinstance(module, _NORMS) and module.running_mean is not None:
                hook = self._make_norm_hook(name)
                yield module.register_forward_pre_hook(hook, with_kwargs=True)

    def _make_norm_hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            read = _input(args, kwargs)
            for reading in self._readings:
                if read is reading.output:
                    reading.norm = name

        return hook

    def receive(self, _: int, activation: Tensor) -> None:
        maps = channels_second(activation, self._layer)
        flat = maps.flatten(2) if maps.ndim > 2 else maps[..., None]
        self._extremes = distribution.merge_extremes(
            self._extremes, distribution.find_extremes(flat)
        )
        self._activation = correlation.accumulate(self._activation, flat)

    def result(self, samples: int) -> Observed:
        readers = tuple(reading.reader(self._layer.name) for reading in self._readings)
        if not self._followed:
            pcc = _least([_correlation(reading.whole()) for reading in self._readings])
            dead = np.isnan(pcc.diagonal())
        elif self._activation is None or self._extremes is None:
            raise PruningError(
                f"Cannot prune layer {self._layer.name!r}: its activations cannot be followed."
            )
        else:
            pcc = _correlation(self._activation)
            dead = self._extremes.dead.cpu().numpy()
        return Observed(samples=samples, pcc=pcc, dead=dead, readers=readers)


def _correlation(moments: Moments) -> NDArray[np.float64]:
    return np.asarray(correlation.correlate(moments).cpu().numpy())


def _least(found: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Of several correlations of a pair the least in size; NaN only where all are."""
    every = np.stack(found)
    size = np.where(np.isnan(every), np.inf, np.abs(every))
    return np.asarray(np.take_along_axis(every, size.argmin(0)[None], 0)[0])


@dataclass(kw_only=True, eq=False)
class _Reading:
    """What one reader has read so far."""

    cut: Cut
    module: nn.Module
    norm: str = ""
    output: Tensor | None = None
    heard: int = 0
    rows: int = 0
    halves: list[Moments | None] = field(default_factory=lambda: [None, None])

    def before(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        values = _by_filter(_input(args, kwargs).detach(), self.module, self.cut)
        samples = max(1, _BLOCK_VALUES // max(1, values[0].numel()))
        for half in (0, 1):
            # All in double: a copy of a filter is to be found as exactly one.
            for block in torch.split(values[(half + self.rows) % 2 :: 2], samples):
                self.halves[half] = correlation.accumulate(self.halves[half], block.double())
        self.rows += len(values)

    def after(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.output, self.heard = output, 0

    def whole(self) -> Moments:
        """Both halves together; one of them at least is there."""
        first, second = self.halves
        return cast("Moments", first if second is None else correlation.merge(first, second))

    def reader(self, layer: str) -> Reader:
        self.output = None
        norm = self.norm if self.heard == 1 else ""
        shift = self.cut.module if getattr(self.module, "bias", None) is not None else norm
        moments = [half for half in self.halves if half is not None and half.count]
        if not moments:
            raise PruningError(
                f"Cannot prune layer {layer!r}: {self.cut.module!r}, which reads it, was not "
                f"called."
            )
        seen = [_seen(each) for each in (self.whole(), *moments)]
        if not all(np.isfinite(each.covariance).all() for each in seen):
            raise PruningError(
                f"Cannot prune layer {layer!r}: what {self.cut.module!r} reads of it is not finite."
            )
        if not shift:
            seen = [each.about_zero() for each in seen]
        kernels = _columns(self.module, self.cut).flatten(1)
        gram = (kernels @ kernels.T).cpu().numpy()
        ridges, unexplained = choose_ridges(seen[1:])
        return Reader(
            cut=self.cut,
            shift=shift,
            gram=gram,
            seen=seen[0],
            ridges=ridges,
            unexplained=unexplained,
        )


class _Listening(TorchFunctionMode):
    """Counts, in one pass, what uses the values that each reader gives."""

    def __init__(self, readings: Sequence[_Reading]) -> None:
        super().__init__()
        self._readings = readings

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call *func*; what returns no floating tensor, such as ``dim``, only looks."""
        result = func(*args, **(kwargs or {}))
        if floating_tensors(result):
            self.count((args, kwargs))
        return result

    def count(self, used: Any) -> None:
        """Count the readers whose output is among the tensors of *used*."""
        tensors = floating_tensors(used)
        for reading in self._readings:
            reading.heard += any(tensor is reading.output for tensor in tensors)


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return what a Conv, Linear or BatchNorm was called with."""
    return cast("Tensor", args[0] if args else kwargs["input"])


def _seen(moments: Moments) -> Seen:
    return Seen(
        count=moments.count,
        mean=moments.mean.cpu().numpy(),
        covariance=(moments.comoment / moments.count).cpu().numpy(),
    )


def _by_filter(values: Tensor, module: nn.Module, cut: Cut) -> Tensor:
    """Bring a reader's input to ``(N, F, P)``: what belongs to each filter."""
    entries = torch.from_numpy(cut.entries).to(values.device)
    if isinstance(module, nn.Linear):
        features = values.shape[-1]
        rows = values.reshape(len(values) if values.ndim > 1 else 1, -1, features)
        return rows[:, :, entries].permute(0, 2, 1, 3).reshape(len(rows), len(entries), -1)
    if values.ndim < cast("Tensor", module.weight).ndim:
        values = values[None]
    return values[:, entries[:, 0]].reshape(len(values), len(entries), -1)


def _inputs_first(module: nn.Module) -> Tensor:
    """View of the weight with the module's input axis first."""
    weight = cast("Tensor", module.weight).data
    return weight if isinstance(module, TRANSPOSED) else weight.movedim(1, 0)


def _columns(module: nn.Module, cut: Cut) -> Tensor:
    """Kernels that read each filter, a copy: shape ``(F, n, *)``, float64."""
    weight = _inputs_first(module)
    return weight[torch.from_numpy(cut.entries).to(weight.device)].double()


def silence(model: nn.Module, cut: Cut, *, removed: NDArray[np.int64]) -> None:
    """Let a reader hear nothing of the removed filters, in place."""
    weight = _inputs_first(model.get_submodule(cut.module))
    weight[torch.from_numpy(cut.entries[removed].ravel()).to(weight.device)] = 0.0


def fold(
    model: nn.Module,
    cut: Cut,
    *,
    shift: str,
    fit: Fit,
    removed: NDArray[np.int64],
    kept: NDArray[np.int64],
) -> None:
    """Let kept filters stand for the removed ones in a reader, in place, and silence those.

    Args:
        model: unwrapped.
        cut: the reader, and which of its inputs belong to each filter.
        shift: see `Reader`: a bias takes the constants, and the running mean of a BatchNorm moves
            the other way.
        fit: the removed filters by the kept ones.
        removed: shape ``(R,)``.
        kept: shape ``(K,)``.
    """
    module = model.get_submodule(cut.module)
    kernels = _columns(module, cut)
    gone = kernels[removed]
    weight = _inputs_first(module)
    coefficients = torch.from_numpy(fit.coefficients).to(gone.device)
    stronger = kernels[kept] + torch.einsum("rk,r...->k...", coefficients, gone)
    weight[torch.from_numpy(cut.entries[kept]).to(weight.device)] = stronger.to(weight.dtype)
    silence(model, cut, removed=removed)
    if shift:
        constants = torch.from_numpy(fit.constants).to(gone.device)
        # Past the axes of filters and positions come the outputs, then the taps of a kernel.
        heard = gone.sum(1).reshape(len(removed), gone.shape[2], -1).sum(2)
        if isinstance(module, TRANSPOSED):
            heard /= math.prod(module.stride)  # the taps take turns: each position hears one share
        change = torch.einsum("r,ro->o", constants, heard)
        taker = model.get_submodule(shift)
        shifted = _shifted(taker)
        shifted.add_((-change if isinstance(taker, _NORMS) else change).to(shifted.device))


@contextlib.contextmanager
def restored(model: nn.Module, readers: Sequence[Reader]) -> Iterator[None]:
    """Put back, bit for bit, what the block does to the weights of *readers*."""
    tensors = [
        tensor
        for reader in readers
        for tensor in folded_into(model, reader=reader.cut.module, shift=reader.shift)
    ]
    copies = [tensor.clone() for tensor in tensors]
    try:
        yield
    finally:
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)


def folded_into(model: nn.Module, *, reader: str, shift: str) -> list[Tensor]:
    """Return the tensors that `fold` changes: the weight of *reader*, and what *shift* holds."""
    weight = cast("Tensor", model.get_submodule(reader).weight).data
    return [weight, _shifted(model.get_submodule(shift))] if shift else [weight]


def _shifted(taker: nn.Module) -> Tensor:
    """What a constant changes in the module that takes it."""
    if isinstance(taker, _NORMS):
        return cast("Tensor", taker.running_mean)
    return cast("Tensor", taker.bias).data
