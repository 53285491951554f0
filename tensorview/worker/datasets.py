"""What is in VTK datasets, and frames of saved runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import (
    vtkCompositeDataSet,
    vtkMultiBlockDataSet,
    vtkPolyData,
)

from tensorview.errors import RunError
from tensorview.worker.frame import ATLAS_CHANNELS, POLYDATA_CHANNELS, Frame
from tensorview.worker.vtk_xml_reader import decode_image, decode_polydata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkFieldData, vtkImageData

    from tensorview.run import Run


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
            source = f"'{entry.file}' of run '{run.path}'"
            datasets[channel] = decode_polydata(run.read(entry), source=source)
            capture = entry.capture
    for channel in ATLAS_CHANNELS:
        atlas = datasets[channel] = vtkMultiBlockDataSet()
        for index, entry in enumerate(run.entries(step, view=channel, suffix=".vti")):
            source = f"'{entry.file}' of run '{run.path}'"
            atlas.SetBlock(index, decode_image(run.read(entry), source=source))
            atlas.GetMetaData(index).Set(vtkCompositeDataSet.NAME(), entry.layer)
            capture = entry.capture
    if capture is None:
        written = "only tables were" if run.files.get(step) else "nothing was"
        raise RunError(f"Cannot read step {step} of run '{run.path}': {written} written at it.")
    return Frame(step=step, capture=capture, datasets=datasets)
