"""The choice of layers as ParaView sees it: a source with check boxes, a filter behind each source.

They are added to ParaView's definitions by XML, since the decorators made for Python plugins fail
to import under ParaView 5.11 with Python 3.11.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from paraview import servermanager
from vtkmodules.util.vtkAlgorithm import VTKPythonAlgorithmBase
from vtkmodules.vtkCommonCore import vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkMultiBlockDataSet, vtkPolyData

from tensorview.client.window.layers import chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

XML = f"""
<ServerManagerConfiguration>
  <ProxyGroup name="sources">
    <SourceProxy name="TensorviewLayers" class="{__name__}.LayersSource"
                 si_class="vtkSIPythonSourceProxy">
      <Documentation>The layers that are shown in the views of tensorview.</Documentation>
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
      </StringVectorProperty>
    </SourceProxy>
  </ProxyGroup>
  <ProxyGroup name="filters">
    <SourceProxy name="TensorviewView" class="{__name__}.ViewFilter"
                 si_class="vtkSIPythonSourceProxy">
      <Documentation>The layers that are chosen in "layers", laid out anew.</Documentation>
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
      <OutputPort name="layers" index="0"/>
      <OutputPort name="frames" index="1"/>
    </SourceProxy>
  </ProxyGroup>
</ServerManagerConfiguration>
"""


class LayersSource(VTKPythonAlgorithmBase):  # type: ignore[misc]  # VTK has no types for mypy here
    """Holds the check boxes; its output is empty."""

    def __init__(self) -> None:
        super().__init__(nInputPorts=0, nOutputPorts=1, outputType="vtkPolyData")
        self._layers = vtkDataArraySelection()

    def layers(self) -> vtkDataArraySelection:
        """Return the check boxes, for ParaView."""
        return self._layers

    def offer(self, names: Sequence[str]) -> None:
        """Replace the check boxes by one a name, all of them ticked."""
        self._layers.RemoveAllArrays()
        for name in names:
            self._layers.AddArray(name)

    def RequestData(self, *_: Any) -> int:  # noqa: N802  # VTK's name
        """Leave the output empty."""
        return 1


class ViewFilter(VTKPythonAlgorithmBase):  # type: ignore[misc]  # as above
    """Passes on the chosen layers of its input, and the frames of feature maps as second output."""

    def __init__(self) -> None:
        super().__init__(
            nInputPorts=1, inputType="vtkDataObject", nOutputPorts=2, outputType="vtkDataObject"
        )
        self._chosen: list[str] | None = None

    def choose(self, names: str) -> None:
        """Take a JSON list of names, or ``null`` for all of them."""
        self._chosen = json.loads(names)
        self.Modified()

    def RequestDataObject(self, _request: Any, inputs: Any, outputs: Any) -> int:  # noqa: N802
        """Make outputs of the kind of the input."""
        is_polydata = vtkDataObject.GetData(inputs[0]).IsA("vtkPolyData")
        for port, kind in enumerate(
            (vtkPolyData if is_polydata else vtkMultiBlockDataSet, vtkPolyData)
        ):
            if not isinstance(vtkDataObject.GetData(outputs, port), kind):
                outputs.GetInformationObject(port).Set(vtkDataObject.DATA_OBJECT(), kind())
        return 1

    def RequestData(self, _request: Any, inputs: Any, outputs: Any) -> int:  # noqa: N802
        """Fill the outputs."""
        for port, dataset in enumerate(chosen(vtkDataObject.GetData(inputs[0]), self._chosen)):
            vtkDataObject.GetData(outputs, port).ShallowCopy(dataset)
        return 1


class Chooser:
    """The choice of layers: of the user by check boxes, or of a program.

    Attributes:
        source: with a check box a layer, in ParaView's browser as ``layers``.
    """

    def __init__(self) -> None:
        session = servermanager.ActiveConnection.Session
        session.GetProxyDefinitionManager().LoadConfigurationXMLFromString(XML)
        self.source = _registered(
            servermanager.sources.TensorviewLayers(no_update=True), name="layers"
        )
        self._offered: list[str] = []
        self._applied: list[str] | None = None
        self._filters: list[Any] = []

    def filter(self, source: Any, *, name: str) -> Any:
        """Put a filter behind *source*, and return it as it is registered under *name*."""
        made = servermanager.filters.TensorviewView(Input=source, no_update=True)
        made.Chosen = json.dumps(self._applied)
        self._filters.append(_registered(made, name=name))
        return made

    def offer(self, names: Sequence[str]) -> None:
        """Offer the layers of a run. The choice stays where they are those offered before."""
        if list(names) == self._offered:
            return
        self._offered = list(names)
        self.source.GetClientSideObject().offer(self._offered)
        self.source.UpdatePropertyInformation()
        self.choose(None)

    def choose(self, names: Sequence[str] | None) -> None:
        """Tick the boxes of some layers; None for all of them."""
        boxes = self.source.SMProxy.GetProperty("Layers")
        boxes.SetNumberOfElements(2 * len(self._offered))
        for index, name in enumerate(self._offered):
            boxes.SetElement(2 * index, name)
            boxes.SetElement(2 * index + 1, str(int(names is None or name in names)))
        self.source.SMProxy.UpdateVTKObjects()

    def apply(self) -> bool:
        """Pass a choice that has changed on to all filters; return whether there was one."""
        boxes = self.source.SMProxy.GetProperty("Layers")
        pairs = [boxes.GetElement(index) for index in range(boxes.GetNumberOfElements())]
        ticks = dict(zip(pairs[::2], pairs[1::2], strict=True))
        ticked = [name for name in self._offered if ticks.get(name) != "0"]
        wanted = None if ticked == self._offered else ticked
        if wanted == self._applied:
            return False
        self._applied = wanted
        for made in self._filters:
            made.Chosen = json.dumps(wanted)
        return True


def _registered(proxy: Any, *, name: str) -> Any:
    controller = servermanager.ParaViewPipelineController()
    controller.PreInitializeProxy(proxy)
    controller.PostInitializeProxy(proxy)
    controller.RegisterPipelineProxy(proxy, name)
    return proxy
