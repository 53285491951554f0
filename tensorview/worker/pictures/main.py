"""Started by ``tensorview export``: make one step's pictures or tables in a process of its own.

Writes the name of every finished file on a line of its own to standard output. What went wrong
goes to standard error, as one line that begins with `FAULT`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorview.errors import RunError, TensorviewError
from tensorview.run import Run
from tensorview.whole_files import replace_file
from tensorview.worker.datasets import read_frame
from tensorview.worker.frame import ATLAS_CHANNELS, POLYDATA_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tensorview.worker.frame import Frame

FAULT = "tensorview: "


def main(options: dict[str, Any]) -> int:
    """Export one step.

    Args:
        options: ``kind`` (``"png"`` or ``"csv"``), ``run_dir``, ``step``, ``folder`` (there
            already), ``sample`` of the maps (None for the mean).

    Returns:
        Exit code: 1 after a fault.
    """
    folder = Path(options["folder"])
    try:
        frame = read_frame(Run.open(options["run_dir"]), options["step"])
        files = _pictures(frame, options["sample"]) if options["kind"] == "png" else _tables(frame)
        for name, data in files:
            replace_file(folder / name, data)
            print(name, flush=True)
    except TensorviewError as error:
        print(f"{FAULT}{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{FAULT}Cannot write in '{folder}': {error.strerror}.", file=sys.stderr)
        return 1
    return 0


def png_bytes(picture: NDArray[Any]) -> bytes:
    """Encode a picture of shape ``(H, W, 3)``, uint8, row 0 at the top."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy  # noqa: PLC0415
    from vtkmodules.vtkCommonDataModel import vtkImageData  # noqa: PLC0415
    from vtkmodules.vtkIOImage import vtkPNGWriter  # noqa: PLC0415

    height, width, _ = picture.shape
    image = vtkImageData()
    image.SetDimensions(width, height, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(picture[::-1].reshape(-1, 3), deep=True))
    writer = vtkPNGWriter()
    writer.WriteToMemoryOn()
    writer.SetInputData(image)
    writer.Write()
    return bytes(vtk_to_numpy(writer.GetResult()))


def _pictures(frame: Frame, sample: int | None) -> Iterator[tuple[str, bytes]]:
    # Tables need no OpenGL, and not even the time to load it.
    from tensorview.worker.pictures import opengl, pages  # noqa: PLC0415

    problem = opengl.missing()
    if problem is not None:
        raise RunError(problem)
    for view in pages.VIEWS:
        yield f"{view}.png", png_bytes(pages.draw(view, frame, sample=sample))


def _tables(frame: Frame) -> Iterator[tuple[str, bytes]]:
    from tensorview.worker.csv_text import csv_bytes  # noqa: PLC0415
    from tensorview.worker.tables import tables  # noqa: PLC0415

    for view in POLYDATA_CHANNELS:
        found = tables(view, frame.datasets[view])
        if f"{view}_atlas" in ATLAS_CHANNELS:
            found += tables(f"{view}_atlas", frame.datasets[f"{view}_atlas"])
        if found:
            yield f"{view}.csv", csv_bytes(found)
