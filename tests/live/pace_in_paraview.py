"""Run by ParaView's Python: how long a live sink takes for five empty frames, 0.3 s each.

    pvpython pace_in_paraview.py BOOTSTRAP SCRIPT PORT

Nobody listens on PORT. Prints seconds as JSON.
"""

import importlib.util
import json
import sys
import time

spec = importlib.util.spec_from_file_location("bootstrap", sys.argv[1])
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
bootstrap.load_package()

from vtkmodules.vtkCommonDataModel import vtkMultiBlockDataSet, vtkPolyData  # noqa: E402

from tensorview.worker.frame import CHANNELS, POLYDATA_CHANNELS, Frame  # noqa: E402
from tensorview.worker.sinks.live import LiveSink  # noqa: E402

datasets = {
    name: vtkPolyData() if name in POLYDATA_CHANNELS else vtkMultiBlockDataSet()
    for name in CHANNELS
}
sink = LiveSink(host="localhost", port=int(sys.argv[3]), script=sys.argv[2], frame_seconds=0.3)
sink.write(Frame(step=0, capture=0, datasets=datasets))  # what comes once
started = time.monotonic()
for step in range(1, 6):
    sink.write(Frame(step=step, capture=step, datasets=datasets))
taken = time.monotonic() - started
sink.close()
print(json.dumps(taken), file=sys.__stdout__, flush=True)
