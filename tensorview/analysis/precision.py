"""Matrix products that keep their digits, whatever precision the user trades for speed."""

from __future__ import annotations

import warnings

import torch


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
