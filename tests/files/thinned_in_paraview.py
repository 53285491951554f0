"""Run by pvpython: open a .pvd file and do what standard input says. Usage: FILE.pvd.

``show STEP`` answers with the number of points, ``reload`` with the steps that there are, as JSON.
"""

import json
import sys

from paraview.simple import OpenDataFile, ReloadFiles

reader = OpenDataFile(sys.argv[1])
for line in sys.__stdin__:
    command, *arguments = line.split()
    if command == "show":
        reader.UpdatePipeline(float(arguments[0]))
        answer = reader.GetDataInformation().GetNumberOfPoints()
    else:
        ReloadFiles(reader)
        reader.UpdatePipelineInformation()
        answer = list(reader.TimestepValues)
    sys.__stdout__.write(json.dumps(answer) + "\n")
    sys.__stdout__.flush()
