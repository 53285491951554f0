"""Matrix products that keep their digits, whatever precision the user trades for speed."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which to multiply matrices of *dtype* without loss.

    *dtype* only where the user has not allowed float32 products to be rounded to TF32 or bfloat16,
    else float64.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exact = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # both of PyTorch's interfaces to this setting were used
        exact = False
    return dtype if exact else torch.float64


@contextlib.contextmanager
def whole_float32() -> Iterator[None]:
    """Within, a GPU rounds no float32 product or convolution to TF32, whatever the user allows."""
    backends: Any = torch.backends
    switches: list[Any] = [backends.cuda.matmul, backends.cudnn]
    setting: tuple[str, Any] = ("allow_tf32", False)
    if hasattr(backends.cudnn, "conv"):  # since PyTorch 2.9
        switches = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
        setting = ("fp32_precision", "ieee")
    name, exact = setting
    before = [getattr(switch, name) for switch in switches]
    for switch in switches:
        setattr(switch, name, exact)
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, name, value)
