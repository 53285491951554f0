"""Our work in the training's thread is not interrupted: the user's signal handlers come after it.

A handler may raise, to end a training or to have a checkpoint written, and what it raises belongs
to the training: amid our work it would be taken for a fault of ours, or leave modules in evaluation
mode. DataLoader has such a handler, too, for workers that were killed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_ALL = sorted(map(int, signal.valid_signals()))


@contextlib.contextmanager
def handlers_deferred() -> Iterator[None]:
    """Let Python's signal handlers wait until the end of the block; of Ctrl-C the first alone.

    Only in the main thread, where handlers run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and any(earlier == number for earlier, _ in came):
            # Who presses it twice does not want to wait.
            came[:] = [(other, at) for other, at in came if other != number]
            raise KeyboardInterrupt
        came.append((number, frame))

    def put_back() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    try:
        for number in _ALL:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, note)
        yield
    finally:
        try:
            put_back()
        except BaseException:  # a handler that is back has raised, amid the others
            put_back()
            raise
        finally:
            with contextlib.ExitStack() as calls:  # one that raises does not spare the others
                for number, frame in reversed(came):
                    calls.callback(handlers[number], number, frame)
