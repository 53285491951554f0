"""The tabs of the window: one a question, each a layout of views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paraview import servermanager
from paraview.simple import (
    CreateView,
    Delete,
    GetActiveView,
    GetLayout,
    GetLayouts,
    GetViews,
    RemoveLayout,
    RenameView,
    SetActiveView,
)

from tensorview.client.window.charts import CHARTS, ChartDisplay
from tensorview.client.window.colour_maps import ColourMaps
from tensorview.client.window.displays import Display
from tensorview.client.window.looks import LOOKS
from tensorview.client.window.upkeep import Upkeep, is_open
from tensorview.tabs import TABS

if TYPE_CHECKING:
    from collections.abc import Mapping


class Tabs:
    """All that is seen of the sources.

    Empty views that were there before go; those that show something of the user's stay.

    Args:
        sources: by Catalyst channel; empty ones are filled later, and more may come.
    """

    def __init__(self, sources: Mapping[str, Any]) -> None:
        upkeep = Upkeep()
        maps = ColourMaps(upkeep)
        former_views = [view for view in GetViews() if _is_empty(view)]
        of_user = [view for view in GetViews() if not _is_empty(view)]
        former_layouts = [
            layout
            for layout in GetLayouts().values()
            if all(layout.GetViewLocation(view) < 0 for view in of_user)
        ]
        # All views first: ParaView lets each new one put some properties of the others back.
        made = {
            tab: [_new_view(title) for _, title in _titles(names)] for tab, names in TABS.items()
        }
        self._displays: dict[str, list[Display | ChartDisplay]] = {}
        for tab, names in TABS.items():
            _lay_out(tab.capitalize(), made[tab])
            self._displays[tab] = [
                ChartDisplay(title, view, sources=sources, upkeep=upkeep)
                if title in CHARTS
                else Display(name, view, sources=sources, maps=maps, upkeep=upkeep)
                for (name, title), view in zip(_titles(names), made[tab], strict=True)
            ]
        first = made[next(iter(TABS))][0]
        SetActiveView(first)
        # In its window, ParaView draws into what Qt gives.
        self._has_window = bool(first.GetRenderWindow().IsA("vtkGenericOpenGLRenderWindow"))
        self._front = GetLayout(first) if self._has_window else None
        self.update()  # the other tabs once they are looked at: each takes a part of a second
        for view in former_views:
            Delete(view)
        for layout in former_layouts:
            RemoveLayout(layout)

    @property
    def views(self) -> dict[str, list[Any]]:
        """Return ParaView's render views by the name of what they show, without closed ones."""
        result: dict[str, list[Any]] = {}
        for display in self._open():
            if isinstance(display, Display):
                result.setdefault(display.name, []).append(display.view)
        return result

    def update(self) -> None:
        """Bring what the user looks at up to date with the sources, without rendering."""
        for display in self._in_front():
            display.update()

    def render(self) -> None:
        """Render what the user looks at; without a window of ParaView's, all tabs."""
        self._front = self._looked_at()
        for display in self._in_front():
            display.view.StillRender()

    def changed_tab(self) -> bool:
        """Say whether the user looks at another tab, size or zoom than at the last `render`."""
        return self._looked_at() != self._front or any(
            display.needs_update() for display in self._in_front()
        )

    def front_views(self) -> list[Any]:
        """Return the views that the user looks at; where nobody can look, all."""
        return [display.view for display in self._in_front()]

    def front_channels(self) -> set[str]:
        """Return the Catalyst channels that they show, as far as there are any."""
        return {channel for display in self._in_front() for channel in display.channels}

    def say(self, text: str) -> None:
        """Write the status line of every tab, at the next `update`."""
        self._open()
        for displays in self._displays.values():
            for display in displays[:1]:
                display.say(text)

    def _open(self) -> list[Display | ChartDisplay]:
        """Return what the user has not closed, and let go of the rest."""
        for displays in self._displays.values():
            displays[:] = [display for display in displays if is_open(display.view)]
        return [display for displays in self._displays.values() for display in displays]

    def _looked_at(self) -> Any:
        """Return the layout that the user looks at, None where nobody can look."""
        active = GetActiveView() if self._has_window else None
        # While nothing is active, a view was closed in the tab that is still in front.
        return GetLayout(active) if active else self._front

    def _in_front(self) -> list[Display | ChartDisplay]:
        """Return what is shown in the tab that the user looks at; where nobody can look, all."""
        front = self._looked_at()
        return [
            display
            for display in self._open()
            if front is None or front.GetViewLocation(display.view) >= 0
        ]


def _titles(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return names and titles of a tab's views; of scalars there is one a chart."""
    if names == ("scalars",):
        return [("scalars", title) for title in CHARTS]
    return [(name, LOOKS[name].title) for name in names]


def _is_empty(view: Any) -> bool:
    """Say whether a view is as ParaView opens it: nothing was ever shown there."""
    return not view.SMProxy.GetProperty("Representations").GetNumberOfProxies()


def _new_view(title: str) -> Any:
    view = CreateView("XYChartView" if title in CHARTS else "RenderView")
    RenameView(title, view)
    return view


def _lay_out(name: str, views: list[Any]) -> None:
    """Put views side by side; four and six in two rows."""
    layout = servermanager.misc.ViewLayout()
    layout.AssignView(0, views[0])
    if len(views) == 4:
        layout.SplitHorizontal(0, 0.5)
        layout.AssignView(2, views[1])
        layout.SplitVertical(1, 0.5)
        layout.AssignView(4, views[2])
        layout.SplitVertical(2, 0.5)
        layout.AssignView(6, views[3])
    elif len(views) == 6:
        layout.SplitHorizontal(0, 1 / 3)
        layout.SplitHorizontal(2, 0.5)
        for index, column in enumerate((1, 5, 6)):
            layout.AssignView(column, views[index])
            layout.SplitVertical(column, 0.5)
            layout.AssignView(2 * column + 2, views[index + 3])
    elif len(views) == 3:
        layout.SplitHorizontal(0, 1 / 3)
        layout.AssignView(2, views[1])
        layout.SplitHorizontal(2, 0.5)
        layout.AssignView(6, views[2])
    # Last: ParaView builds a tab that it shows anew at each change.
    servermanager.ProxyManager().RegisterProxy("layouts", name, layout)
