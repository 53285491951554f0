"""Measuring activations: from the probe, or from one training batch as it passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

from tensorview.bounds import ActivationPlan, plan_activations
from tensorview.capture.activations import RunningActivations, channels_second
from tensorview.capture.following import Following
from tensorview.capture.hooks import Hook
from tensorview.capture.probe import (
    in_chunks,
    is_recording_graph,
    probing,
    run_probe,
    take_probe,
)
from tensorview.signals import handlers_deferred

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from tensorview.capture.layers import WatchedLayer
    from tensorview.capture.probe import Probe

_Result = TypeVar("_Result")


class Measurement:
    """Measures the activations of one model's layers, capture after capture.

    Args:
        model: unwrapped.
        layers: of it.
        point: see `tensorview.capture.following.Following`.
        variant: see `tensorview.analysis.correlation`.
        samples: of which single maps are wanted.

    Attributes:
        plans: by layer, None where it has no activations; empty until `inspect`.
        warnings: by layer index, what is missing or ambiguous in the last pass.
        lost: names of what the probe changed in the model and could not put back.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[WatchedLayer],
        *,
        point: str,
        variant: str,
        samples: Sequence[int],
    ) -> None:
        self.plans: list[ActivationPlan | None] = []
        self.warnings: dict[int, str] = {}
        self.lost: list[str] = []
        self._model = model
        self._layers = layers
        self._point = point
        self._variant = variant
        self._samples = samples
        self._chunk: int | None = None
        self._sizes: list[tuple[int, ...] | None] = []
        self._shown_samples: list[int] = []
        self._probe_size = 0
        self._focus = ""

    def focus(self, layer: str) -> None:
        """From now on give *layer* the bounds first, "" to share them out alike."""
        self._focus = layer
        if self.plans:
            self._plan()

    def inspect(self, probe: Probe) -> None:
        """Run the probe once to learn the shapes, and share out what activations may take.

        Raises:
            CaptureError: the model cannot take the probe.
        """
        sizes: list[tuple[int, ...] | None] = [None] * len(self._layers)

        def receive(index: int, activation: Tensor) -> None:
            sizes[index] = tuple(channels_second(activation, self._layers[index]).shape[1:])

        def first_chunk(chunk: int) -> None:
            with Following(self._layers, point=self._point, receive=receive) as following:
                run_probe(self._model, probe, stop=chunk)
            self.warnings = following.warnings

        with probing(self._model, among_threads=True) as self.lost:
            self._in_chunks(probe.size, first_chunk)
        self._sizes = sizes
        self._probe_size = probe.size
        self._shown_samples = [sample for sample in self._samples if sample < probe.size]
        self._plan()

    def _plan(self) -> None:
        self.plans = plan_activations(
            self._layers,
            sizes=self._sizes,
            probe_size=self._probe_size,
            samples=self._shown_samples,
            focus=self._focus,
        )

    def measure(self, probe: Probe) -> dict[int, RunningActivations]:
        """Run the probe and return what it shows, by layer index.

        Raises:
            CaptureError: the model cannot take the probe, or not even one sample fits in memory.
        """
        if not self.plans:
            self.inspect(probe)

        def whole(chunk: int) -> dict[int, RunningActivations]:
            running: dict[int, RunningActivations] = {}
            self.warnings = {}
            for start in range(0, probe.size, chunk):
                samples = min(chunk, probe.size - start)
                with self.follow(running, start=start, samples=samples) as following:
                    run_probe(self._model, probe, start=start, stop=start + samples)
                self.warnings.update(following.warnings)
            return running

        with probing(self._model, among_threads=True) as self.lost:
            return self._in_chunks(probe.size, whole)

    def follow(
        self, running: dict[int, RunningActivations], *, start: int, samples: int
    ) -> Following:
        """Return a mode that adds what it sees in one pass to *running*."""

        def receive(index: int, activation: Tensor) -> None:
            plan = self.plans[index]
            if plan is None:
                return
            maps = channels_second(activation, self._layers[index])
            if tuple(maps.shape[1:]) != plan.size:
                running.pop(index, None)
                following.warnings[index] = (
                    f"Layer {self._layers[index].name!r} gave activations of shape "
                    f"{tuple(maps.shape[1:])} where {plan.size} was seen before: they are not "
                    f"shown."
                )
                return
            if start and index not in running:  # an earlier chunk of it was left out
                return
            found = running.setdefault(index, RunningActivations(plan, variant=self._variant))
            with torch.no_grad(), torch.autocast(maps.device.type, enabled=False):
                found.add(maps, start=start, samples=samples)

        following = Following(self._layers, point=self._point, receive=receive)
        return following

    def _in_chunks(self, size: int, action: Callable[[int], _Result]) -> _Result:
        result, self._chunk = in_chunks(min(size, self._chunk or size), action)
        return result


class BatchPass:
    """Measures one training forward pass by hooks that exist until it is over.

    It is the next one in training mode and with gradients: a validation pass is let go by.
    The pass itself computes what it would have: activations are read, never replaced.

    Args:
        model: unwrapped and not compiled.
        measurement: whose layers are watched.

    Attributes:
        running: by layer index, what was seen; empty until the pass is over.
        samples: in the batch.
        fault: what went wrong, "" for nothing; nothing of ours reaches the training.
    """

    def __init__(self, model: nn.Module, measurement: Measurement) -> None:
        self.running: dict[int, RunningActivations] = {}
        self.samples = 0
        self.fault = ""
        self._measurement = measurement
        self._following: Following | None = None
        self._state = "waiting"
        self._hooks = [
            model.register_forward_pre_hook(Hook(self._before), with_kwargs=True),
            model.register_forward_hook(Hook(self._after), always_call=True),
        ]

    def detach(self) -> None:
        """Leave nothing behind, also where the pass was interrupted or never came."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        following, self._following = self._following, None
        if following is not None:
            following.__exit__(None, None, None)
            self._measurement.warnings = dict(following.warnings)

    @handlers_deferred()
    def _before(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        if self._state != "waiting":  # a pass inside the pass, or our own look at the shapes
            return
        if not (model.training and torch.is_grad_enabled()) or is_recording_graph():
            return
        self._state = "looking"
        try:
            probe = take_probe(model, args, kwargs, samples=None)
            if not self._measurement.plans:
                self._measurement.inspect(probe)
            self.samples = probe.size
            following = self._measurement.follow(self.running, start=0, samples=probe.size)
            following.receive = self._shielded(following.receive)
            self._following = following.__enter__()
            self._state = "following"
        except Exception as error:  # noqa: BLE001  # the training's own pass goes on
            self.fault = str(error)

    @handlers_deferred()
    def _after(self, *_: Any) -> None:
        if self._state != "following":
            return
        try:
            self.detach()
        except Exception as error:  # noqa: BLE001  # the training's own pass goes on
            self.fault = str(error)

    def _shielded(self, receive: Callable[[int, Tensor], None]) -> Callable[[int, Tensor], None]:
        @handlers_deferred()
        def shielded(index: int, activation: Tensor) -> None:
            try:
                receive(index, activation)
            except Exception as error:  # noqa: BLE001  # the training's own pass goes on
                self.running.pop(index, None)
                self.fault = str(error)

        return shielded
