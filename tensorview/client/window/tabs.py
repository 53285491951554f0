"""The tabs of the window: one a question, each a layout of views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import paraview
from paraview.simple import (
    CreateLayout,
    CreateView,
    Delete,
    GetActiveView,
    GetLayouts,
    GetViews,
    RemoveLayout,
    RenameView,
    SetActiveView,
)

from tensorview.client.window.charts import CHARTS, Health
from tensorview.client.window.colour_maps import ColourMaps
from tensorview.client.window.displays import LOOKS, Display
from tensorview.client.window.upkeep import Upkeep
from tensorview.tabs import TABS

if TYPE_CHECKING:
    from collections.abc import Mapping


class Tabs:
    """All that is seen of the sources.

    Args:
        sources: by Catalyst channel; empty ones are filled later, and more may come.

    Attributes:
        views: ParaView's render views by the name of what they show.
    """

    def __init__(self, sources: Mapping[str, Any]) -> None:
        upkeep = Upkeep()
        maps = ColourMaps(upkeep)
        former_views, former_layouts = GetViews(), list(GetLayouts().values())
        self.views: dict[str, list[Any]] = {}
        self._parts: dict[str, list[Any]] = {}
        self._last_tab = ""
        for tab, names in TABS.items():
            if names == ("scalars",):
                views = [_new_view("XYChartView", title) for title in CHARTS]
                parts: list[Any] = [Health(views, sources=sources, upkeep=upkeep)]
            else:
                views = [_new_view("RenderView", LOOKS[name].title) for name in names]
                parts = [
                    Display(name, view, sources=sources, maps=maps, upkeep=upkeep)
                    for name, view in zip(names, views, strict=True)
                ]
                for name, view in zip(names, views, strict=True):
                    self.views.setdefault(name, []).append(view)
            _lay_out(tab.capitalize(), views)
            self._parts[tab] = parts
        for view in former_views:
            Delete(view)
        for layout in former_layouts:
            RemoveLayout(layout)
        SetActiveView(self._parts[next(iter(TABS))][0].view)

    def update(self) -> None:
        """Bring what the user looks at up to date with the sources, without rendering."""
        for part in self._front_parts():
            part.update()

    def render(self, *, tab: str | None = None) -> None:
        """Render what the user looks at; without ParaView's window all tabs, or *tab* alone."""
        self._last_tab = self._front()
        for part in self._front_parts() if tab is None else self._open_parts(tab):
            for view in part.open_views():
                view.StillRender()

    def changed_tab(self) -> bool:
        """Say whether the user looks at another tab, size or zoom than at the last `render`."""
        if self._front() != self._last_tab:
            return True
        return any(part.needs_update() for part in self._front_parts())

    def say(self, text: str) -> None:
        """Write the status line of every tab, at the next `update`."""
        for tab in self._parts:
            for part in self._open_parts(tab)[:1]:
                part.say(text)

    def _front(self) -> str:
        """Return the tab that the user looks at, empty where there is no window."""
        if not paraview.fromGUI:
            return ""
        active = GetActiveView()
        for tab in self._parts:
            for part in self._open_parts(tab):
                if active in part.open_views():
                    return tab
        return ""

    def _front_parts(self) -> list[Any]:
        tabs = [self._front()] if paraview.fromGUI else list(self._parts)
        return [part for tab in tabs for part in self._open_parts(tab)]

    def _open_parts(self, tab: str) -> list[Any]:
        """Return what the user has not closed of a tab."""
        return [part for part in self._parts.get(tab, ()) if part.open_views()]


def _new_view(kind: str, title: str) -> Any:
    view = CreateView(kind)
    RenameView(title, view)
    return view


def _lay_out(name: str, views: list[Any]) -> None:
    """Put views side by side; four in two rows."""
    layout = CreateLayout(name)
    layout.AssignView(0, views[0])
    if len(views) == 4:
        layout.SplitHorizontal(0, 0.5)
        for place, view in ((2, views[1]),):
            layout.AssignView(place, view)
        layout.SplitVertical(1, 0.5)
        layout.AssignView(4, views[2])
        layout.SplitVertical(2, 0.5)
        layout.AssignView(6, views[3])
    elif len(views) == 3:
        layout.SplitHorizontal(0, 1 / 3)
        layout.AssignView(2, views[1])
        layout.SplitHorizontal(2, 0.5)
        layout.AssignView(6, views[2])
