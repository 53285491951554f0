"""Run by ParaView's Python: choose layers as a user and as a program would, and print what is seen.

    pvpython chooser_in_paraview.py PROJECT RUN

Both packages are loaded by their place on disk. RUN is a saved run with maps and an atlas of them.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
from paraview.simple import Delete, FindSource, GetActiveSource, PVDReader, TrivialProducer


def load(name, project):
    """Import the package *name* from the directory *project* without extending the path."""
    folder = Path(project) / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


project, run = sys.argv[1:]
load("tensorview", project)
load("tests", project)
make_frame = importlib.import_module("tensorview.worker.views").make_frame
snapshots = importlib.import_module("tests.snapshots")
reading = importlib.import_module("tests.views.reading")
Chooser = importlib.import_module("tensorview.client.window.plugin").Chooser

ODD = 'fc "<&é☃\n;'
report = {}


def make(names, *, form="cells"):
    """Datasets of a run with these layers."""
    rng = np.random.default_rng(0)
    layers = [snapshots.make_layer(rng, name=name) for name in names]
    return make_frame(snapshots.make_snapshot(rng, layers=layers, form=form)).datasets


def put(source, dataset):
    """Show a new dataset, as live data do."""
    source.GetClientSideObject().SetOutput(dataset)
    source.SMProxy.MarkModified(source.SMProxy)
    source.UpdatePipeline()


def output(proxy, port=0):
    """What comes out of a filter now."""
    proxy.UpdatePipeline()
    return proxy.GetClientSideObject().GetOutputDataObject(port)


def seen():
    """Layers that are shown as cells, those shown as images, check boxes with their ticks."""
    cells, frames = output(shown["maps"]), output(shown["maps"], 1)
    names = reading.texts(cells).get("layers", [])
    ids = [
        np.unique(reading.columns(part.GetCellData()).get("layer", [])).tolist()
        for part in (cells, frames)
    ]
    chooser.source.UpdatePropertyInformation()
    boxes = chooser.source.SMProxy.GetProperty("LayersInfo")
    texts = [boxes.GetElement(index) for index in range(boxes.GetNumberOfElements())]
    return {
        "cells": [names[int(index)] for index in ids[0]],
        "frames": [names[int(index)] for index in ids[1]],
        "images": list(reading.blocks(output(shown["maps_atlas"]))),
        "boxes": dict(zip(texts[::2], texts[1::2], strict=True)),
    }


NAMES = ["conv1", "conv2", ODD]
sources = {name: TrivialProducer(registrationName=f"live {name}") for name in ("maps", "weights")}
chooser = Chooser()
shown = {}
for name, source in sources.items():
    put(source, make([])[name])
    shown[name] = chooser.filter(source, name=name)
sources["maps_atlas"] = TrivialProducer(registrationName="live maps_atlas")
put(sources["maps_atlas"], make(NAMES, form="atlas")["maps_atlas"])
shown["maps_atlas"] = chooser.filter(sources["maps_atlas"], name="maps_atlas")
report["active"] = GetActiveSource() == chooser.source == FindSource("layers")
report["registered"] = all(FindSource(name) == proxy for name, proxy in shown.items())
report["ports"] = {n: proxy.SMProxy.GetNumberOfOutputPorts() for n, proxy in shown.items()}
report["empty output"] = output(chooser.source).GetNumberOfCells()

report["before any data"] = [chooser.apply(), output(shown["maps"]).GetNumberOfCells()]
for name in ("maps", "weights"):
    put(sources[name], make(NAMES)[name])
chooser.offer(NAMES)
report["at first"] = [chooser.apply(), seen()]

chooser.source.Layers = ["conv2", ODD]  # as the check boxes of the Properties panel do
report["unticked"] = [chooser.apply(), chooser.apply(), seen()]

put(sources["maps"], make(NAMES)["maps"])
chooser.offer(NAMES)
report["next frame"] = [chooser.apply(), seen()]

chooser.choose([ODD])
report["from code"] = [chooser.apply(), seen()]
chooser.choose([])
report["none"] = [chooser.apply(), seen()]

for name in ("maps", "weights"):
    put(sources[name], make(["z", "a"])[name])
put(sources["maps_atlas"], make(["z", "a"], form="atlas")["maps_atlas"])
chooser.offer(["z", "a"])
report["other layers"] = [chooser.apply(), seen()]

Delete(shown["weights"])
Delete(chooser.source)
chooser.choose(["a"])
report["deleted"] = [chooser.apply(), seen()]
report["back"] = FindSource("layers") == chooser.source
late = output(chooser.filter(sources["weights"], name="late"))
report["late"] = np.unique(reading.columns(late.GetCellData())["layer"]).tolist()

reader = PVDReader(registrationName="saved", FileName=f"{run}/maps_atlas.pvd")
saved = chooser.filter(reader, name="saved")
chooser.offer(["small", "large"])
chooser.choose(["large"])
chooser.apply()
report["steps"] = {}
for step in map(float, reader.TimestepValues):
    saved.UpdatePipeline(step)
    data = saved.GetClientSideObject().GetOutputDataObject(0)
    found = reading.blocks(data)
    when = [int(reading.columns(image.GetFieldData())["step"][0]) for image in found.values()]
    report["steps"][str(step)] = [data.GetClassName(), list(found), when]
sys.stdout.write("RESULT" + json.dumps(report))
