"""Run by ParaView's Python: stories of linked selection.

    pvpython select_in_paraview.py PROJECT FOLDER

Plays what `tests.client.stories` is asked for. Both packages are loaded by their place on disk, so
that nothing else of the caller's environment comes with them.
"""

import importlib.util
import sys
import time
from pathlib import Path

import numpy as np


def load(name, project):
    """Import the package *name* from the directory *project* without extending the path."""
    folder = Path(project) / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


for package in ("tensorview", "tests"):
    load(package, sys.argv[1])

from paraview import servermanager  # noqa: E402  # needs the above
from paraview.simple import (  # noqa: E402
    CreateRenderView,
    Delete,
    GetActiveSource,
    GetRepresentation,
    GetSources,
    Hide,
    ResetSession,
    Threshold,
)

from tensorview.client.window.notes import leaves  # noqa: E402
from tensorview.client.window.selection import LOOK_SECONDS  # noqa: E402
from tensorview.worker.datasets import arrays  # noqa: E402
from tests.client.selection_theatre import (  # noqa: E402
    LAYERS,
    Theatre,
    flat,
    make_layers,
)
from tests.client.stories import play_what_is_asked  # noqa: E402
from tests.snapshots import make_layer  # noqa: E402


def picks():
    """A pick of one place in every channel, and what is outlined then in every view."""
    theatre = Theatre()
    theatre.frame(layers=make_layers(), form="cells")
    found = {}
    of_two = {"layer": 1, "filter": 3}
    for name, port, wanted in (
        ("maps", 0, of_two),
        ("maps", 1, of_two),
        ("weights", 0, of_two),
        ("distribution", 0, of_two),
        ("distribution windows", 0, {"layer": 0, "filter": 3}),
        ("correlation", 0, {"layer": 1, "filter_a": 3, "filter_b": 3}),
        ("correlation", 0, {"layer": 1, "filter_a": 3, "filter_b": 6}),
    ):
        theatre.pick(name, theatre.ids(name, port, **wanted)[:1], port)
        key = " ".join(map(str, (name, port, *wanted.values())))
        found[key] = theatre.picked(name, port)
    theatre.frame(layers=make_layers(), form="atlas")
    for channel in ("weights_atlas", "maps_atlas", "correlation_atlas"):
        name = f"{channel} windows"
        at = arrays(theatre.data(name).GetFieldData())["layers"].tolist().index(LAYERS[1])
        theatre.pick(name, theatre.ids(name, layer=at, filter=3))
        found[name] = theatre.picked(name)
        # The pixel in the upper left corner of a tile.
        block = 1
        image = leaves(theatre.data(channel))[block]
        notes = arrays(image.GetFieldData())
        columns, _, width, height, gutter = notes["tiles"].tolist()
        tile = notes["tile_filters"].tolist().index(3)
        down, across = divmod(tile, columns)
        size = np.array(image.GetDimensions()) - 1
        row = size[1] - 1 - down * (height + gutter)
        pixel = row * size[0] + across * (width + gutter)
        ids = [block + 1, 0, int(pixel)]
        theatre.put(channel, [("CompositeDataIDSelectionSource", {"IDs": ids})])
        found[channel] = theatre.picked(channel)
        theatre.pick("maps_atlas", [0], 1)
        found["maps_atlas frame"] = theatre.picked("maps_atlas", 1)
        if gutter:
            gap = row * size[0] + width  # right of the first tile of its row
            theatre.put(
                channel, [("CompositeDataIDSelectionSource", {"IDs": [block + 1, 0, int(gap)]})]
            )
            found[f"{channel} gutter"] = theatre.picked(channel)
    return found


def late():
    """Views that come after the data, as in a tab that is looked at for the first time."""
    theatre = Theatre(views=())
    theatre.frame(layers=make_layers(), form="atlas")
    theatre.selection.changed()
    theatre.add_views()
    time.sleep(LOOK_SECONDS)
    found = {"changed": theatre.selection.changed()}
    for channel, target in theatre.selection._targets.items():
        view = theatre.views[channel.partition("_")[0]].SMProxy.GetProperty("Representations")
        sources = [
            view.GetProxy(index).GetProperty("Input").GetProxy(0)
            for index in range(view.GetNumberOfProxies())
        ]
        found[channel] = sources.count(target.source.SMProxy)
    return found


def outlines():
    """Rectangles of selected filters as cells and as atlas, and what VTK says of their cells."""
    theatre = Theatre()
    found = {}
    for form, name in (("cells", "distribution"), ("atlas", "distribution")):
        theatre.frame(layers=make_layers(), form=form)
        ids = theatre.ids(name, layer=1, filter=7) + theatre.ids(name, layer=2, filter=0)
        theatre.pick(name, ids)
        theatre.selection.changed()
        found[form] = theatre.boxes()
    theatre.frame(layers=make_layers(), form="cells")
    found["of cells"] = {}
    for name, arrays_ in (
        ("weights", ["filter"]),
        ("distribution", ["filter"]),
        ("maps", ["filter"]),
        ("correlation", ["filter_a", "filter_b"]),
    ):
        data = theatre.data(name)
        boxes = []
        for array in arrays_:
            for layer, number in ((1, 7), (2, 0)):  # the first fills no window
                ids = theatre.ids(name, **{"layer": layer, array: number})
                bounds = np.array([data.GetCell(index).GetBounds() for index in ids])
                box = [*bounds.min(axis=0)[[0]], *bounds.max(axis=0)[[1]]]
                box += [*bounds.min(axis=0)[[2]], *bounds.max(axis=0)[[3]]]
                boxes.append(list(map(float, box)))
        found["of cells"][name] = sorted(boxes)
    for port in range(2):
        Hide(servermanager.OutputPort(theatre.sources["maps"], port), theatre.views["maps"])
    time.sleep(LOOK_SECONDS)
    found["hiding"] = [theatre.selection.changed(), theatre.selection.changed()]
    found["hidden"] = theatre.boxes()["maps"]
    for channel in ("weights", "weights_atlas"):
        Hide(theatre.sources[channel], theatre.views["weights"])
    theatre.update()
    found["all hidden"] = theatre.boxes()["weights"]
    neighbours = theatre.ids("distribution", layer=0, filter=0)
    neighbours += theatre.ids("distribution", layer=0, filter=1)  # one group: rows 0 and 1
    theatre.pick("distribution", neighbours)
    theatre.selection.changed()
    found["neighbours"] = theatre.boxes()["correlation"]
    panel = theatre.ids("correlation", layer=0)
    data = theatre.data("correlation")
    bounds = np.array([data.GetCell(index).GetBounds() for index in panel])
    found["panel"] = [float(bounds[:, 0].min()), float(bounds[:, 1].max())]
    return found


def kinds():
    """All kinds of selections that ParaView's tools make."""
    theatre = Theatre()
    theatre.frame(layers=make_layers(), form="cells")
    first = theatre.ids("maps", layer=0, filter=2)
    data = theatre.data("maps")
    corner = data.GetCell(first[0]).GetPointId(0)
    found = {}
    theatre.pick("maps", [corner], FieldType="POINT")
    found["point"] = theatre.picked("maps")
    theatre.put(
        "maps", [("ThresholdSelectionSource", {"ArrayName": "filter", "Thresholds": [6, 7]})]
    )
    found["threshold"] = theatre.picked("maps")
    x0, x1, y0, y1 = data.GetCell(first[0]).GetBounds()[:4]
    x0, x1, y0, y1 = x0 + 1e-4, x1 - 1e-4, y0 + 1e-4, y1 - 1e-4
    corners = [(x, y, z, 1.0) for x in (x0, x1) for y in (y0, y1) for z in (1.0, -1.0)]
    frustum = [value for point in corners for value in point]
    theatre.put("maps", [("FrustumSelectionSource", {"Frustum": frustum})])
    found["frustum"] = theatre.picked("maps")
    theatre.pick("maps", theatre.ids("maps", layer=0), InsideOut=1)
    found["inside out"] = theatre.picked("maps")
    theatre.put("maps", [("BlockSelectionSource", {"Blocks": [0]})])
    found["block"] = theatre.picked("maps")
    query = {"QueryString": "(filter == 4) & (layer == 1)"}
    theatre.put("maps", [("SelectionQuerySource", query)])
    found["query"] = theatre.picked("maps")
    two, three = ([theatre.ids("maps", layer=0, filter=number)[0]] for number in (2, 3))
    ids = [("IDSelectionSource", {"IDs": flat(each)}) for each in (two, three, two)]
    theatre.put("maps", ids[:2])
    found["added"] = theatre.picked("maps")
    theatre.put("maps", ids, expression="(s0|s1)&!s2")
    found["taken away"] = theatre.picked("maps")
    theatre.put("maps", [("IDSelectionSource", {"IDs": flat(two), "NumberOfLayers": 30})])
    found["grown"] = theatre.picked("maps")
    theatre.pick("maps", [10**7, -5])
    found["beyond"] = theatre.picked("maps")
    theatre.pick("trajectory", [0, 1])
    found["trajectory"] = theatre.picked("trajectory")
    theatre.pick("scalars", [0])
    found["scalars"] = theatre.picked("scalars")
    theatre.pick("maps", two)
    theatre.selection.changed()
    selection = theatre.source("maps").SMProxy.GetSelectionInput(0).GetProperty("Input").GetProxy(0)
    selection = servermanager._getPyProxy(selection)
    selection.IDs = flat(three)
    selection.UpdatePipeline()
    found["in place"] = [theatre.selection.changed(), theatre.selection.filters]
    return found


def lasting():
    """A selection while frames, the order of cells, and the choice of layers change."""
    theatre = Theatre()
    layers = make_layers()
    theatre.frame(layers=layers, form="cells")
    selection = theatre.selection
    found = {"changed": [], "filters": [], "boxes": []}

    def note():
        found["changed"].append(selection.changed())
        found["filters"].append(
            {name: list(numbers) for name, numbers in selection.filters.items()}
        )
        found["boxes"].append({name: len(boxes) for name, boxes in theatre.boxes().items()})

    theatre.pick("correlation", theatre.ids("correlation", layer=1, filter_a=2, filter_b=5))
    note()
    note()
    regrouped = make_layers()
    groups = regrouped[1].activations.groups
    groups[:] = groups[::-1]  # other rows and columns now
    theatre.frame(layers=regrouped, form="cells", step=200)
    note()
    theatre.choose([LAYERS[1]])
    note()
    theatre.choose([LAYERS[0]])
    note()
    theatre.choose(None)
    note()
    theatre.frame(layers=layers, form="atlas", step=250)
    note()
    theatre.frame(layers=layers, form="cells", step=300)
    note()
    held = theatre.source("correlation").SMProxy.GetSelectionInput(0)
    found["held"] = servermanager._getPyProxy(held).Expression
    theatre.clear("correlation")
    note()
    # A pick between two frames is of the cells as they are when it is seen.
    theatre.pick("maps", theatre.ids("maps", layer=0, filter=1))
    theatre.frame(layers=layers, form="cells", step=350)
    note()
    return found


def users():
    """What the user does to sources and views."""
    theatre = Theatre()
    theatre.frame(layers=make_layers(), form="cells")
    found = {}
    theatre.pick("weights", theatre.ids("weights", layer=0, filter=2))
    theatre.selection.changed()
    extra = CreateRenderView()
    theatre.show("weights", 0, extra)
    theatre.views["extra"] = extra
    theatre.update()
    found["extra view"] = theatre.boxes()["extra"] == theatre.boxes()["weights"]
    Delete(theatre.views.pop("extra"))
    theatre.update()
    found["views"] = len(theatre.selection._outlines)
    threshold = Threshold(Input=theatre.sources["maps"])
    threshold.UpdatePipeline()
    Delete(threshold)
    for channel in ("correlation", "maps"):
        Delete(theatre.sources[channel])
        theatre.selection.changed()
        theatre.selection.refresh()
    target, view = theatre.selection._targets["distribution"].source, theatre.views["distribution"]
    Hide(target, view)
    theatre.selection.refresh()
    found["stays hidden"] = GetRepresentation(target, view).Visibility
    found["active"] = GetActiveSource() is not target
    Delete(target)
    theatre.views["extra"] = extra = CreateRenderView()
    theatre.show("distribution", 0, extra)
    theatre.selection.refresh()
    found["left"] = {name: len(theatre.boxes()[name]) for name in ("weights", "distribution")}
    for view in theatre.views.values():
        Delete(view)
    theatre.selection.refresh()
    found["closed"] = len(theatre.selection._outlines)
    found["named"] = sorted(name for name, _ in GetSources() if "windows" in name)
    ResetSession()
    theatre.selection.refresh()
    found["reset"] = theatre.selection.changed()
    return found


def large():
    """All of a layer of 512 filters, in seconds."""
    theatre = Theatre()
    rng = np.random.default_rng(0)
    layers = [
        make_layer(
            rng, name="large", filters=512, in_channels=170, kernel=(3, 3), map_size=(13, 14)
        )
    ]
    found = {}
    for name in ("maps", "weights_atlas windows"):
        theatre.frame(layers=layers, form="auto")
        cells = theatre.data(name).GetNumberOfCells()
        theatre.pick(name, range(cells))
        started = time.monotonic()
        theatre.selection.changed()
        theatre.selection.refresh()
        found[name] = {
            "filters": len(theatre.selection.filters["large"]),
            "boxes": {view: len(boxes) for view, boxes in theatre.boxes().items()},
            "cells": cells,
            "seconds": time.monotonic() - started,
        }
        theatre.clear(name)
        theatre.selection.changed()
    return found


play_what_is_asked(picks, late, outlines, kinds, lasting, users, large, folder=Path(sys.argv[2]))
