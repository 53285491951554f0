"""A capture between its beginning on the device and its end on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensorview.capture.result import CaptureResult, describe_layer

if TYPE_CHECKING:
    from tensorview.bounds import WeightPlan
    from tensorview.capture.layers import WatchedLayer
    from tensorview.capture.transfer import Transfer


@dataclass(frozen=True, kw_only=True, eq=False)
class PendingCapture:
    """A capture whose numbers are on their way to the host. Made by `Capturer.begin`."""

    transfer: Transfer
    keys: list[list[str]]
    layers: list[WatchedLayer]
    weight_plans: list[WeightPlan]
    activation_plans: list[Any]
    map_samples: dict[int, tuple[int, ...]]
    samples: int

    def ready(self) -> bool:
        """Whether `finish` returns at once; always so without CUDA."""
        return self.transfer.ready()

    def finish(self) -> CaptureResult:
        """Return the numbers; waits for the device where they are not `ready`."""
        arrays = iter(self.transfer.finish())
        return CaptureResult(
            layers=tuple(
                describe_layer(
                    layer,
                    {key: next(arrays) for key in keys},
                    weight_plan=self.weight_plans[index],
                    map_samples=self.map_samples.get(index, ()),
                    activation_plan=(
                        self.activation_plans[index] if index in self.map_samples else None
                    ),
                    samples=self.samples,
                )
                for index, (layer, keys) in enumerate(zip(self.layers, self.keys, strict=True))
            )
        )
