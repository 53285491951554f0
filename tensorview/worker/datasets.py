"""VTK datasets as bytes, and frames of saved runs.

VTK neither raises nor leaves a good file alone when something fails, so it never touches the disk
here: it encodes to memory and decodes from bytes whose CRC was checked.
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
from vtkmodules.vtkIOXML import (
    vtkXMLImageDataReader,
    vtkXMLImageDataWriter,
    vtkXMLPolyDataReader,
    vtkXMLPolyDataWriter,
)

from tensorview.errors import RunError
from tensorview.worker.frame import ATLAS_CHANNELS, POLYDATA_CHANNELS, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkFieldData
    from vtkmodules.vtkIOXML import vtkXMLReader

    from tensorview.run import Run


PADDING = b" " * 8192
"""Between a file's header and its values. VTK before 9.3.1 hands blocks of 4 KiB to expat, and
expat since 2.6 (2.5 with the fixes that distributions brought) puts off parsing the end of a block
until two more are there. Without them VTK would read values as XML and fail: so it does in the
ParaView 5.11 of Debian 12 and Ubuntu 24.04, with most files that VTK itself writes."""


def encode(dataset: vtkPolyData | vtkImageData) -> bytes:
    """Return *dataset* as the bytes of a ``.vtp`` or ``.vti`` file.

    Values are stored bit for bit; VTK's text mode would turn -inf into inf.

    Raises:
        RunError: VTK reported an error.
    """
    is_image = dataset.IsA("vtkImageData")
    writer = vtkXMLImageDataWriter() if is_image else vtkXMLPolyDataWriter()
    writer.SetInputDataObject(dataset)
    writer.WriteToOutputStringOn()
    writer.SetDataModeToAppended()
    writer.EncodeAppendedDataOff()
    writer.SetHeaderTypeToUInt64()
    writer.SetCompressorTypeToLZ4()  # docs/data-format.md has the measurement
    with _errors_raised(writer, doing="encode"):
        writer.Write()
    data = writer.GetOutputString()
    header, tag, values = (data.encode() if isinstance(data, str) else bytes(data)).partition(
        b'<AppendedData encoding="raw">'
    )
    return header + tag + PADDING + values


def decode_polydata(data: bytes) -> vtkPolyData:
    """Return what `encode` made of a polydata.

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
    """Return what `encode` made of an image. See `decode_polydata`."""
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
    with _errors_raised(reader, doing="decode"):
        reader.Update()


@contextlib.contextmanager
def _errors_raised(algorithm: Any, *, doing: str) -> Iterator[None]:
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
        raise RunError(f"Cannot {doing} a dataset: VTK says: {said}")
