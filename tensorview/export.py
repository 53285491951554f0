"""`tensorview export`: pictures and tables of one step of a saved run, films of all steps."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from bisect import bisect
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from tensorview.errors import ConfigurationError, RunError
from tensorview.launch import BOOTSTRAP, worker_environment
from tensorview.run import Run
from tensorview.snapshot import VIEWS
from tensorview.tabs import TABS
from tensorview.whole_files import refuse_links, temporary_path

FAULT, NOTE = "tensorview: ", "note: "
SIZE, LEAST_SIZE, LARGEST_SIZE = (1280, 960), (960, 720), (3840, 2880)
FPS, MOST_FPS = 10, 60
TIDY_SECONDS = 2.0
WITHOUT_PYAV = ".ogv"
SUFFIXES = (".webm", ".ogv", ".gif", ".mp4")
_KINDS = {"png": ("pictures", "Drawing"), "csv": ("tables", "Writing tables")}


def export(
    run_dir: str | os.PathLike[str],
    *,
    png: bool = False,
    csv: bool = False,
    movie: str | os.PathLike[str] | None = None,
    tab: str | None = None,
    step: int | None = None,
    out: str | os.PathLike[str] | None = None,
    sample: int | None = None,
    size: tuple[int, int] = SIZE,
    fps: int = FPS,
) -> int:
    """Write pictures, tables or a film, each kind in a process of its own.

    VTK ends a process in which it cannot render, and cannot share one with ParaView's.

    Args:
        run_dir: a run directory.
        png: write pictures of one step.
        csv: write a table of every view at one step.
        movie: write a film of all steps to this file, replacing what is there; ``.webm``,
            ``.ogv``, ``.gif`` or ``.mp4``.
        tab: of `TABS`: what to draw. None for a picture of every view and the overview, and for a
            film of the overview.
        step: of pictures and tables, None for the last.
        out: directory of these, made where it is missing; None for ``RUN/pictures`` and
            ``RUN/tables``.
        sample: of the probe to draw the maps of, None for the mean over it.
        size: width and height of pictures and film in pixels, both even.
        fps: frames of the film a second.

    Returns:
        0.

    Raises:
        ConfigurationError: nothing to export, or an option that cannot be used.
        RunError: no run, nothing at *step*, or it could not be read, drawn or written.
    """
    if not (png or csv or movie is not None):
        raise ConfigurationError("Nothing to export: give --png, --csv, --movie or several.")
    if tab is not None and not png and movie is None:
        raise ConfigurationError("--tab chooses what is drawn; tables are made of every view.")
    look: dict[str, object] = {"tab": tab, "sample": sample, "size": _check_look(tab, size)}
    if movie is not None:
        _check_movie(Path(movie), fps=fps)
        if step is not None and not (png or csv):
            raise ConfigurationError(
                "--step chooses the step of pictures and tables; a film shows all of them."
            )
    run = Run.open(run_dir)
    chosen = _choose(run, step)
    for kind in [kind for kind, wanted in (("csv", csv), ("png", png)) if wanted]:
        made, doing = _KINDS[kind]
        folder = Path(out) if out is not None else run.path / made
        _make_folder(folder, option="--out", below=run.path if out is None else folder)
        options = {"kind": kind, "run_dir": str(run.path), "step": chosen, "folder": str(folder)}
        total = len(VIEWS) if kind == "csv" else 1 if tab else len(VIEWS) + 1
        count = _work(options | look, total=total, doing=doing)
        counted = made if count != 1 else made.removesuffix("s")
        sys.stdout.write(f"{count} {counted} of step {chosen} in {folder}\n")
    if movie is not None:
        _film(run, Path(movie), look | {"fps": fps})
    return 0


def _film(run: Run, path: Path, options: dict[str, object]) -> None:
    _make_folder(path.parent, option="--movie", below=path.parent)
    options |= {"kind": "movie", "run_dir": str(run.path), "file": str(path)}
    steps = sorted(run.steps())
    try:
        count = _work(options, total=len(steps), doing="Filming")
    finally:
        # Nothing is left where the worker had no time to tidy up itself.
        temporary_path(path).unlink(missing_ok=True)
    counted = "frames" if count != 1 else "frame"
    sys.stdout.write(f"{count} {counted}, steps {steps[0]:,} to {steps[-1]:,}, in {path}\n")


def _check_look(tab: str | None, size: tuple[int, int]) -> tuple[int, int]:
    if tab is not None and tab not in TABS:
        raise ConfigurationError(f"tab={tab!r} cannot be drawn: expected one of {', '.join(TABS)}.")
    fits = all(
        least <= side <= largest and side % 2 == 0
        for least, side, largest in zip(LEAST_SIZE, size, LARGEST_SIZE, strict=True)
    )
    if not fits:
        least, largest = (f"{width}x{height}" for width, height in (LEAST_SIZE, LARGEST_SIZE))
        raise ConfigurationError(
            f"size={size[0]}x{size[1]} cannot be drawn: expected even numbers from {least} to "
            f"{largest}."
        )
    return size


def _check_movie(path: Path, *, fps: int) -> None:
    if path.suffix not in SUFFIXES:
        raise ConfigurationError(
            f"Cannot write a film to '{path}': expected a name that ends in "
            f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )
    if path.suffix != WITHOUT_PYAV and find_spec("av") is None:
        raise ConfigurationError(
            f"Cannot write '{path}': {path.suffix} needs the package av. Type "
            f"`{sys.executable} -m pip install av`, or choose {WITHOUT_PYAV}."
        )
    if path.is_dir():
        raise ConfigurationError(f"Cannot write a film to '{path}': it is a directory.")
    if not 1 <= fps <= MOST_FPS:
        raise ConfigurationError(
            f"fps={fps} cannot be used: expected a whole number from 1 to {MOST_FPS}."
        )


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


def _make_folder(folder: Path, *, option: str, below: Path) -> None:
    """Make *folder*; a run of somebody else has no say in where it lies, *below* the run."""
    try:
        refuse_links(folder, below=below)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"Cannot write in '{folder}': {error.strerror}. Give another {option}."
        ) from None


def _work(options: dict[str, object], *, total: int, doing: str) -> int:
    """Run one worker to its end, pass on what it has to say, and return how much it made."""
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
    ):
        assert worker.stdout is not None
        try:
            # None: no bar where nobody watches.
            with tqdm(total=total, desc=doing, disable=None) as bar:
                for line in worker.stdout:
                    count += bool(line.strip())
                    bar.update()
            code = worker.wait()
        except BaseException:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(TIDY_SECONDS)  # Ctrl-C reaches it as well
            worker.kill()
            raise
        errors.seek(0)
        said = errors.read().decode(errors="replace").splitlines()
    for line in said:
        if line.startswith(NOTE):
            sys.stderr.write(f"{line.removeprefix(NOTE)}\n")
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
