"""The line charts of the Health tab: numbers over steps, a line a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from paraview.simple import Show

from tensorview.client.window.notes import header, read_notes
from tensorview.client.window.upkeep import is_open
from tensorview.worker.datasets import arrays
from tensorview.worker.pictures.colours import GRID, GROUPS, INK, LINE, MUTED
from tensorview.worker.pictures.series import layer_colours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tensorview.client.window.upkeep import Upkeep
    from tensorview.worker.pictures.colours import Colour

TITLE, TEXT = 15, 11
"""Sizes of letters in pixels."""
MOST_NAMED = 8
"""Lines up to which a legend names them."""


class Kind(NamedTuple):
    """What a chart is of.

    Attributes:
        quantities: of the layers; empty for what the user logged.
        axis: title of the y axis.
        logarithmic: y axis.
    """

    quantities: tuple[str, ...]
    axis: str
    logarithmic: bool = False


CHARTS = {
    "Loss": Kind((), "as logged"),
    "Update ratio": Kind(("update_ratio",), "update / weight norm", logarithmic=True),
    "Gradient norm": Kind(("gradient_norm",), "norm", logarithmic=True),
    "Dead filters": Kind(("dead", "nonfinite_weights", "nonfinite_activations"), "count"),
}
ALWAYS_SHOWN = ("update_ratio", "gradient_norm", "dead")
"""Others only where they are not 0: there should be none that are not finite."""
SUFFIXES = {
    "nonfinite_weights": " weights not finite",
    "nonfinite_activations": " activations not finite",
}


class Line(NamedTuple):
    """A column that a chart shows, what it is called there, and its colour."""

    column: str
    label: str
    colour: Colour


class Health:
    """The charts of the scalars.

    Args:
        views: ParaView's line chart views, one a title in `CHARTS`.
        sources: by Catalyst channel.
        upkeep: keeps what the user has changed.
    """

    def __init__(self, views: list[Any], *, sources: Mapping[str, Any], upkeep: Upkeep) -> None:
        self._views = dict(zip(CHARTS, views, strict=True))
        self._sources = sources
        self._upkeep = upkeep
        self._shown: dict[str, Any] = {}
        self._status = ""
        self._stamp: Any = None
        for title, view in self._views.items():
            _set_up(view, CHARTS[title])
        self.update()

    @property
    def view(self) -> Any:
        """The first chart."""
        return self.open_views()[0]

    def open_views(self) -> list[Any]:
        """Return the charts that the user has not closed."""
        return [view for view in self._views.values() if is_open(view)]

    def say(self, text: str) -> None:
        """Write the status line."""
        self._status = text

    def needs_update(self) -> bool:
        """Charts fit themselves to their size."""
        return False

    def update(self) -> None:
        """Bring all charts up to date with the scalars."""
        source = self._sources.get("scalars")
        if source is None:
            return
        data = source.GetClientSideObject().GetOutputDataObject(0)
        stamp = (id(data), data.GetMTime(), self._status)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        columns = {name: np.asarray(values) for name, values in arrays(data.GetPointData()).items()}
        notes = read_notes([data])
        layers = [place.name for place in notes.places]
        for title, view in self._views.items():
            if not is_open(view):
                continue
            found = lines(columns, CHARTS[title], layers=layers)
            self._draw(title, view, source, found, columns=columns)
        for view in self.open_views()[:1]:
            title = next(name for name, other in self._views.items() if other is view)
            text = "   ".join(filter(None, (title, header(notes))))
            self._upkeep.set(view, ChartTitle=text)
            self._upkeep.set(view, BottomAxisTitle="\n".join(filter(None, ("step", self._status))))

    def _draw(
        self,
        title: str,
        view: Any,
        source: Any,
        found: list[Line],
        *,
        columns: Mapping[str, NDArray[Any]],
    ) -> None:
        if title not in self._shown:
            if not found:
                return
            self._shown[title] = Show(source, view, "XYChartRepresentation")
            self._shown[title].AttributeType = "Point Data"
            self._shown[title].UseIndexForXAxis = 0
            self._shown[title].XArrayName = "step"
        shown = self._shown[title]
        self._upkeep.set(
            shown,
            SeriesVisibility=[line.column for line in found],
            SeriesLabel=[part for line in found for part in (line.column, line.label)],
            SeriesColor=[part for line in found for part in (line.column, *map(str, line.colour))],
            SeriesLineThickness=[part for line in found for part in (line.column, "2")],
        )
        values = [columns[line.column] for line in found]
        positive = any((column[np.isfinite(column)] > 0).any() for column in values)
        self._upkeep.set(view, LeftAxisLogScale=int(CHARTS[title].logarithmic and positive))
        self._upkeep.set(view, ShowLegend=int(1 <= len(found) <= MOST_NAMED))


def lines(columns: Mapping[str, NDArray[Any]], kind: Kind, *, layers: list[str]) -> list[Line]:
    """Choose the columns of a chart, in the order of the layers.

    Args:
        columns: by name, as in the dataset; shape ``(T,)`` each.
        kind: of the chart.
        layers: names of all layers.
    """
    names = {unquote(column): column for column in columns}
    tones = layer_colours(len(layers))
    found = []
    if not kind.quantities:
        of_layers = tuple(f"{layer}/" for layer in layers)
        logged = [name for name in names if name != "step" and not name.startswith(of_layers)]
        logged.sort(key=lambda name: name != "loss")
        for index, name in enumerate(logged):
            colour = INK if name == "loss" else GROUPS[index % len(GROUPS)]
            found.append(Line(names[name], name, colour))
    for quantity in kind.quantities:
        for layer, colour in zip(layers, tones, strict=True):
            name = f"{layer}/{quantity}"
            if name in names and (quantity in ALWAYS_SHOWN or np.any(columns[names[name]] > 0)):
                found.append(Line(names[name], layer + SUFFIXES.get(quantity, ""), colour))
    return [line for line in found if np.isfinite(columns[line.column]).any()]


def _set_up(view: Any, kind: Kind) -> None:
    view.ChartTitleAlignment = "Left"
    view.ChartTitleBold = 1
    view.BottomAxisTitle, view.LeftAxisTitle = "step", kind.axis
    view.ChartTitleColor = list(INK)
    for axis in ("Bottom", "Left"):
        setattr(view, f"{axis}AxisTitleBold", 0)
        setattr(view, f"{axis}AxisTitleColor", list(MUTED))
        setattr(view, f"{axis}AxisLabelColor", list(MUTED))
        setattr(view, f"{axis}AxisColor", list(LINE))
        setattr(view, f"{axis}AxisGridColor", list(GRID))
    view.ShowBottomAxisGrid = 0
    view.HideTimeMarker = 1
