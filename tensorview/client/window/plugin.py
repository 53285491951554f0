"""The choice of layers as ParaView sees it: a source with check boxes, a filter behind each source.

They are made known to ParaView by XML, since its decorators for Python plugins cannot be imported
in ParaView 5.11 with Python 3.11.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from paraview import servermanager
from paraview.simple import SetActiveSource
from vtkmodules.util.vtkAlgorithm import VTKPythonAlgorithmBase
from vtkmodules.vtkCommonCore import vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkMultiBlockDataSet, vtkPolyData

from tensorview.client.window.layers import box_labels, chosen
from tensorview.client.window.upkeep import keep_quiet
from tensorview.worker.frame import ATLAS_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS = 24
"""Check boxes that are shown at once; more of them scroll."""
FILTER_XML = """
    <SourceProxy name="{name}" class="{module}.{name}" si_class="vtkSIPythonSourceProxy">
      <Documentation>The chosen layers, laid out anew.</Documentation>
      <InputProperty name="Input" command="SetInputConnection">
        <ProxyGroupDomain name="groups">
          <Group name="sources"/>
          <Group name="filters"/>
        </ProxyGroupDomain>
        <DataTypeDomain name="input_type">
          <DataType value="vtkPolyData"/>
          <DataType value="vtkImageData"/>
          <DataType value="vtkMultiBlockDataSet"/>
        </DataTypeDomain>
      </InputProperty>
      <StringVectorProperty name="Chosen" command="choose" number_of_elements="1"
                            default_values="null" panel_visibility="never"/>
      {ports}
    </SourceProxy>
"""
XML = f"""
<ServerManagerConfiguration>
  <ProxyGroup name="sources">
    <SourceProxy name="TensorviewLayers" class="{__name__}.TensorviewLayers"
                 si_class="vtkSIPythonSourceProxy">
      <Documentation>The layers that are shown.</Documentation>
      <StringVectorProperty name="LayersInfo" command="layers" information_only="1"
                            number_of_elements_per_command="2"
                            si_class="vtkSIDataArraySelectionProperty"/>
      <StringVectorProperty name="Layers" command="layers" information_property="LayersInfo"
                            number_of_elements_per_command="2" element_types="2 0"
                            repeat_command="1" si_class="vtkSIDataArraySelectionProperty">
        <ArraySelectionDomain name="array_list">
          <RequiredProperties>
            <Property name="LayersInfo" function="ArrayList"/>
          </RequiredProperties>
        </ArraySelectionDomain>
        <Hints>
          <WidgetHeight number_of_rows="{ROWS}"/>
        </Hints>
      </StringVectorProperty>
    </SourceProxy>
  </ProxyGroup>
  <ProxyGroup name="filters">
    {FILTER_XML.format(name="TensorviewView", module=__name__, ports="")}
    {
    FILTER_XML.format(
        name="TensorviewMaps",
        module=__name__,
        ports='<OutputPort name="maps" index="0"/><OutputPort name="frames" index="1"/>',
    )
}
  </ProxyGroup>
</ServerManagerConfiguration>
"""


class TensorviewLayers(VTKPythonAlgorithmBase):  # type: ignore[misc]  # mypy is not shown VTK
    """Holds the check boxes; its output is empty."""

    def __init__(self) -> None:
        super().__init__(nInputPorts=0, nOutputPorts=1, outputType="vtkPolyData")
        self._layers = vtkDataArraySelection()

    def layers(self) -> vtkDataArraySelection:
        """Return the check boxes, for ParaView."""
        return self._layers

    def offer(self, labels: Sequence[str]) -> None:
        """Replace all check boxes, by ticked ones."""
        self._layers.RemoveAllArrays()
        for label in labels:
            self._layers.AddArray(label)

    def RequestData(self, *_: Any) -> int:  # noqa: N802  # VTK's name
        """Leave the output empty."""
        return 1


class TensorviewView(VTKPythonAlgorithmBase):  # type: ignore[misc]  # as above
    """Passes the chosen layers of its input on."""

    ports = 1

    def __init__(self) -> None:
        super().__init__(
            nInputPorts=1,
            inputType="vtkDataObject",
            nOutputPorts=self.ports,
            outputType="vtkDataObject",
        )
        self._names: list[str] | None = None

    def choose(self, names: str) -> None:
        """Take a JSON list of layers, or ``null`` for all of them."""
        self._names = json.loads(names)
        self.Modified()

    def RequestDataObject(self, _request: Any, inputs: Any, outputs: Any) -> int:  # noqa: N802
        """Make outputs of the kind that fits the input."""
        of_cells = vtkDataObject.GetData(inputs[0]).IsA("vtkPolyData")
        kinds = (vtkPolyData if of_cells else vtkMultiBlockDataSet, vtkPolyData)
        for port in range(self.ports):
            if not isinstance(vtkDataObject.GetData(outputs, port), kinds[port]):
                made = kinds[port]()
                outputs.GetInformationObject(port).Set(vtkDataObject.DATA_OBJECT(), made)
        return 1

    def RequestData(self, _request: Any, inputs: Any, outputs: Any) -> int:  # noqa: N802
        """Fill the outputs."""
        found = chosen(vtkDataObject.GetData(inputs[0]), self._names)
        for port in range(self.ports):
            vtkDataObject.GetData(outputs, port).ShallowCopy(found[port])
        return 1


class TensorviewMaps(TensorviewView):
    """The same for feature maps, with their frames as the second output."""

    ports = 2


class Chooser:
    """The choice of layers: of the user by check boxes, or of a program.

    Attributes:
        source: the check boxes, in ParaView's browser as ``layers``.
    """

    def __init__(self) -> None:
        session = servermanager.ActiveConnection.Session
        session.GetProxyDefinitionManager().LoadConfigurationXMLFromString(XML)
        self.source = servermanager.sources.TensorviewLayers(no_update=True)
        register(self.source, name="layers")
        self._labels: dict[str, str] = {}
        self._applied: list[str] | None = None
        self._filters: list[Any] = []

    def filter(self, source: Any, *, name: str) -> Any:
        """Put a filter behind *source*, and return it.

        Args:
            source: of a Catalyst channel.
            name: of that channel, under which the filter is registered.
        """
        kind = "TensorviewMaps" if name in ("maps", "maps_atlas") else "TensorviewView"
        made = getattr(servermanager.filters, kind)(Input=source, no_update=True)
        made.Chosen = json.dumps(self._applied)
        register(made, name=name)
        if name in ATLAS_CHANNELS:
            keep_quiet(made)
        self._filters.append(made)
        # ParaView selects what was registered last, but the check boxes are what a user looks for.
        SetActiveSource(self.source)
        return made

    def offer(self, names: Sequence[str]) -> None:
        """Offer the layers of a run. The choice stays where they are those offered before."""
        if list(names) == list(self._labels):
            return
        self._labels = dict(zip(names, box_labels(names), strict=True))
        self.source.GetClientSideObject().offer(self._labels.values())
        self.source.UpdatePropertyInformation()
        self.choose(None)

    def choose(self, names: Sequence[str] | None) -> None:
        """Tick the boxes of some layers, or of all of them by None."""
        boxes = self.source.SMProxy.GetProperty("Layers")
        boxes.SetNumberOfElements(2 * len(self._labels))
        for index, (name, label) in enumerate(self._labels.items()):
            boxes.SetElement(2 * index, label)
            boxes.SetElement(2 * index + 1, str(int(names is None or name in names)))
        self.source.SMProxy.UpdateVTKObjects()

    def apply(self) -> bool:
        """Pass a choice that has changed on to all filters; return whether there was one.

        The check boxes come back when they were deleted, which takes one click beside *Apply*.
        """
        if not servermanager.ProxyManager().GetProxyName("sources", self.source.SMProxy):
            register(self.source, name="layers")
        boxes = self.source.SMProxy.GetProperty("Layers")
        elements = [boxes.GetElement(index) for index in range(boxes.GetNumberOfElements())]
        ticks = dict(zip(elements[::2], elements[1::2], strict=True))
        ticked = [name for name, label in self._labels.items() if ticks.get(label) != "0"]
        wanted = None if ticked == list(self._labels) else ticked
        if wanted == self._applied:
            return False
        self._applied = wanted
        for made in self._filters:
            made.Chosen = json.dumps(wanted)
        return True


def register(proxy: Any, *, name: str) -> None:
    """Show a source or filter in ParaView's browser under *name*."""
    controller = servermanager.ParaViewPipelineController()
    controller.PreInitializeProxy(proxy)
    controller.PostInitializeProxy(proxy)
    controller.RegisterPipelineProxy(proxy, name)
