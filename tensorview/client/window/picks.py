"""What ParaView's selection tools leave on a source: reading it, and making it hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paraview import servermanager
from paraview.modules.vtkPVVTKExtensionsExtraction import vtkPVExtractSelection
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkSelection, vtkSelectionNode

from tensorview.client.window.filters import FILTER_ARRAYS, joined, owners
from tensorview.client.window.notes import leaves
from tensorview.worker.datasets import arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorview.client.window.filters import Filters


def stamp(chosen: Any) -> tuple[int, ...]:
    """Return what changes whenever a selection does.

    Args:
        chosen: ParaView's proxy of the selection, of any kind.
    """
    proxies = [chosen, *_inputs(chosen)]
    ids = [proxy.GetGlobalID() for proxy in proxies]
    return *ids, *(proxy.GetClientSideObject().GetMTime() for proxy in proxies)


def touched(source: Any, port: int, chosen: Any, *, layers: Sequence[str]) -> Filters:
    """Return the filters that a selection on a port of a source touches.

    Args:
        source: a proxy.
        port: of its output.
        chosen: ParaView's proxy of the selection, of any kind: a click, a rectangle, a polygon or
            a volume, of cells, points or blocks, a query.
        layers: names by id, for datasets that do not carry them.
    """
    chosen.UpdatePipeline()
    extract = vtkPVExtractSelection()
    extract.SetInputDataObject(0, source.GetClientSideObject().GetOutputDataObject(port))
    extract.SetInputDataObject(1, _of_cells(chosen.GetClientSideObject().GetOutputDataObject(0)))
    extract.PreserveTopologyOn()
    extract.Update()
    found = []
    for part in leaves(extract.GetOutputDataObject(0)):
        owned, inside = owners(part, layers=layers), part.GetCellData().GetArray("vtkInsidedness")
        if owned is not None and inside is not None:
            found.append(owned.touched(vtk_to_numpy(inside) == 1))
    return joined(found)


def hold(source: Any, port: int, chosen: Any, *, filters: Filters, layers: Sequence[str]) -> None:
    """Let a selection be of *filters* by layer and number, whatever order their cells come in.

    It stays the proxy that ParaView knows, so that a click on nothing still clears it.

    Args:
        source: as for `touched`; an atlas is left alone, since its cells have no numbers.
        port: of its output.
        chosen: ParaView's proxy of the selection.
        filters: what to select.
        layers: names by id, for datasets that do not carry them.
    """
    dataset = source.GetClientSideObject().GetOutputDataObject(port)
    names = [str(name) for name in arrays(dataset.GetFieldData()).get("layers", layers)]
    columns = [name for name in FILTER_ARRAYS if dataset.GetCellData().HasArray(name)]
    inputs: list[Any] = []
    terms: list[str] = []
    for layer, numbers in filters.items():
        if layer not in names:
            continue
        wanted = {"layer": (names.index(layer),)} | dict.fromkeys(columns, numbers)
        first = len(inputs)
        inputs += [_among(name, values) for name, values in wanted.items()]
        terms.append("&".join(f"s{number}" for number in range(first, len(inputs))))
    if not terms or not columns:
        return
    selection = servermanager._getPyProxy(chosen)  # noqa: SLF001  # there is no other way
    selection.Input = inputs
    selection.SelectionNames = [f"s{number}" for number in range(len(inputs))]
    selection.Expression = "|".join(f"({term})" for term in terms)
    selection.InsideOut = 0


def _among(array: str, values: tuple[int, ...]) -> Any:
    """Select cells by their number in an array, without an entry in the Pipeline Browser."""
    source = servermanager.sources.ThresholdSelectionSource()
    source.ArrayName = array
    source.FieldType = "CELL"
    source.Thresholds = [value for value in values for _ in range(2)]
    return source


def _inputs(chosen: Any) -> list[Any]:
    """Return the proxies that a selection is put together from."""
    inputs = chosen.GetProperty("Input")
    if inputs is None:
        return []
    return [inputs.GetProxy(index) for index in range(inputs.GetNumberOfProxies())]


def _of_cells(selection: vtkSelection) -> vtkSelection:
    """Take the cells around selected points."""
    result = vtkSelection()
    result.DeepCopy(selection)
    for index in range(result.GetNumberOfNodes()):
        node = result.GetNode(index)
        if node.GetFieldType() == vtkSelectionNode.POINT:
            node.GetProperties().Set(vtkSelectionNode.CONTAINING_CELLS(), 1)
    return result
