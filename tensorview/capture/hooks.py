"""Hooks on a model that no copy or pickle of the model takes along."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Hook:
    """Calls *function*; its copies and pickles do nothing, and need nothing of tensorview.

    A model may be copied (for an average of its weights) or saved whole while a hook of ours is on
    it. What takes the hook's place there is a function of the standard library that accepts
    anything and returns None.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._function(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        """Stand for ``contextlib.nullcontext().__exit__``."""
        return getattr, (contextlib.nullcontext(), "__exit__")
