"""Run by ParaView's Python: a client's link on a training that never pauses.

    pvpython link_in_paraview.py BOOTSTRAP

Prints the numbers of the captures that three calls of `Link.receive` return, as JSON, and of one
that ParaView took by itself between two calls.
"""

import importlib.util
import json
import sys

spec = importlib.util.spec_from_file_location("bootstrap", sys.argv[1])
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
bootstrap.load_package()

import numpy as np  # noqa: E402  # the package first
from vtkmodules.vtkCommonDataModel import vtkPolyData  # noqa: E402

from tensorview.client import link  # noqa: E402
from tensorview.worker.frame import CHANNELS  # noqa: E402
from tensorview.worker.views.datasets import array  # noqa: E402


class Training:
    """ParaView's link, its network and its extracts in one: a capture is always there."""

    # ruff: noqa: N802  # VTK's names

    def __init__(self):
        self.tell = {}
        self.data = vtkPolyData()
        self.captures = 0
        self.is_quiet = False

    def AddObserver(self, event, function):
        self.tell[event] = function

    def GetInsituProxyManager(self):
        return self

    def GetNumberOfProxies(self, _group):
        return len(CHANNELS)

    def GetProxyName(self, _group, index):
        return CHANNELS[index]

    def CreateExtract(self, *_):
        return self

    def GetClientSideObject(self):
        return self

    def GetOutputDataObject(self, _port):
        return self.data

    def GetNetworkAccessManager(self):
        return self

    def GetProcessModule(self):
        return self

    def ProcessEvents(self, _milliseconds):
        if self.is_quiet:
            return 0
        self.send()
        return 1

    def send(self):
        assert self.captures < 100, "held for ever"
        self.captures += 1
        self.data.GetFieldData().AddArray(array("capture", np.array([self.captures])))
        self.tell["UpdateEvent"]()


training = Training()
link.vtkProcessModule = training
client = link.Link(training, display=None, port=None)
for _ in range(2):  # the channels are asked for
    client.receive()
seen = []
for _ in range(3):
    datasets = client.receive()
    seen += sorted(link.numbers(datasets, "capture"))
training.is_quiet = True
training.send()
datasets = client.receive()
seen += sorted(link.numbers(datasets, "capture")) if datasets else [None]
print(json.dumps(seen), file=sys.__stdout__, flush=True)
