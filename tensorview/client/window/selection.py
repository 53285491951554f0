"""One selection of filters for all views: picked in any of them, outlined in every one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from paraview import servermanager
from paraview.simple import GetRenderViews

from tensorview.client.window.filters import extents, joined
from tensorview.client.window.notes import leaves
from tensorview.client.window.outlines import Outlines
from tensorview.client.window.picks import hold, stamp, touched
from tensorview.client.window.targets import TARGETED, Target
from tensorview.worker.datasets import arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from tensorview.client.window.filters import Filters

LOOK_SECONDS = 0.5
"""How often it is looked for what the user shows and hides."""


class Selection:
    """The filters that the user has picked.

    A pick is what ParaView's own selection tools leave on a source. It is only followed, because
    ParaView would not clear what others select. Every filter that it touches is remembered by layer
    and number, which stay the same while cells come and go.

    Args:
        sources: by Catalyst channel; may grow.

    Attributes:
        filters: numbers of the selected ones, in order, by layer.
    """

    def __init__(self, sources: Mapping[str, Any]) -> None:
        self.filters: dict[str, tuple[int, ...]] = {}
        self._sources = sources
        self._targets: dict[str, Target] = {}
        self._outlines: dict[str, Outlines] = {}
        self._calmed: set[str] = set()
        self._stamps: list[tuple[int, ...]] = []
        self._arranged: dict[str, list[str]] = {}
        self._look_at = 0.0

    def changed(self) -> bool:
        """Follow what the user picks; say whether the views show another selection now."""
        changed = self._follow()
        if not changed and time.monotonic() >= self._look_at:
            changed = self._arrangement() != self._arranged
            self._look_at = time.monotonic() + LOOK_SECONDS
        if changed:
            self._outline()
        return changed

    def refresh(self) -> None:
        """Follow the sources: outline the selected filters where they are now."""
        for channel, source in self._alive().items():
            if channel in TARGETED:
                if channel not in self._targets:
                    self._targets[channel] = Target(channel)
                self._targets[channel].follow(source)
        self._follow()
        layers = self._layers()
        for pick in self._picks():
            # Cells may have other numbers now, in another order of layers or groups.
            if not _within(touched(*pick, layers=layers), self.filters):
                hold(*pick, filters=self.filters, layers=layers)
        self._stamps = self._present_stamps()
        self._outline()

    def _follow(self) -> bool:
        """Take over what is picked now; say whether that is something else."""
        stamps = self._present_stamps()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        layers, former = self._layers(), self.filters
        self.filters = joined(touched(*pick, layers=layers) for pick in self._picks())
        return self.filters != former

    def _alive(self) -> dict[str, Any]:
        """Return the sources that ParaView still has."""
        return {name: source for name, source in self._sources.items() if _is_alive(source)}

    def _layers(self) -> list[str]:
        """Return the names of all layers by id, as every view's polydata has them."""
        for source in self._alive().values():
            dataset = source.GetClientSideObject().GetOutputDataObject(0)
            if dataset.IsA("vtkPolyData"):
                return [str(name) for name in arrays(dataset.GetFieldData()).get("layers", ())]
        return []

    def _present_stamps(self) -> list[tuple[int, ...]]:
        return [stamp(chosen) for _, _, chosen in self._picks()]

    def _picks(self) -> Iterator[tuple[Any, int, Any]]:
        """Yield what is picked now: source, its port, and ParaView's proxy of the selection."""
        targets = [target.source for target in self._targets.values()]
        for source in [*self._alive().values(), *filter(_is_alive, targets)]:
            for port in range(source.SMProxy.GetNumberOfOutputPorts()):
                chosen = source.SMProxy.GetSelectionInput(port)
                if chosen is not None:
                    yield source, port, chosen

    def _outline(self) -> None:
        """Bring the outlines of all views up to date."""
        boxes: dict[str, NDArray[Any]] = {}
        self._arranged = self._arrangement()
        views = {view.SMProxy.GetGlobalIDAsString(): view for view in GetRenderViews()}
        for name, shown in self._arranged.items():
            if name not in self._outlines:
                self._outlines[name] = Outlines(views[name])
            for channel in shown:
                if channel in self._targets and _is_alive(self._targets[channel].source):
                    self._targets[channel].show(views[name])
                if channel not in boxes:
                    boxes[channel] = _boxes(self._sources[channel], self.filters)
            seen = [np.empty((0, 4)), *(boxes[channel] for channel in shown)]
            self._outlines[name].show(np.concatenate(seen))
        for name in self._outlines.keys() - self._arranged.keys():
            del self._outlines[name]  # the user has closed the view

    def _arrangement(self) -> dict[str, list[str]]:
        """Return which channels are seen in each view that has any, hidden ones apart."""
        channels = {source.SMProxy: channel for channel, source in self._alive().items()}
        result: dict[str, list[str]] = {}
        for view in GetRenderViews():
            for representation, source in _representations(view):
                if source not in channels:
                    continue
                channel = channels[source]
                self._calm(representation, channel)
                shown = result.setdefault(view.SMProxy.GetGlobalIDAsString(), [])
                if representation.GetProperty("Visibility").GetElement(0) and channel not in shown:
                    shown.append(channel)
        return result

    def _calm(self, representation: Any, channel: str) -> None:
        """Keep ParaView's own marks from hiding what they mark; set once.

        Of weights, whose cells are picked to read a value, it marks the outer box.
        """
        name = representation.GetGlobalIDAsString()
        if name in self._calmed:
            return
        self._calmed.add(name)
        change = ("SelectionUseOutline", 1) if channel == "weights" else ("SelectionVisibility", 0)
        representation.GetProperty(change[0]).SetElement(0, change[1])
        representation.UpdateVTKObjects()


def _is_alive(source: Any) -> bool:
    """Say whether neither the user nor a new session has deleted a source."""
    proxy = source.SMProxy
    return proxy is not None and bool(servermanager.ProxyManager().GetProxyName("sources", proxy))


def _representations(view: Any) -> Iterator[tuple[Any, Any]]:
    """Yield ParaView's proxies of all that a view shows, with those of where it comes from."""
    shown = view.SMProxy.GetProperty("Representations")
    for representation in (shown.GetProxy(index) for index in range(shown.GetNumberOfProxies())):
        given = representation.GetProperty("Input")
        if given is not None and given.GetNumberOfProxies():
            yield representation, given.GetProxy(0)


def _boxes(source: Any, filters: Filters) -> NDArray[Any]:
    """Return the rectangles of selected filters in a source, shape ``(n, 4)``."""
    dataset = source.GetClientSideObject().GetOutputDataObject(0)
    return np.concatenate([np.empty((0, 4)), *(extents(leaf, filters) for leaf in leaves(dataset))])


def _within(part: Filters, whole: Filters) -> bool:
    return all(set(numbers) <= set(whole.get(layer, ())) for layer, numbers in part.items())
