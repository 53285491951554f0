"""Taking one capture: weights, gradients and activations, reduced where the model is.

Nothing between `Capturer.begin` and `PendingCapture.finish` waits for the device.
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from tensorview.analysis.sketch import sketch
from tensorview.analysis.trajectory import parse_axes
from tensorview.bounds import plan_weights
from tensorview.capture.first_call import FirstCall
from tensorview.capture.layers import (
    in_original_shape,
    is_compiled,
    read_weight,
    select_layers,
    shrunk,
    unwatched_modules,
    unwrap,
)
from tensorview.capture.measure import BatchPass, Measurement
from tensorview.capture.pending import PendingCapture
from tensorview.capture.probe import (
    evaluating,
    follow_model,
    given_probe,
    is_recording_graph,
    take_probe,
)
from tensorview.capture.transfer import HostMemory, Transfer
from tensorview.capture.weights import reduce_weight
from tensorview.errors import CaptureError, ConfigurationError
from tensorview.signals import handlers_deferred

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from tensorview.capture.activations import RunningActivations
    from tensorview.capture.probe import Probe
    from tensorview.settings import Settings

log = logging.getLogger("tensorview")

Kept: TypeAlias = "Mapping[str, tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]]"
"""By module, which of its outputs and which of its inputs are left; None for all of them."""

Sketches = list["Tensor | None"]
"""By layer, see `tensorview.analysis.sketch`; on the model's device, None where there is none."""

_ACTIVATION_VIEWS = {"distribution", "maps", "correlation"}


class Capturer:
    """Captures one model.

    Args:
        model: unwrapped, or a stand-in that shares everything with it.
        settings: what to capture.

    Attributes:
        layers: watched, in the model's own order, as they are now.
        axes: layer name -> triples of weight indices whose path is shown, in the original shape.
        focused: the layer that has the bounds first, "" for none.

    Raises:
        ConfigurationError: layers, trajectory axes or samples of a given probe that are not there,
            or cannot be watched.
        CaptureError: a given probe that the model cannot take.
    """

    def __init__(self, model: nn.Module, *, settings: Settings) -> None:
        self._model = model
        self._settings = settings
        with evaluating(model):
            self.layers = select_layers(model, settings.layers)
            self._itemsizes = [read_weight(layer).element_size() for layer in self.layers]
        shapes = {layer.name: layer.weight_shape for layer in self.layers}
        self.focused = ""
        self.axes = parse_axes(settings.trajectory_axes, shapes=shapes)
        self._weight_plans = plan_weights(self.layers, itemsizes=self._itemsizes)
        self._pool = HostMemory()
        self._said: set[str] = set()
        self._outer: weakref.ref[nn.Module] | None = None
        self._batch: BatchPass | None = None
        self._outgrown = False
        self._tap: FirstCall | None = None
        self._probe: Probe | None = None
        self._wants_activations = bool(_ACTIVATION_VIEWS & set(settings.views))
        self._measurement = self._new_measurement()
        if settings.probe is not None:  # filters are judged on it, too
            self._probe = given_probe(model, settings.probe)
            if self._wants_activations:
                self._check_map_samples(self._probe.size)
                self._measurement.inspect(self._probe)
        unwatched = unwatched_modules(model)
        if unwatched and settings.layers is None:
            log.warning("Not watched, being of other kinds: %s.", ", ".join(unwatched))

    def _new_measurement(self) -> Measurement:
        measurement = Measurement(
            self._model,
            self.layers,
            point=self._settings.activation_point,
            variant=self._settings.correlation,
            samples=self._settings.map_samples,
        )
        measurement.focus(self.focused)
        return measurement

    @property
    def reduced(self) -> tuple[str, ...]:
        """One sentence a layer that is not shown in full; activations once they are known."""
        return tuple(
            f"{layer.name}: {plan.reduced}"
            for plans in (self._weight_plans, self._measurement.plans)
            for layer, plan in zip(self.layers, plans, strict=False)
            if plan is not None and plan.reduced
        )

    def shrink(self, kept: Kept) -> dict[str, int]:
        """Go on with a model that has become smaller, between two of its passes.

        What is captured from now on has the new shapes. Paths go on in the space of the weights as
        they were when watching began, where what was removed is 0. Of a training batch that was
        measured before, nothing is shown.

        Args:
            kept: by module name (any of a shared one), in the numbers of just before, shape
                ``(n,)``, int64: the outputs and the inputs that are left, None for all. Modules
                that are not watched are left out.

        Returns:
            How many filters were removed of every watched layer that became smaller: 0 of one of
            which only inputs were.

        Raises:
            CaptureError: a weight has not become what *kept* says.
        """
        modules = dict(self._model.named_modules(remove_duplicate=False))
        modules.update((layer.name, layer.module) for layer in self.layers)
        axes = {id(modules[name]): axes for name, axes in kept.items() if name in modules}
        former = self.layers
        with evaluating(self._model):
            self.layers = [
                shrunk(layer, outputs=outputs, inputs=inputs)
                for layer in former
                for outputs, inputs in [axes.get(id(layer.module), (None, None))]
            ]
        self._weight_plans = plan_weights(
            self.layers, itemsizes=self._itemsizes, focus=self.focused
        )
        self._measurement = self._new_measurement()
        self._outgrown = self._batch is not None and bool(self._batch.running)
        if self._batch is not None:
            self._detach_from_batch()
            if not self._outgrown:
                self.attach_to_batch()
        return {
            layer.name: was.out - layer.out
            for was, layer in zip(former, self.layers, strict=True)
            if was.weight_shape != layer.weight_shape
        }

    def describe(self) -> dict[str, Any]:
        """Return what a run directory keeps about the layers, ready for JSON."""
        return {
            "layers": [
                {"name": layer.name, "kind": layer.kind, "weight_shape": list(layer.weight_shape)}
                for layer in self.layers
            ]
        }

    def wait_for_probe(self, model: nn.Module) -> None:
        """Take the probe from the next call of *model*, or attach to it in batch mode.

        Args:
            model: as the user calls it, wrappers included.

        Raises:
            ConfigurationError: batch mode on a compiled model.
        """
        self._outer = weakref.ref(model)
        if self.takes_batches:
            if is_compiled(model):
                raise ConfigurationError(
                    "activations='batch' cannot be used on a compiled model: leave it out, and the "
                    "probe runs through the eager one."
                )
            self.attach_to_batch()
        elif self._probe is None and (self._wants_activations or self._settings.prune):
            self._tap = FirstCall(model, receive=self._take_probe)

    def focus(self, layer: str) -> None:
        """From now on give *layer* the snapshot's bounds first, "" to share them out alike.

        In batch mode to be called before `attach_to_batch`: what was measured stays as it was
        planned.
        """
        if layer != self.focused:
            self.focused = layer
            self._weight_plans = plan_weights(self.layers, itemsizes=self._itemsizes, focus=layer)
            self._measurement.focus(layer)

    @property
    def probe(self) -> Probe | None:
        """The batch that activations are taken from, None while there is none."""
        return self._probe

    @property
    def takes_batches(self) -> bool:
        """Whether activations come from the training's batches."""
        return self._settings.activations == "batch"

    @property
    def lacks_batch(self) -> bool:
        """Whether activations come from the training's batches, and none was measured just now."""
        return (
            self.takes_batches
            and self._wants_activations
            and not (self._batch is not None and self._batch.running)
        )

    def attach_to_batch(self) -> None:
        """Measure the next training pass, for the capture that follows it."""
        self._detach_from_batch()
        outer = self._outer() if self._outer is not None else None
        if self._wants_activations and outer is not None:
            self._outgrown = False
            self._batch = BatchPass(unwrap(outer), self._measurement)

    def detach(self) -> None:
        """Remove every hook of ours."""
        if self._tap is not None:
            self._tap.remove()
        self._detach_from_batch()

    def sketch_weights(self) -> Sketches:
        """Sketch all weights as they are now, in their original shapes, for the update ratio.

        Raises:
            CaptureError: a CUDA graph is being recorded.
        """
        _check_not_recording()
        with evaluating(self._model), torch.no_grad():
            return [sketch(in_original_shape(read_weight(layer), layer)) for layer in self.layers]

    def begin(self, *, before: Sketches | None = None) -> PendingCapture:
        """Capture the model as it is now.

        Args:
            before: `sketch_weights` of before the optimizer step; without those of layers that
                shrank since.

        Returns:
            What is on its way; nothing that happens to the model afterwards changes it.

        Raises:
            CaptureError: a CUDA graph is being recorded; a layer has another shape than it had;
                activations that cannot be measured, if strict.
        """
        _check_not_recording()
        with evaluating(self._model):  # to read a parametrised weight in training may change it
            self._check_shapes()
        running, samples = self._activations()
        parts: list[dict[str, Tensor]] = []
        with evaluating(self._model), torch.no_grad():
            for index, layer in enumerate(self.layers):
                part = reduce_weight(
                    layer,
                    plan=self._weight_plans[index],
                    before=before[index] if before is not None else None,
                    axes=self.axes.get(layer.name, ()),
                    views=self._settings.views,
                )
                if index in running:
                    part.update(running[index].tensors())
                parts.append(part)
            keys = [list(part) for part in parts]
            tensors = [tensor for part in parts for tensor in part.values()]
            transfer = Transfer(tensors, pool=self._pool)
        if self.reduced:
            self._say(f"Not shown in full, to stay small: {'; '.join(self.reduced)}.")
        for warning in self._measurement.warnings.values():
            self._say(warning)
        if self._measurement.lost:
            self._say(
                f"Changed by the probe and too large to be put back: "
                f"{', '.join(self._measurement.lost)}."
            )
        beyond = self._beyond(samples)
        if running and beyond:
            self._say(f"Not shown, for there are not so many samples: map_samples={beyond}.")
        return PendingCapture(
            transfer=transfer,
            keys=keys,
            layers=self.layers,
            weight_plans=self._weight_plans,
            map_samples={index: found.map_samples for index, found in running.items()},
            activation_plans=self._measurement.plans,
            samples=samples,
        )

    def _check_shapes(self) -> None:
        for layer in self.layers:
            shape = tuple(layer.module.weight.shape)  # type: ignore[arg-type]
            if shape != layer.weight_shape:
                raise CaptureError(
                    f"Layer {layer.name!r} has a weight of shape {shape}, and had "
                    f"{layer.weight_shape}: remove filters by this watcher's prune(), or watch the "
                    f"model anew."
                )

    def _activations(self) -> tuple[dict[int, RunningActivations], int]:
        """What the layers do, by index, and over how many samples."""
        if not self._wants_activations:
            return {}, 0
        return self._of_batch() if self.takes_batches else self._of_probe()

    def _of_batch(self) -> tuple[dict[int, RunningActivations], int]:
        batch = self._batch
        self._detach_from_batch()
        if batch is None and self._outgrown:
            self._say(
                "Activations are not shown right after filters were removed: the training batch "
                "was measured before."
            )
            return {}, 0
        fault = batch.fault if batch is not None else ""
        if fault and self._settings.strict:
            raise CaptureError(f"The training batch was not measured. {fault}")
        if batch is None or not batch.running:
            self._say(f"The training batch was not measured. {fault}".strip())
            return {}, 0
        return batch.running, batch.samples

    def _of_probe(self) -> tuple[dict[int, RunningActivations], int]:
        if self._probe is None:
            self._explain_missing_probe()
            return {}, 0
        self._probe = follow_model(self._probe, self._model)
        try:
            return self._measurement.measure(self._probe), self._probe.size
        except CaptureError as error:
            if self._settings.strict:
                raise
            self._say(f"Activations are not shown. {error}")
            return {}, 0

    @handlers_deferred()
    def _take_probe(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._probe = take_probe(self._model, args, kwargs)
        except Exception as error:  # noqa: BLE001  # the training's own call goes on
            self._say(f"Activations are not shown. {error}")

    def _explain_missing_probe(self) -> None:
        if self._tap is None or not self._tap.follow_compiled():
            self._say(
                "Activations are not shown: the model was not called as a whole. Pass probe= a "
                "batch."
            )

    def _beyond(self, samples: int) -> list[int]:
        return [sample for sample in self._settings.map_samples if sample >= samples]

    def _check_map_samples(self, samples: int) -> None:
        beyond = self._beyond(samples)
        if beyond and self._settings.activations == "probe":
            raise ConfigurationError(
                f"map_samples={list(self._settings.map_samples)} cannot be used: the probe has "
                f"{samples} samples, so there is no {', '.join(map(str, beyond))}."
            )

    def _detach_from_batch(self) -> None:
        if self._batch is not None:
            self._batch.detach()
            self._batch = None

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)


def _check_not_recording() -> None:
    if is_recording_graph():
        raise CaptureError(
            "Cannot capture while a CUDA graph is recorded: call watcher.step() after each replay, "
            "outside of the recording."
        )
