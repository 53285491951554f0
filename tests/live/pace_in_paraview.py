"""Run by ParaView's Python: how long a live sink takes for five empty frames, 0.3 s each.

    pvpython pace_in_paraview.py BOOTSTRAP SCRIPT PORT

Nobody listens on PORT. Prints seconds as JSON, then how long the sink waits before it offers a
frame again, as if somebody did: after the first frame, each time that it was offered, the next one.
"""

import importlib.util
import json
import math
import sys
import time

spec = importlib.util.spec_from_file_location("bootstrap", sys.argv[1])
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
bootstrap.load_package()

from vtkmodules.vtkCommonDataModel import vtkMultiBlockDataSet, vtkPolyData  # noqa: E402

from tensorview.worker.frame import CHANNELS, POLYDATA_CHANNELS, Frame  # noqa: E402
from tensorview.worker.sinks import live  # noqa: E402

datasets = {
    name: vtkPolyData() if name in POLYDATA_CHANNELS else vtkMultiBlockDataSet()
    for name in CHANNELS
}
sink = live.LiveSink(host="localhost", port=int(sys.argv[3]), script=sys.argv[2], frame_seconds=0.3)
sink.write(Frame(step=0, capture=0, datasets=datasets))  # what comes once
started = time.monotonic()
for step in range(1, 6):
    sink.write(Frame(step=step, capture=step, datasets=datasets))
taken = time.monotonic() - started
live.connected_to = lambda _: True
sink.write(Frame(step=6, capture=6, datasets=datasets))
waits = [sink._refresh_seconds]
for _ in range(6):
    sink._sent_at = -math.inf
    sink.idle()
    waits.append(sink._refresh_seconds)
sink.write(Frame(step=7, capture=7, datasets=datasets))
waits.append(sink._refresh_seconds)
sink.close()
print(json.dumps([taken, waits]), file=sys.__stdout__, flush=True)
