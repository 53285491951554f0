"""One selection of filters for all views: picked in any of them, outlined in every one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from paraview.simple import GetRenderViews

from tensorview.client.window.filters import extents, joined
from tensorview.client.window.notes import leaves
from tensorview.client.window.outlines import Outlines
from tensorview.client.window.picks import hold, stamp, touched
from tensorview.client.window.targets import TARGETED, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from tensorview.client.window.filters import Filters


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
        self._stamp: list[Any] = []

    def changed(self) -> bool:
        """Follow what the user picks; say whether the views show another selection now."""
        picks = list(self._picks())
        stamps = [stamp(chosen) for _, _, chosen in picks]
        if stamps == self._stamp:
            return False
        self._stamp = stamps
        filters = joined(touched(*pick) for pick in picks)
        if filters == self.filters:
            return False
        self.filters = filters
        self._outline()
        return True

    def refresh(self) -> None:
        """Follow the sources: outline the selected filters where they are now."""
        for channel in TARGETED:
            if channel in self._sources:
                if channel not in self._targets:
                    self._targets[channel] = Target(channel)
                self._targets[channel].follow(self._sources[channel])
        for pick in self._picks():
            # Cells may have other numbers now, in another order of layers or groups.
            if not _within(touched(*pick), self.filters):
                hold(*pick, self.filters)
        self._stamp = [stamp(chosen) for _, _, chosen in self._picks()]
        self._outline()

    def _picks(self) -> Iterator[tuple[Any, int, Any]]:
        """Yield what is picked now: source, its port, and ParaView's proxy of the selection."""
        targets = [target.source for target in self._targets.values()]
        for source in [*self._sources.values(), *targets]:
            for port in range(source.SMProxy.GetNumberOfOutputPorts()):
                chosen = source.SMProxy.GetSelectionInput(port)
                if chosen is not None:
                    yield source, port, chosen

    def _outline(self) -> None:
        """Bring the outlines of all views up to date."""
        boxes: dict[str, NDArray[Any]] = {}
        open_views = set()
        for view in GetRenderViews():
            shown = {}
            for channel, source in self._sources.items():
                if (representation := _visible(view, source)) is not None:
                    shown[channel] = representation
            if not shown:
                continue
            name = view.SMProxy.GetGlobalIDAsString()
            open_views.add(name)
            if name not in self._outlines:
                self._outlines[name] = Outlines(view)
            for channel, representation in shown.items():
                self._calm(representation)
                if channel in self._targets:
                    self._targets[channel].show(view)
                if channel not in boxes:
                    boxes[channel] = _boxes(self._sources[channel], self.filters)
            self._outlines[name].show(np.concatenate([boxes[channel] for channel in shown]))
        for name in self._outlines.keys() - open_views:
            del self._outlines[name]

    def _calm(self, representation: Any) -> None:
        """Let ParaView mark picks by their outer box, once: its meshes hide what they mark."""
        name = representation.GetGlobalIDAsString()
        if name not in self._calmed:
            self._calmed.add(name)
            representation.GetProperty("SelectionUseOutline").SetElement(0, 1)
            representation.UpdateVTKObjects()


def _visible(view: Any, source: Any) -> Any:
    """Return ParaView's proxy of how a view shows a source, None where it does not."""
    shown = view.SMProxy.GetProperty("Representations")
    for representation in (shown.GetProxy(index) for index in range(shown.GetNumberOfProxies())):
        given = representation.GetProperty("Input")
        if given is not None and given.GetNumberOfProxies() and given.GetProxy(0) is source.SMProxy:
            return (
                representation if representation.GetProperty("Visibility").GetElement(0) else None
            )
    return None


def _boxes(source: Any, filters: Filters) -> NDArray[Any]:
    """Return the rectangles of selected filters in a source, shape ``(n, 4)``."""
    dataset = source.GetClientSideObject().GetOutputDataObject(0)
    return np.concatenate([np.empty((0, 4)), *(extents(leaf, filters) for leaf in leaves(dataset))])


def _within(part: Filters, whole: Filters) -> bool:
    return all(set(numbers) <= set(whole.get(layer, ())) for layer, numbers in part.items())
