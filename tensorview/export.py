"""`tensorview export`: pictures and tables of one step of a saved run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from bisect import bisect
from pathlib import Path

from tqdm import tqdm

from tensorview.errors import ConfigurationError, RunError
from tensorview.run import Run
from tensorview.snapshot import VIEWS
from tensorview.supervisor import BOOTSTRAP, worker_environment

FAULT = "tensorview: "
_KINDS = {"png": ("pictures", "Drawing"), "csv": ("tables", "Writing tables")}


def export(
    run_dir: str | os.PathLike[str],
    *,
    png: bool = False,
    csv: bool = False,
    step: int | None = None,
    out: str | os.PathLike[str] | None = None,
    sample: int | None = None,
) -> int:
    """Write a picture or a table of every view, each kind in a process of its own.

    VTK ends a process in which it cannot render, and cannot share one with ParaView's.

    Args:
        run_dir: a run directory.
        png: write pictures.
        csv: write tables.
        step: which capture, None for the last.
        out: directory, made where it is missing; None for ``RUN/pictures`` and ``RUN/tables``.
        sample: of the probe to draw the maps of, None for the mean over it.

    Returns:
        0.

    Raises:
        ConfigurationError: neither *png* nor *csv*.
        RunError: no run, nothing at *step*, or it could not be read, drawn or written.
    """
    if not (png or csv):
        raise ConfigurationError("Nothing to export: give --png, --csv or both.")
    run = Run.open(run_dir)
    chosen = _choose(run, step)
    for kind in [kind for kind, wanted in (("csv", csv), ("png", png)) if wanted]:
        folder = Path(out) if out is not None else run.path / _KINDS[kind][0]
        options = {
            "kind": kind,
            "run_dir": str(run.path),
            "step": chosen,
            "folder": str(folder),
            "sample": sample,
        }
        count = _work(options, folder=folder)
        sys.stdout.write(f"{count} {_KINDS[kind][0]} of step {chosen} in {folder}\n")
    return 0


def _choose(run: Run, step: int | None) -> int:
    steps = sorted(run.steps())
    if not steps:
        raise RunError(f"Cannot export run '{run.path}': it holds no capture yet.")
    if step is None or step in steps:
        return steps[-1] if step is None else step
    place = bisect(steps, step)
    nearest = " and ".join(map(str, steps[max(0, place - 1) : place + 1]))
    raise RunError(
        f"Cannot export step {step} of run '{run.path}': it was not captured; nearest: {nearest}."
    )


def _work(options: dict[str, object], *, folder: Path) -> int:
    """Run one worker to its end and return how many files it wrote."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"Cannot write in '{folder}': {error.strerror}. Give another --out."
        ) from None
    command = [sys.executable, str(BOOTSTRAP), "worker.pictures.main", json.dumps(options)]
    count = 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            env=worker_environment(os.environ, foreign_python=False),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as worker,
        # None: no bar where nobody watches.
        tqdm(total=len(VIEWS), desc=_KINDS[str(options["kind"])][1], disable=None) as bar,
    ):
        assert worker.stdout is not None
        for _ in worker.stdout:
            count += 1
            bar.update()
        code = worker.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").splitlines()
    if code:
        raise RunError(_reason(code, said))
    return count


def _reason(code: int, said: list[str]) -> str:
    """Say in one sentence why a worker failed, from its exit code and standard error."""
    for line in reversed(said):
        if line.startswith(FAULT):
            return line.removeprefix(FAULT)
    how = f"exit code {code}"
    if code < 0:
        how = f"signal {signal.Signals(-code).name}"
    last = next((line.strip() for line in reversed(said) if line.strip()), "(none)")
    return f"The process that draws ended with {how}. Its last words: {last}"
