"""Statistics of one layer's activations, added up chunk by chunk on the model's device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from tensorview.analysis import correlation, distribution
from tensorview.bounds import ActivationPlan, fold_map

if TYPE_CHECKING:
    from torch import Tensor

    from tensorview.capture.layers import WatchedLayer


def channels_second(activation: Tensor, layer: WatchedLayer) -> Tensor:
    """Bring a layer's activation to ``(N, C, *)``, float32 or float64.

    A Linear's ``(N, ..., C)`` becomes ``(N, C, n)``, or ``(N, C)``. A call without a batch axis is
    one sample.
    """
    if activation.dtype not in (torch.float32, torch.float64):
        activation = activation.float()
    if isinstance(layer.module, nn.Linear):
        if activation.ndim == 1:
            return activation[None]
        moved = activation.movedim(-1, 1)
        return moved.flatten(2) if moved.ndim > 2 else moved
    unbatched = activation.ndim < len(layer.weight_shape)
    return activation[None] if unbatched else activation


class RunningActivations:
    """What is known of one layer's activations after the chunks added so far.

    Args:
        plan: what is to be kept.
        variant: of the correlation, see `tensorview.analysis.correlation`.
    """

    def __init__(self, plan: ActivationPlan, *, variant: str) -> None:
        self.plan = plan
        self._variant = variant
        self._count = 0
        self._labelled = True
        self._sum: Tensor | None = None
        self._samples: list[Tensor] = []
        self._extremes: distribution.Extremes | None = None
        self._histogram: distribution.Histogram | None = None
        self._moments: correlation.Moments | None = None

    def add(self, maps: Tensor, *, start: int, samples: int) -> None:
        """Add one chunk.

        Args:
            maps: shape ``(N, C, *)``, see `channels_second`; its last axes are as planned.
            start: probe index of the chunk's first sample.
            samples: samples in the chunk. Where the layer's own N is another number (a model that
                folds time or patches into the batch), no single map can be named after a sample,
                and none is kept.
        """
        flat = maps.flatten(2) if maps.ndim > 2 else maps[..., None]
        extremes = distribution.find_extremes(flat)
        self._extremes = distribution.merge_extremes(self._extremes, extremes)
        channels = flat.shape[1]
        if self.plan.channels < channels:
            # Computed on the device: an index sent there would be waited for.
            shown = torch.arange(self.plan.channels, device=flat.device)
            shown = shown * (channels - 1) // max(1, self.plan.channels - 1)
            flat, extremes = flat[:, shown], extremes.select(shown)
        chosen = flat[:, :, :: self.plan.position_step]
        self._histogram = distribution.accumulate(self._histogram, chosen, extremes=extremes)
        if self._variant == "position":
            self._moments = correlation.accumulate(self._moments, chosen)
        total = self._total(flat)
        self._sum = total if self._sum is None else self._sum + total
        self._count += len(flat)
        self._labelled &= len(flat) == samples
        self._samples += [
            self._picture(flat[index - start])
            for index in self.plan.samples
            if self._labelled and start <= index < start + samples
        ]

    def tensors(self) -> dict[str, Tensor]:
        """Return the results, all on the device.

        Keys: ``pcc histogram histogram_range zero_mass maps`` as in `tensorview.snapshot`, ``dead``
        (bool, of the channels shown), ``counts`` (int64: dead channels and non-finite values of
        all channels).
        """
        if self._sum is None or self._extremes is None or self._histogram is None:
            raise ValueError("no chunk was added")
        if self._variant == "batch_sum":
            self._moments = correlation.accumulate(None, self._sum[None])
        if self._moments is None:
            raise ValueError("no chunk was added")
        histogram, ranges, zero_mass = distribution.summarise(self._histogram)
        pictures = [self._picture(self._sum / max(1, self._count)), *self._kept_samples()]
        extremes = self._extremes
        non_finite = extremes.count * len(extremes.finite) - extremes.finite.sum()
        return {
            "pcc": correlation.correlate(self._moments).float(),
            "histogram": histogram,
            "histogram_range": ranges,
            "zero_mass": zero_mass,
            "maps": torch.stack(pictures),
            "dead": self._histogram.extremes.dead,
            "counts": torch.stack([extremes.dead.sum(), non_finite]),
        }

    @property
    def map_samples(self) -> tuple[int, ...]:
        """Probe indices of the single maps kept."""
        return self.plan.samples[: len(self._kept_samples())]

    def _kept_samples(self) -> list[Tensor]:
        return self._samples if self._labelled else []

    def _total(self, flat: Tensor) -> Tensor:
        """Sum over samples; what is to be correlated needs more digits than a picture."""
        if self._variant == "position":
            return distribution.over_samples(flat, lambda rows: rows.sum(0)).double()
        total = torch.zeros(flat.shape[1:], dtype=torch.float64, device=flat.device)
        for sample in flat:
            total += sample
        return total

    def _picture(self, flat: Tensor) -> Tensor:
        """Fold one ``(C, P)`` map and average it as planned: shape ``(C, H, W)``, float32."""
        picture = flat.reshape(1, len(flat), *fold_map(self.plan.size))
        stride = min(self.plan.stride, max(picture.shape[2:], default=1))
        if stride > 1:
            sides = [min(stride, side) for side in picture.shape[2:]]
            picture = functional.avg_pool2d(
                picture, sides, sides, ceil_mode=True, count_include_pad=False
            )
        return picture[0].float()
