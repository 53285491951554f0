"""From VTK back to numpy, for tests. Runs under any Python that has numpy and vtkmodules."""

import hashlib

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy


def columns(attributes):
    """Numeric arrays of cell, point or field data by name."""
    arrays = (attributes.GetAbstractArray(i) for i in range(attributes.GetNumberOfArrays()))
    return {a.GetName(): np.array(vtk_to_numpy(a)) for a in arrays if a.IsA("vtkDataArray")}


def texts(dataset):
    """String arrays of the field data by name."""
    field_data = dataset.GetFieldData()
    arrays = (field_data.GetAbstractArray(i) for i in range(field_data.GetNumberOfArrays()))
    return {
        a.GetName(): [a.GetValue(i) for i in range(a.GetNumberOfValues())]
        for a in arrays
        if a.IsA("vtkStringArray")
    }


def points(polydata):
    """Coordinates, shape ``(n, 3)``."""
    return np.array(vtk_to_numpy(polydata.GetPoints().GetData())).reshape(-1, 3)


def connectivity(cells):
    """Point ids of every cell."""
    if cells.GetNumberOfCells() == 0:
        return []
    offsets = vtk_to_numpy(cells.GetOffsetsArray())
    return np.split(np.array(vtk_to_numpy(cells.GetConnectivityArray())), offsets[1:-1])


def blocks(multiblock):
    """Images of an atlas by name."""
    indices = range(multiblock.GetNumberOfBlocks())
    return {
        multiblock.GetMetaData(i).Get(multiblock.NAME()): multiblock.GetBlock(i) for i in indices
    }


def pixels(image, name):
    """Cell array of an image, shape ``(height, width)``, row 0 at the top."""
    width, height, _ = (size - 1 for size in image.GetDimensions())
    return columns(image.GetCellData())[name].reshape(height, width)[::-1]


def digests(frame):
    """A checksum of every array of a frame, by channel and array."""
    result = {}
    for channel, dataset in frame.datasets.items():
        if dataset.IsA("vtkMultiBlockDataSet"):
            for name, image in blocks(dataset).items():
                grid = (image.GetDimensions(), image.GetOrigin(), image.GetSpacing())
                result[f"{channel} {name} grid"] = repr(grid)
                result.update(_digests(f"{channel} {name}", image))
        else:
            result[f"{channel} points"] = _digest(points(dataset))
            for kind in ("Verts", "Lines", "Polys", "Strips"):
                cells = getattr(dataset, f"Get{kind}")()
                parts = connectivity(cells)
                sizes = np.array([len(part) for part in parts], np.int64)
                result[f"{channel} {kind}"] = _digest(sizes, *parts)
            result.update(_digests(channel, dataset))
    return result


def _digests(label, dataset):
    result = {f"{label} {name}": repr(values) for name, values in texts(dataset).items()}
    for kind in ("Cell", "Point", "Field"):
        attributes = getattr(dataset, f"Get{kind}Data")()
        for name, values in columns(attributes).items():
            result[f"{label} {kind} {name}"] = f"{values.dtype} {values.shape} {_digest(values)}"
    return result


def _digest(*arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
