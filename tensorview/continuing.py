"""Going on with a run from a checkpoint of its training."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from tensorview.errors import RunError, UnwritableRunError
from tensorview.run import Run, read_run_id
from tensorview.run_lock import RunLock
from tensorview.run_writer import RunWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger("tensorview")


def continue_run(
    path: Path, *, after_step: int, layers: Sequence[dict[str, Any]]
) -> tuple[Run, RunLock]:
    """Take a run over, and remove from it the captures of steps that will be done again.

    Args:
        path: its directory.
        after_step: optimizer steps that the checkpoint has behind it.
        layers: of the model, as ``run.json`` describes them; names must be those of the run.

    Raises:
        RunError: another process writes in it, it cannot be read, or its layers are others.
        UnwritableRunError: it cannot be written.
    """
    read_run_id(path)  # no lock is made where there is no run
    lock = RunLock(path)
    with contextlib.ExitStack() as undo:
        undo.callback(lock.close)
        run = Run.open(path)
        _check_layers(run, [layer["name"] for layer in layers])
        try:
            with contextlib.closing(RunWriter(path)) as writer:
                removed = writer.remove_after(after_step)
        except OSError as error:
            raise UnwritableRunError(f"Cannot continue run '{path}': {error.strerror}.") from None
        undo.pop_all()
    log.info("Continuing %s after step %d; %d later captures removed.", path, after_step, removed)
    return Run.open(path), lock


def _check_layers(run: Run, names: Sequence[str]) -> None:
    described = run.settings.get("layers")
    known = [
        layer.get("name") if isinstance(layer, dict) else None
        for layer in (described if isinstance(described, list) else [])
    ]
    if known != names:
        raise RunError(
            f"Cannot continue run '{run.path}': it has the layers {', '.join(map(str, known))}, "
            f"and those watched now are {', '.join(names)}. Give another run_dir."
        )
