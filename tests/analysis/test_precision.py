"""Keeping the digits of float32 where the user lets a GPU round them."""

import pytest
import torch

from tensorview.analysis.precision import whole_float32


def tf32():
    """Whether products and convolutions may be rounded."""
    if hasattr(torch.backends.cudnn, "conv"):
        return [
            torch.backends.cuda.matmul.fp32_precision == "tf32",
            torch.backends.cudnn.conv.fp32_precision == "tf32",
        ]
    return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]


def test_float32_is_whole_within_and_as_the_user_set_it_afterwards():
    """Also where the block fails."""

    def fail():
        with whole_float32():
            assert tf32() == [False, False]
            raise ZeroDivisionError

    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ZeroDivisionError):
            fail()

        assert torch.get_float32_matmul_precision() == "high"
        assert tf32() == [True, True]
    finally:
        torch.set_float32_matmul_precision("highest")
