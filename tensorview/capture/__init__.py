"""Taking captures: weights, gradients and activations, reduced on the model's device.

The only part of tensorview, beside `tensorview.watch`, `tensorview.analysis` and
`tensorview.pruning`, that knows torch.
"""

from tensorview.capture.capturer import Capturer, Kept, Sketches
from tensorview.capture.first_rank import is_first_rank, is_only_rank, is_wrapped
from tensorview.capture.layers import unwrap
from tensorview.capture.pending import PendingCapture
from tensorview.capture.result import CaptureResult, LayerCapture

__all__ = [
    "CaptureResult",
    "Capturer",
    "Kept",
    "LayerCapture",
    "PendingCapture",
    "Sketches",
    "is_first_rank",
    "is_only_rank",
    "is_wrapped",
    "unwrap",
]
