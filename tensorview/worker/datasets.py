"""VTK datasets from bytes, and frames of saved runs.

VTK does not raise when something fails, so it never touches the disk: it decodes bytes whose CRC
was checked.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import (
    vtkCompositeDataSet,
    vtkImageData,
    vtkMultiBlockDataSet,
    vtkPolyData,
)
from vtkmodules.vtkIOXML import vtkXMLImageDataReader, vtkXMLPolyDataReader

from tensorview.errors import RunError
from tensorview.worker.frame import ATLAS_CHANNELS, POLYDATA_CHANNELS, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkFieldData
    from vtkmodules.vtkIOXML import vtkXMLReader

    from tensorview.run import Run


def decode_polydata(data: bytes) -> vtkPolyData:
    """Return what `tensorview.worker.vtk_xml.encode` made of a polydata.

    Args:
        data: proved to be whole; VTK may end the process over damaged bytes.

    Raises:
        RunError: VTK reported an error.
    """
    reader = vtkXMLPolyDataReader()
    _read(reader, data)
    result: vtkPolyData = reader.GetOutput()
    return result


def decode_image(data: bytes) -> vtkImageData:
    """Return what `tensorview.worker.vtk_xml.encode` made of an image. See `decode_polydata`."""
    reader = vtkXMLImageDataReader()
    _read(reader, data)
    result: vtkImageData = reader.GetOutput()
    return result


def arrays(attributes: vtkFieldData) -> dict[str, NDArray[Any]]:
    """Return point, cell or field data by name, strings with dtype object; numbers are no copy."""
    result: dict[str, NDArray[Any]] = {}
    for index in range(attributes.GetNumberOfArrays()):
        found = attributes.GetAbstractArray(index)
        if found.IsA("vtkStringArray"):
            texts = [found.GetValue(i) for i in range(found.GetNumberOfValues())]
            result[found.GetName()] = np.array(texts, object)
        else:
            result[found.GetName()] = vtk_to_numpy(found)
    return result


def blocks(atlas: vtkMultiBlockDataSet) -> Iterator[tuple[str, vtkImageData]]:
    """Yield an atlas's images with their layers' names."""
    for index in range(atlas.GetNumberOfBlocks()):
        yield atlas.GetMetaData(index).Get(vtkCompositeDataSet.NAME()), atlas.GetBlock(index)


def read_frame(run: Run, step: int) -> Frame:
    """Read one step of a saved run. What was empty, and so has no file, is empty again.

    Raises:
        RunError: no dataset was written at *step*, or one is damaged.
    """
    capture = None
    datasets: dict[str, vtkDataObject] = {}
    for channel in POLYDATA_CHANNELS:
        datasets[channel] = vtkPolyData()
        for entry in run.entries(step, view=channel, suffix=".vtp"):
            datasets[channel] = decode_polydata(run.read(entry))
            capture = entry.capture
    for channel in ATLAS_CHANNELS:
        atlas = datasets[channel] = vtkMultiBlockDataSet()
        for index, entry in enumerate(run.entries(step, view=channel, suffix=".vti")):
            atlas.SetBlock(index, decode_image(run.read(entry)))
            atlas.GetMetaData(index).Set(vtkCompositeDataSet.NAME(), entry.layer)
            capture = entry.capture
    if capture is None:
        written = "only tables were" if run.files.get(step) else "nothing was"
        raise RunError(f"Cannot read step {step} of run '{run.path}': {written} written at it.")
    return Frame(step=step, capture=capture, datasets=datasets)


def _read(reader: vtkXMLReader, data: bytes) -> None:
    reader.ReadFromInputStringOn()
    reader.SetInputString(data)  # type: ignore[call-overload]  # takes bytes as well
    with _errors_raised(reader):
        reader.Update()


@contextlib.contextmanager
def _errors_raised(algorithm: Any) -> Iterator[None]:
    """Turn the errors that a VTK object reports by events into an exception."""
    messages: list[str] = []

    def note(_caller: object, _event: str, message: str) -> None:
        messages.append(" ".join(message.split()))

    note.CallDataType = "string0"  # type: ignore[attr-defined]  # how VTK passes the text
    tag = algorithm.AddObserver("ErrorEvent", note)
    try:
        yield
    finally:
        algorithm.RemoveObserver(tag)
    if messages or algorithm.GetErrorCode():
        said = messages[0] if messages else f"error code {algorithm.GetErrorCode()}"
        raise RunError(f"Cannot decode a dataset: VTK says: {said}")
