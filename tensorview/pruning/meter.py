"""What a change of the model costs, measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tensorview.capture.probe import probing, run_probe
from tensorview.errors import CaptureError, PruningError
from tensorview.pruning.proof import floating_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from tensorview.capture.probe import Probe


class Meter:
    """Compares the model as it is now with what it was when the comparison began.

    Args:
        model: unwrapped.
        probe: whose outputs are compared without *evaluate*.
        evaluate: ``model -> float``, lower is better, or None.

    Attributes:
        measure: ``"evaluate"``, or ``"output_change"``: the mean squared change of the model's
            outputs on the probe.
        before: of the model when the comparison began; 0 for ``"output_change"``.

    Raises:
        PruningError: *evaluate* fails or returns no number, or the model cannot take the probe.
    """

    def __init__(
        self, model: nn.Module, *, probe: Probe, evaluate: Callable[[nn.Module], float] | None
    ) -> None:
        self.measure = "output_change" if evaluate is None else "evaluate"
        self._model = model
        self._probe = probe
        self._evaluate = evaluate
        self._outputs: list[Tensor] = []
        self.before = 0.0
        if evaluate is None:
            self._outputs = self._run()
        else:
            self.before = self._value()
            if not math.isfinite(self.before):
                raise PruningError(
                    f"Cannot judge what pruning costs: evaluate returned {self.before}."
                )

    def cost(self) -> float:
        """By how much *evaluate* has risen, or the outputs have changed."""
        if self._evaluate is not None:
            return self._value() - self.before
        squares = count = 0.0
        for before, now in zip(self._outputs, self._run(), strict=True):
            squares += float((now.double() - before.double()).square().sum())
            count += now.numel()
        return squares / max(1.0, count)

    def _value(self) -> float:
        if self._evaluate is None:
            raise ValueError("there is nothing to evaluate")
        with probing(self._model):
            try:
                return float(self._evaluate(self._model))
            except Exception as error:
                raise PruningError(
                    f"Cannot judge what pruning costs: evaluate failed with "
                    f"{type(error).__name__}: {error}. Expected a function model -> float."
                ) from error

    def _run(self) -> list[Tensor]:
        try:
            with probing(self._model):
                return floating_tensors(run_probe(self._model, self._probe))
        except CaptureError as error:
            raise PruningError(str(error)) from error
