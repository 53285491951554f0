"""Run by ParaView's Python: stories of the window's tabs, which leave pictures in a folder.

    pvpython looks_in_paraview.py PROJECT FOLDER

Plays what `tests.client.stories` is asked for. Both packages are loaded by their place on disk, so
that nothing else of the caller's environment comes with them.
"""

import importlib.util
import sys
from dataclasses import replace
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

from paraview.simple import (  # noqa: E402  # needs the above
    CreateLayout,
    CreateRenderView,
    Delete,
    GetColorTransferFunction,
    GetLayoutByName,
    GetLayouts,
    GetSources,
    GetViews,
    SaveScreenshot,
    Show,
    Sphere,
    TrivialProducer,
)
from vtkmodules.vtkCommonDataModel import vtkMultiBlockDataSet, vtkPolyData  # noqa: E402

from tensorview.client.window.charts import CHARTS, lines  # noqa: E402
from tensorview.client.window.plugin import Chooser  # noqa: E402
from tensorview.client.window.tabs import Tabs  # noqa: E402
from tensorview.client.window.upkeep import is_open  # noqa: E402
from tensorview.worker.frame import CHANNELS, POLYDATA_CHANNELS  # noqa: E402
from tensorview.worker.views import make_frame  # noqa: E402
from tests.client.stories import play_what_is_asked  # noqa: E402
from tests.snapshots import make_layer, make_snapshot  # noqa: E402

FOLDER = Path(sys.argv[2])
SIZE = (1240, 820)


class Theatre:
    """The tabs of the window over sources that tests can fill."""

    def __init__(self, channels=CHANNELS):
        CreateRenderView()  # as ParaView's window begins
        self.producers = {}
        self.sources = {}
        self.chooser = Chooser()
        for channel in channels:
            self.add(channel)
        self.tabs = Tabs(self.sources)
        for name, _ in GetLayouts():
            GetLayoutByName(name).SetSize(*SIZE)
        self.tabs.render()

    def add(self, channel):
        producer = self.producers[channel] = TrivialProducer(registrationName=f"live {channel}")
        empty = vtkPolyData() if channel in POLYDATA_CHANNELS else vtkMultiBlockDataSet()
        producer.GetClientSideObject().SetOutput(empty)
        producer.UpdatePipeline()
        is_plain = channel == "scalars"
        self.sources[channel] = (
            producer if is_plain else self.chooser.filter(producer, name=channel)
        )

    def show(self, *, scalars=None, **options):
        """Show a frame of a synthetic snapshot."""
        snapshot = make_snapshot(np.random.default_rng(0), **options)
        snapshot = replace(snapshot, scalars={**snapshot.scalars, **(scalars or {})})
        for channel, dataset in make_frame(snapshot).datasets.items():
            if channel in self.producers:
                producer = self.producers[channel]
                producer.GetClientSideObject().SetOutput(dataset)
                producer.SMProxy.MarkModified(producer.SMProxy)
                producer.UpdatePipeline()
                self.sources[channel].UpdatePipeline()
        self.refresh()

    def refresh(self):
        self.tabs.update()  # pictures are drawn as they are taken: fifteen views take a second

    def view(self, name):
        """The view that a name has in its own tab, or else in the last."""
        return self.tabs.views[name][-1]

    def display(self, view):
        return next(each for each in self.tabs._open() if each.view == view)

    def listed(self, name):
        """What ParaView offers to colour a view's data by."""
        colours = (
            self.display(self.view(name))._shown[name, 0].SMProxy.GetProperty("ColorArrayName")
        )
        domain = colours.FindDomain("vtkSMArrayListDomain")
        return [domain.GetString(index) for index in range(domain.GetNumberOfStrings())]

    def texts(self, view):
        """What is written over a view."""
        found = self.display(view)._labels._texts
        return [text.GetInput() for text in found if text.GetVisibility()]

    def shoot(self, prefix):
        for name in self.tabs.views:
            SaveScreenshot(str(FOLDER / f"{prefix}_{name}.png"), self.view(name))


def pictures():
    """Every view, empty, of cells and of atlases."""
    theatre = Theatre()
    registered = sorted(name for name, _ in GetSources())
    theatre.tabs.say("waiting for a training on port 22222")
    theatre.refresh()
    first = theatre.tabs.views["weights"][0]
    SaveScreenshot(str(FOLDER / "empty_overview.png"), GetLayoutByName("Overview"))
    empty = theatre.texts(first)
    layers = [
        make_layer(np.random.default_rng(i), name=f"layer {i}", filters=12, samples=0)
        for i in range(4)
    ]
    theatre.tabs.say("")
    theatre.show(layers=layers, form="cells")
    theatre.shoot("cells")
    written = {name: theatre.texts(theatre.view(name)) for name in theatre.tabs.views}
    sizes = {name: list(theatre.view(name).ViewSize) for name in theatre.tabs.views}
    theatre.show(layers=layers, form="atlas", step=200)
    theatre.shoot("atlas")
    heard = [
        channel
        for channel in CHANNELS
        if theatre.sources[channel].SMProxy.HasObserver("UpdateDataEvent")
    ]
    listed = [theatre.listed("weights"), theatre.listed("maps")]
    fine = theatre.view("maps")
    fine.GetRenderWindow().SetDPI(2 * fine.GetRenderWindow().GetDPI())
    fine.ViewSize = [2 * side for side in fine.ViewSize]
    theatre.refresh()
    SaveScreenshot(str(FOLDER / "fine_maps.png"), fine)
    theatre.show(layers=[make_layer(np.random.default_rng(0), captures=1)], step=50)
    theatre.shoot("first")
    listed.append(theatre.listed("maps"))
    SaveScreenshot(str(FOLDER / "charts.png"), GetLayoutByName("Health"))
    first_chart = theatre.texts(theatre.tabs._displays["health"][0].view)
    theatre.show(layers=[make_layer(np.random.default_rng(0), captures=9, removed=2)], step=450)
    SaveScreenshot(str(FOLDER / "pruned_trajectory.png"), theatre.view("trajectory"))
    return {
        "heard": heard,
        "listed": listed,
        "pruned": theatre.texts(theatre.view("trajectory")),
        "sources": [registered, sorted(name for name, _ in GetSources())],
        "layouts": [name for name, _ in GetLayouts()],
        "views": len(GetViews()),
        "empty": empty,
        "written": written,
        "first chart": first_chart,
        "sizes": sizes,
    }


def user():
    """What the user does to cameras, colours and views."""
    theatre = Theatre()
    theatre.show()
    found = {}
    maps, weights = theatre.view("maps"), theatre.view("weights")
    found["maps", "fitted"] = maps.CameraParallelScale
    maps.ViewSize = [900, 250]
    found["changed by size"] = theatre.tabs.changed_tab()
    theatre.refresh()
    found["changed after"] = theatre.tabs.changed_tab()
    found["maps", "other size"] = maps.CameraParallelScale
    nine = [make_layer(np.random.default_rng(i), name=str(i)) for i in range(9)]
    theatre.show(layers=nine, step=200)
    found["maps", "more layers"] = maps.CameraParallelScale
    maps.CameraParallelScale = 0.5
    theatre.show(layers=nine, step=240)
    found["maps", "moved"] = maps.CameraParallelScale
    theatre.show(step=250)
    found["maps", "other layers"] = maps.CameraParallelScale
    steps, table = GetColorTransferFunction("step"), GetColorTransferFunction("weight_scaled")
    found["step", "last"] = steps.RGBPoints[-4]
    table.RGBPoints = [-0.5, 0, 0, 0, 0.5, 1, 1, 1]
    theatre.show(step=300)
    found["step", "later"] = steps.RGBPoints[-4]
    steps.RGBPoints = [0, 0, 0, 0, 10, 1, 1, 1]
    theatre.show(step=350)
    found["step", "of the user"] = steps.RGBPoints[-4]
    found["weights", "of the user"] = list(table.RGBPoints)
    groups = GetColorTransferFunction("group")
    found["groups"] = list(groups.Annotations)
    groups.IndexedColors = [1.0, 0.0, 1.0] * (len(groups.Annotations) // 2)
    theatre.show(step=400)
    found["groups", "colour"] = list(groups.IndexedColors[:3])
    found["legend"] = theatre.texts(theatre.view("distribution"))
    closed = theatre.display(weights)
    Delete(weights)
    for view in list(theatre.tabs.views["correlation"]) + theatre.tabs.views["maps"][:1]:
        Delete(view)
    found["closed"] = [theatre.tabs.changed_tab()]
    theatre.tabs.say("still here")
    theatre.show(step=450)
    found["open"] = theatre.texts(theatre.tabs.views["weights"][0])
    found["left"] = {name: len(views) for name, views in theatre.tabs.views.items()}
    found["closed at"] = closed._notes.step
    for view in GetViews():
        Delete(view)
    theatre.tabs.say("nobody is here")
    theatre.show(step=500)
    found["closed"].append(theatre.tabs.changed_tab())
    return {" / ".join(key) if isinstance(key, tuple) else key: v for key, v in found.items()}


def own():
    """A ParaView in which the user shows something of their own already."""
    mine = CreateRenderView()
    CreateLayout("mine").AssignView(0, mine)
    Show(Sphere(), mine)
    theatre = Theatre()
    return {
        "is open": is_open(mine),
        "views": len(GetViews()) - sum(map(len, theatre.tabs._displays.values())),
        "layouts": sorted(name for name, _ in GetLayouts()),
    }


def named_lines(chart_view):
    """Labels of the lines of a chart, in the order of its legend."""
    chart = chart_view.GetClientSideObject().GetContextItem()
    plots = map(chart.GetPlot, range(chart.GetNumberOfPlots()))
    return [plot.GetLabel() for plot in plots if plot.GetVisible() and plot.GetLabel()]


def late():
    """Sources that come one by one, and more layers than have room for titles."""
    theatre = Theatre(channels=("weights", "scalars"))
    theatre.show()
    found = {"before": len(theatre.tabs.views["maps"][0].Representations)}
    for channel in CHANNELS:
        if channel not in theatre.sources:
            theatre.add(channel)
    theatre.show(step=200)
    found["after"] = len(theatre.tabs.views["maps"][0].Representations)
    flags = {}
    for count, flagged in ((20, 11), (72, 2)):
        layers = [
            make_layer(np.random.default_rng(0), name=f"stage.{i}.block.conv", captures=2)
            for i in range(count)
        ]
        frozen = {"stage.0.block.conv/update_ratio": np.zeros(2)}
        flags[f"stage.{flagged}.block.conv/flag_dead_layer"] = np.array([0.0, 1.0])
        theatre.show(layers=layers, step=250 + count, scalars=frozen | flags)
        ratios = theatre.tabs._displays["health"][1].view
        found[f"{count} from"] = ratios.LeftAxisRangeMinimum
        charts = dict(zip(CHARTS, theatre.tabs._displays["health"], strict=True))
        scaled = [title for title, chart in charts.items() if chart.view.ShowLeftAxisLabels]
        found[f"{count} scaled"] = scaled
        legends = [title for title, chart in charts.items() if chart.view.ShowLegend]
        found[f"{count} legends"] = legends
        views = theatre.tabs.views["maps"]
        found[f"{count} in overview"] = theatre.texts(views[0])
        theatre.shoot(f"layers{count}")
        SaveScreenshot(str(FOLDER / f"charts{count}.png"), GetLayoutByName("Health"))
        found[f"{count} named"] = named_lines(ratios)
    found["flagged"] = named_lines(charts["Flags"].view)
    theatre.show(layers=layers, step=700, scalars=frozen)
    found["no longer"] = charts["Flags"].view.ShowLeftAxisLabels
    theatre.show(layers=layers, step=800)
    found["automatic"] = ratios.LeftAxisUseCustomRange
    theatre.show(layers=layers, step=850, scalars=frozen)
    found["again"] = ratios.LeftAxisUseCustomRange
    theatre.chooser.offer([layer.name for layer in layers])
    theatre.chooser.choose(["stage.7.block.conv"])
    theatre.chooser.apply()
    for source in theatre.sources.values():
        source.UpdatePipeline()
    theatre.refresh()
    found["chosen"] = theatre.texts(theatre.tabs.views["maps"][0])
    columns = {
        "step": [1, 2, 3],
        "accuracy": [0.1, 0.2, 0.3],
        "loss": [3.0, 2.0, 1.0],
        "nothing": [np.nan] * 3,
        "a%2525/update_ratio": [1e-3] * 3,
        "a%2525/dead": [0, 0, 0],
        "a%2525/nonfinite_weights": [0, 0, 0],
        "a%2525/curvature": [np.nan, np.nan, 90],
        "a%2525/flags": [0, 0, 1],
        "a%2525/flag_dead_layer": [np.nan, 0, 1],
        "b/flag_stalled": [np.nan, 0, 0],
        "b/update_ratio": [np.nan] * 3,
        "b/dead": [np.nan, 2, 2],
        "b/nonfinite_weights": [0, 0, 7],
    }
    columns = {name: np.array(values, float) for name, values in columns.items()}
    for title, chart in CHARTS.items():
        shown = lines(columns, chart, layers=["a%25", "b"])
        found[title] = [[line.column, line.label] for line in shown]
    return found


play_what_is_asked(pictures, user, own, late, folder=FOLDER)
