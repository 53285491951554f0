"""Functions of ours that torch.compile calls but never looks into."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def uncompiled(function: Callable[[], None]) -> Callable[..., None]:
    """Return a hook that calls *function*, also from a compiled optimizer step, untraced.

    `torch.compiler.disable` imports the compiler, which takes seconds: only where it is loaded.
    """
    disabled: list[Callable[..., Any]] = []

    def hook(*_: Any) -> None:
        if "torch._dynamo" not in sys.modules:
            function()
            return
        if not disabled:
            disabled.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        disabled[0]()

    hook._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001  # what it sets
    return hook
