"""Run by pvpython: open .pvd files and print what ParaView sees, as JSON. Usage: FILE.pvd ..."""

import json
import sys
import zlib

import numpy as np
from paraview import servermanager
from paraview.simple import OpenDataFile
from vtkmodules.util.numpy_support import vtk_to_numpy


def arrays(attributes):
    found = {}
    for index in range(attributes.GetNumberOfArrays()):
        array = attributes.GetAbstractArray(index)
        if array.IsA("vtkDataArray"):
            values = np.ascontiguousarray(vtk_to_numpy(array))
            found[array.GetName()] = [str(values.dtype), zlib.crc32(values.tobytes())]
    return found


def parts(data):
    if data.IsA("vtkMultiBlockDataSet"):
        blocks = [data.GetBlock(index) for index in range(data.GetNumberOfBlocks())]
        return [part for block in blocks if block for part in parts(block)]
    return [
        {
            "points": data.GetNumberOfPoints(),
            "cells": data.GetNumberOfCells(),
            "point_arrays": arrays(data.GetPointData()),
            "cell_arrays": arrays(data.GetCellData()),
        }
    ]


result = {}
for path in sys.argv[1:]:
    reader = OpenDataFile(path)
    reader.UpdatePipelineInformation()
    steps = list(reader.TimestepValues)
    seen = []
    for step in steps:
        reader.UpdatePipeline(step)
        seen.append(parts(servermanager.Fetch(reader)))
    result[path] = {"steps": steps, "parts": seen}
sys.stdout.write(json.dumps(result))
