"""Sources and views as the window has them, and a selection: what stories are played with."""

import numpy as np
from paraview import servermanager
from paraview.simple import CreateRenderView, Show, TrivialProducer
from vtkmodules.vtkCommonDataModel import vtkMultiBlockDataSet, vtkPolyData
from vtkmodules.vtkRenderingCore import vtkRenderWindow

from tensorview.client.window.plugin import Chooser
from tensorview.client.window.selection import Selection
from tensorview.worker.datasets import arrays
from tensorview.worker.frame import CHANNELS, POLYDATA_CHANNELS
from tensorview.worker.views import make_frame
from tests.snapshots import make_layer, make_snapshot

VIEWS = ("weights", "distribution", "maps", "correlation")
LAYERS = ("conv1", "conv/2", "fc")


def make_layers():
    rng = np.random.default_rng(0)
    layers = [
        make_layer(rng, name=LAYERS[0], filters=8, in_channels=1),
        make_layer(rng, name=LAYERS[1], filters=8, in_channels=2, conv_groups=4),
        make_layer(rng, name=LAYERS[2], kind="Linear", filters=5, kernel=(1, 1), map_size=(1, 1)),
    ]
    layers[1].activations.zero_mass[7] = 0.25  # its density is flat: it fills no window
    return layers


class Theatre:
    """Sources as the window has them, a view for each, and a selection."""

    def __init__(self, views=VIEWS):
        # A virtual screen that its last client leaves starts anew, and refuses others meanwhile.
        self.client = vtkRenderWindow()
        self.client.Render()
        self.chooser = Chooser()
        self.producers, self.sources, self.views = {}, {}, {}
        for channel in CHANNELS:
            producer = self.producers[channel] = TrivialProducer()
            empty = vtkPolyData() if channel in POLYDATA_CHANNELS else vtkMultiBlockDataSet()
            producer.GetClientSideObject().SetOutput(empty)
            producer.UpdatePipeline()
            self.sources[channel] = self.chooser.filter(producer, name=channel)
            self.sources[channel].UpdatePipeline()
        self.selection = Selection(self.sources)
        self.selection.refresh()
        self.add_views(views)

    def add_views(self, names=VIEWS):
        for view in names:
            self.views[view] = CreateRenderView()
            for channel in (view, f"{view}_atlas"):
                if channel in self.sources:
                    for port in range(self.sources[channel].SMProxy.GetNumberOfOutputPorts()):
                        self.show(channel, port, self.views[view])

    def show(self, channel, port, view):
        return Show(servermanager.OutputPort(self.sources[channel], port), view)

    def frame(self, **options):
        """Show a frame of a synthetic snapshot, as the window's clock does."""
        snapshot = make_snapshot(np.random.default_rng(0), **options)
        for channel, dataset in make_frame(snapshot).datasets.items():
            producer = self.producers[channel]
            producer.GetClientSideObject().SetOutput(dataset)
            producer.SMProxy.MarkModified(producer.SMProxy)
        self.chooser.offer([layer.name for layer in snapshot.layers])
        self.update()

    def update(self):
        self.chooser.apply()
        for source in self.sources.values():
            source.UpdatePipeline()
        self.selection.refresh()

    def choose(self, names):
        self.chooser.choose(names)
        self.update()

    def source(self, name):
        """The proxy of a channel, or of the rectangles behind it: ``"weights_atlas windows"``."""
        channel, _, target = name.partition(" ")
        return self.selection._targets[channel].source if target else self.sources[channel]

    def data(self, name, port=0):
        return self.source(name).GetClientSideObject().GetOutputDataObject(port)

    def ids(self, name, port=0, **wanted):
        """Cells whose arrays have the values that are wanted."""
        cells = arrays(self.data(name, port).GetCellData())
        found = [cells[array] == value for array, value in wanted.items()]
        return np.flatnonzero(np.logical_and.reduce(found)).tolist()

    def pick(self, name, ids, port=0, **properties):
        """Select cells, as ParaView's own tools do."""
        self.put(name, [("IDSelectionSource", {"IDs": flat(ids)} | properties)], port=port)

    def put(self, name, parts, *, expression="", port=0):
        """Select by the union of selection sources, or by an expression of s0, s1, ..."""
        inputs = []
        for kind, properties in parts:
            inputs.append(getattr(servermanager.sources, kind)())
            for key, value in {"FieldType": "CELL", **properties}.items():
                if hasattr(inputs[-1], key):
                    setattr(inputs[-1], key, value)
        chosen = servermanager.filters.AppendSelections()
        chosen.Input = inputs
        chosen.SelectionNames = [f"s{index}" for index in range(len(inputs))]
        chosen.Expression = expression or "|".join(chosen.SelectionNames)
        self.source(name).SMProxy.SetSelectionInput(port, chosen.SMProxy, 0)

    def clear(self, name, port=0):
        self.source(name).SMProxy.SetSelectionInput(port, None, 0)

    def picked(self, name, port=0):
        """The filters that follow from a pick, then clear it."""
        changed = self.selection.changed()
        found = {layer: list(numbers) for layer, numbers in self.selection.filters.items()}
        self.clear(name, port)
        assert changed == bool(found), name
        assert self.selection.changed() == changed, name
        assert self.selection.filters == {}
        return found

    def boxes(self):
        """The rectangles over each view: x0 x1 y0 y1, sorted."""
        result = {}
        for name, view in self.views.items():
            outlines = self.selection._outlines[view.SMProxy.GetGlobalIDAsString()]
            shape = outlines._line.GetMapper().GetInput()
            result[name] = sorted(
                shape.GetCell(index).GetBounds()[:4] for index in range(shape.GetNumberOfCells())
            )
        return result


def flat(ids):
    return [value for index in ids for value in (-1, int(index))]
