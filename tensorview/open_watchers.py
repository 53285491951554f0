"""The watchers that are open in this process: one a model, and one of them is shown live."""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from tensorview.settings import LiveTarget
    from tensorview.watcher import Watcher

log = logging.getLogger("tensorview")

open_watchers: dict[int, Watcher] = {}
"""By `id` of the eager model."""


def close_former(model: nn.Module) -> None:
    """Close the watcher of *model*, if there is one: a notebook runs its cell again."""
    former = open_watchers.get(id(model))
    if former is not None:
        former.close()


def enter(model: nn.Module, watcher: Watcher) -> Callable[[], None]:
    """Take *watcher* for that of *model*; return what takes it out again."""
    number = id(model)
    open_watchers[number] = watcher
    if multiprocessing.parent_process() is not None:  # such a process ends without `atexit`
        multiprocessing.util.Finalize(None, _close_all, exitpriority=0)

    def leave() -> None:
        open_watchers.pop(number, None)

    return leave


def live_target(watcher: Watcher) -> LiveTarget | None:
    """Return where *watcher* is to be shown live; None where another one is, or may come to be."""
    live = watcher.settings.live
    others = [other for other in open_watchers.values() if other is not watcher]
    if live is None or not any(other.may_show_live for other in others):
        return live
    shown = any(other.shows_live for other in others)
    log.log(
        logging.WARNING if shown or live.at_once else logging.INFO,
        "Another model is shown live: %s goes to files only.",
        watcher.settings.name,
    )
    return None


@atexit.register
def _close_all() -> None:
    watchers = list(open_watchers.values())
    try:
        with contextlib.ExitStack() as ends:  # one given up by Ctrl-C does not spare the others
            for watcher in watchers:
                ends.callback(watcher.close)
            for watcher in watchers:  # workers that hang use up their time together
                watcher.begin_close()
    except KeyboardInterrupt:
        log.warning("Given up: captures that were still on their way may be lost.")
