"""Started by ``tensorview export``: make pictures, tables or a film in a process of its own.

Writes a line to standard output for every file or frame that is done, an empty one for a step that
had to be left out. What the user should know goes to standard error: at most one line that begins
with `FAULT`, and lines that begin with `NOTE`.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorview.errors import RunError, TensorviewError
from tensorview.run import Run
from tensorview.tabs import TABS
from tensorview.whole_files import replace_file
from tensorview.worker.datasets import read_frame
from tensorview.worker.frame import ATLAS_CHANNELS, CHANNELS, POLYDATA_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Container, Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from tensorview.worker.frame import Frame

FAULT = "tensorview: "
NOTE = "note: "
PAGES = {view: (view,) for view in POLYDATA_CHANNELS} | {"overview": TABS["overview"]}
"""Views of each picture that is drawn where no tab was chosen."""


def main(options: dict[str, Any]) -> int:
    """Export one step, or a film of all.

    Args:
        options: ``kind`` (``"png"``, ``"csv"`` or ``"movie"``), ``run_dir``, and of the first two
            ``step`` and ``folder`` (there already), of the last ``file`` and ``fps``; of those that
            draw, ``tab`` (None: all pages, or a film of the overview), ``size``, and ``sample`` of
            the maps (None for the mean).

    Returns:
        Exit code: 1 after a fault.
    """
    target = Path(options.get("file") or options["folder"])
    try:
        run = Run.open(options["run_dir"])
        if options["kind"] == "movie":
            done = _film(run, target, options)
        else:
            frame = read_frame(run, options["step"])
            drawn = _pictures(run, frame, options) if options["kind"] == "png" else _tables(frame)
            done = _written(target, drawn)
        with contextlib.closing(done):  # a film that is given up leaves no file
            for line in done:
                print(line, flush=True)
    except TensorviewError as error:
        print(f"{FAULT}{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{FAULT}Cannot write '{target}': {error.strerror or error}.", file=sys.stderr)
        return 1
    except (LookupError, TypeError, ValueError) as error:
        # Sizes and CRC of a file prove that it is whole, not that its arrays fit together.
        traceback.print_exc()
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        print(
            f"{FAULT}Cannot export run '{options['run_dir']}': its data do not fit together as "
            f"tensorview writes them ({what}).",
            file=sys.stderr,
        )
        return 1
    return 0


def png_bytes(picture: NDArray[Any]) -> bytes:
    """Encode a picture of shape ``(H, W, 3)``, uint8, row 0 at the top."""
    from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: PLC0415
    from vtkmodules.vtkIOImage import vtkPNGWriter  # noqa: PLC0415

    from tensorview.worker.pictures.props import rgb_image  # noqa: PLC0415

    writer = vtkPNGWriter()
    writer.WriteToMemoryOn()
    writer.SetInputData(rgb_image(picture))
    writer.Write()
    return bytes(vtk_to_numpy(writer.GetResult()))


def _written(folder: Path, files: Iterator[tuple[str, bytes]]) -> Generator[str]:
    for name, data in files:
        replace_file(folder / name, data)
        yield name


def _film(run: Run, path: Path, options: dict[str, Any]) -> Generator[str]:
    _refuse_without_opengl()
    from tensorview.worker.pictures.film import film  # noqa: PLC0415

    channels = [channel for channel in CHANNELS if run.steps(channel)]
    held = {channel.removesuffix("_atlas") for channel in channels}
    tab = options["tab"] or "overview"
    done = film(
        run,
        path,
        views=_held(TABS[tab], held, of=f"run '{run.path}'"),
        title=tab.capitalize(),
        size=tuple(options["size"]),
        fps=options["fps"],
        sample=options["sample"],
        note=_note,
    )
    with contextlib.closing(done):
        for number, drawn in enumerate(done):
            yield f"frame {number}" if drawn else ""


def _pictures(run: Run, frame: Frame, options: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    _refuse_without_opengl()
    from tensorview.worker.pictures import pages  # noqa: PLC0415
    from tensorview.worker.pictures.scene import Stage  # noqa: PLC0415

    chosen = {options["tab"]: TABS[options["tab"]]} if options["tab"] else PAGES
    wanted = list(dict.fromkeys(view for views in chosen.values() for view in views))
    held = _held(wanted, _in_frame(frame), of=f"step {frame.step} of run '{run.path}'")
    with Stage(tuple(options["size"])) as stage:
        for name, views in chosen.items():
            shown = [view for view in views if view in held]
            if shown and (len(shown) > 1 or views == tuple(shown)):
                title = name.capitalize()
                page = pages.draw(shown, frame, stage=stage, title=title, sample=options["sample"])
                yield f"{name}.png", png_bytes(page)


def _tables(frame: Frame) -> Iterator[tuple[str, bytes]]:
    from tensorview.worker.csv_text import csv_bytes  # noqa: PLC0415
    from tensorview.worker.tables import tables  # noqa: PLC0415

    for view in POLYDATA_CHANNELS:
        found = tables(view, frame.datasets[view])
        if f"{view}_atlas" in ATLAS_CHANNELS:
            found += tables(f"{view}_atlas", frame.datasets[f"{view}_atlas"])
        if found:
            yield f"{view}.csv", csv_bytes(found)


def _refuse_without_opengl() -> None:
    # Tables need no OpenGL, and not even the time to load it.
    from tensorview.worker.pictures import opengl  # noqa: PLC0415

    problem = opengl.missing()
    if problem is not None:
        raise RunError(problem)


def _in_frame(frame: Frame) -> list[str]:
    """Return the views of which a frame holds something."""
    polydata: Any = frame.datasets
    return [
        view
        for view in POLYDATA_CHANNELS
        if polydata[view].GetNumberOfPoints()
        or (f"{view}_atlas" in ATLAS_CHANNELS and polydata[f"{view}_atlas"].GetNumberOfBlocks())
    ]


def _held(wanted: Sequence[str], held: Container[str], *, of: str) -> list[str]:
    """Return what is held of the views wanted, and tell of those that are not."""
    missing = [view for view in wanted if view not in held]
    if len(missing) == len(wanted):
        raise RunError(f"Nothing to draw: {of} has no {', '.join(missing)}.")
    if missing:
        _note(f"Left out {', '.join(missing)}: {of} has none.")
    return [view for view in wanted if view in held]


def _note(text: str) -> None:
    print(f"{NOTE}{text}", file=sys.stderr, flush=True)
