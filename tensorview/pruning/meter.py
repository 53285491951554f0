"""What a change of the model costs, measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tensorview.capture.probe import in_chunks, probing, run_probe
from tensorview.errors import CaptureError, PruningError
from tensorview.pruning.proof import floating_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from tensorview.capture.probe import Probe


CHUNK = 64
"""Samples that a model is given at once, or fewer where memory is short."""


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
        self._chunk = min(probe.size, CHUNK)
        self._outputs: list[Tensor] = []
        self.before = 0.0
        if evaluate is None:
            self._outputs, self._chunk = self._run()
        else:
            self.before = self._value(evaluate)
            if not math.isfinite(self.before):
                raise PruningError(
                    f"Cannot judge what pruning costs: evaluate returned {self.before}."
                )

    def cost(self) -> float:
        """By how much *evaluate* has risen, or the outputs have changed."""
        if self._evaluate is not None:
            return self._value(self._evaluate) - self.before
        outputs, chunk = self._run()
        if chunk != self._chunk:
            raise PruningError(
                f"Cannot judge what pruning costs: memory has become short, so that the model no "
                f"longer takes {self._chunk} samples of the probe at once; free some, or give a "
                f"smaller probe."
            )
        squares = count = 0.0
        for before, now in zip(self._outputs, outputs, strict=True):
            squares += float((now.double() - before.double()).square().sum())
            count += now.numel()
        return squares / max(1.0, count)

    def _value(self, evaluate: Callable[[nn.Module], float]) -> float:
        with probing(self._model):
            try:
                return float(evaluate(self._model))
            except Exception as error:
                raise PruningError(
                    f"Cannot judge what pruning costs: evaluate failed with "
                    f"{type(error).__name__}: {error}. Expected a function model -> float."
                ) from error

    def _run(self) -> tuple[list[Tensor], int]:
        """Run the probe: outputs, pass after pass, and of how many samples a pass was."""

        def whole(chunk: int) -> list[Tensor]:
            return [
                tensor
                for start in range(0, self._probe.size, chunk)
                for tensor in floating_tensors(
                    run_probe(self._model, self._probe, start=start, stop=start + chunk)
                )
            ]

        try:
            with probing(self._model):
                return in_chunks(self._chunk, whole)
        except CaptureError as error:
            raise PruningError(str(error)) from error
