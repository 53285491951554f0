"""Seeing the arguments of a model's next call, compiled or not."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch

from tensorview.capture.hooks import Hook
from tensorview.capture.layers import unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


class FirstCall:
    """Waits for one call of a model, then is gone.

    Args:
        model: as the user calls it, wrappers included.
        receive: called with the positional and keyword arguments; must not raise.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        receive: Callable[[tuple[Any, ...], dict[str, Any]], None],
    ) -> None:
        self._receive = receive
        self._model = weakref.ref(model)
        self._seen = False
        self._taps: list[Any] = []
        self._inlined: list[Any] = []
        eager = unwrap(model)
        if eager._compiled_call_impl is None:  # noqa: SLF001
            self._taps = [model.register_forward_pre_hook(Hook(self._hook), with_kwargs=True)]
        else:
            self._taps = [_CompiledCallTap(eager, self._see)]

    def follow_compiled(self) -> bool:
        """Look for the compiled form of a model that was compiled after we came to it.

        Compiled code has the hook inlined, as nothing. It stays there until `remove`, since taking
        it away would make torch compile the model again.

        Returns:
            Whether there is hope to see a call.
        """
        model = self._model()
        if self._seen or model is None:
            return False
        if self._inlined:
            return True
        eager = unwrap(model)
        wrapper = _find_wrapper(eager)
        if wrapper is None and eager._compiled_call_impl is None:  # noqa: SLF001
            return False
        self._inlined = self._taps
        self._taps = [
            _CompiledCallTap(eager, self._see)
            if wrapper is None
            else wrapper.register_forward_pre_hook(Hook(self._hook), with_kwargs=True)
        ]
        return True

    def remove(self) -> None:
        """Leave nothing behind."""
        for tap in (*self._taps, *self._inlined):
            tap.remove()
        self._taps, self._inlined = [], []

    def _hook(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.compiler.is_compiling():
            self._see(args, kwargs)

    def _see(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._seen:
            return
        self._seen = True
        for tap in self._taps:
            tap.remove()
        self._taps = []
        self._receive(args, kwargs)


class _CompiledCallTap:
    """Stands before the compiled call of a model compiled in place, ``model.compile()``."""

    def __init__(
        self, model: nn.Module, see: Callable[[tuple[Any, ...], dict[str, Any]], None]
    ) -> None:
        self._model = weakref.ref(model)
        self._compiled: Any = model._compiled_call_impl  # noqa: SLF001
        self._see = see
        model._compiled_call_impl = self  # noqa: SLF001

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._see(args, kwargs)
        return self._compiled(*args, **kwargs)

    def remove(self) -> None:
        model = self._model()
        if model is not None and model._compiled_call_impl is self:  # noqa: SLF001
            model._compiled_call_impl = self._compiled  # noqa: SLF001


def _find_wrapper(eager: nn.Module) -> nn.Module | None:
    """Find what `torch.compile` made of *eager*; nothing in *eager* refers to it."""
    if "torch._dynamo" not in sys.modules:
        return None
    return next(
        (
            candidate
            for candidate in gc.get_objects()
            if type(candidate).__name__ == "OptimizedModule"
            and isinstance(candidate, torch.nn.Module)
            and unwrap(candidate) is eager
        ),
        None,
    )
