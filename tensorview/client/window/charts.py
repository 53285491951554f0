"""The line charts of the Health tab: numbers over steps, a line a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from tensorview.analysis.rules import RULES
from tensorview.client.window.labels import Labels
from tensorview.client.window.notes import header, read_notes
from tensorview.client.window.upkeep import show_now
from tensorview.client.window.writing import SMALL, TOP, write_header, write_status
from tensorview.worker.datasets import arrays
from tensorview.worker.pictures.canvas import ELLIPSIS
from tensorview.worker.pictures.colours import GRID, GROUPS, INK, LINE, MUTED, PAGE
from tensorview.worker.pictures.series import layer_colours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tensorview.client.window.upkeep import Upkeep
    from tensorview.worker.pictures.colours import Colour

KEY_PITCH = 17
"""Height of a line of a legend in points."""
LONGEST_LABEL = 22
MOST_DOTS = 12
"""Captures up to which each is marked with a dot."""
DOT, NO_DOT = "4", "0"
LOG_MARGIN = 1.3
"""Factor by which a logarithmic axis reaches beyond the values."""
ALWAYS = {"update_ratio", "gradient_norm", "curvature", "dead"}
"""Shown for every layer; other quantities only where they are not 0, as they should be."""
SUFFIXES = {
    "nonfinite_weights": " (weights)",
    "nonfinite_gradients": " (gradients)",
    "nonfinite_activations": " (activations)",
    **{rule.column: f" ({rule.kind})" for rule in RULES},
}


class Chart(NamedTuple):
    """What a chart is of.

    Attributes:
        about: what is behind its title; empty for what is known of the run.
        quantities: of the layers; none for what the user logged.
        is_logarithmic: the y axis.
        nothing: is behind the title instead, where there are no lines.
    """

    about: str
    quantities: tuple[str, ...]
    is_logarithmic: bool = False
    nothing: str = "no values"


CHARTS = {
    "Loss": Chart("", ()),
    "Update ratio": Chart("last update / weights, log scale", ("update_ratio",), True),
    "Gradient norm": Chart("log scale", ("gradient_norm",), True),
    "Flags": Chart("1 while they stand", tuple(rule.column for rule in RULES), nothing="none"),
    "Curvature": Chart("of the path, degrees a capture", ("curvature",)),
    "Dead filters": Chart(
        "and values that are not finite",
        ("dead", "nonfinite_weights", "nonfinite_gradients", "nonfinite_activations"),
    ),
}


class Line(NamedTuple):
    """A column that a chart shows, what it is called there, and its colour."""

    column: str
    label: str
    colour: Colour


class ChartDisplay:
    """One chart of the scalars.

    Args:
        title: of `CHARTS`.
        view: ParaView's line chart view.
        sources: by Catalyst channel; may grow.
        upkeep: keeps what the user has changed.
    """

    channels = ("scalars",)

    def __init__(
        self, title: str, view: Any, *, sources: Mapping[str, Any], upkeep: Upkeep
    ) -> None:
        self.view = view
        self._title = title
        self._chart = CHARTS[title]
        self._sources = sources
        self._upkeep = upkeep
        self._shown: Any = None
        self._status = ""
        self._seen: Any = None
        self._labels = Labels(view)
        _set_up(view)

    def say(self, text: str) -> None:
        """Write the status line."""
        self._status = text

    def needs_update(self) -> bool:
        """Say whether size or status are not those that were written for."""
        return self._seen is None or self._seen[0] != self._screen()

    def update(self) -> None:
        """Bring the chart up to date with the scalars."""
        data = None
        if "scalars" in self._sources:
            data = self._sources["scalars"].GetClientSideObject().GetOutputDataObject(0)
        seen = (self._screen(), data and data.GetMTime())
        if seen == self._seen:
            return
        self._seen = seen
        notes = read_notes([] if data is None else [data])
        columns = {} if data is None else dict(arrays(data.GetPointData()))
        found = lines(columns, self._chart, layers=[place.name for place in notes.places])
        about = self._chart.about or header(notes)
        # Of a line with one point VTK would complain in a box.
        has_rows = len(columns.get("step", ())) > 1
        has_lines = bool(found) and has_rows
        if notes.run and not has_lines:
            about = self._chart.nothing if has_rows else "from the second capture on"
        if has_rows:
            self._draw(found, columns=columns)
        if self._shown:
            self._upkeep.set(self._shown, Visibility=int(has_rows))
        for scale in ("ShowLeftAxisLabels", "ShowBottomAxisLabels", "ShowLeftAxisGrid"):
            # Without lines, ParaView's would go from 0 to 6.
            self._upkeep.set(self.view, **{scale: int(has_lines)})
        self._labels.begin()
        write_header(self._labels, self._title, about=about)
        write_status(self._labels, self._status)
        self._labels.end()

    def _screen(self) -> Any:
        return *self._labels.size, self._status

    def _draw(self, found: list[Line], *, columns: Mapping[str, NDArray[Any]]) -> None:
        if self._shown is None:
            self._shown = show_now(self._sources["scalars"], self.view)
            self._shown.AttributeType = "Point Data"
            self._shown.UseIndexForXAxis = 0
            self._shown.XArrayName = "step"
        mark = DOT if len(columns["step"]) <= MOST_DOTS else NO_DOT
        shown = dict.fromkeys(line.column for line in found)
        visible = {column: [str(int(column in shown))] for column in {**shown, **columns}}
        for name, rows in (
            ("SeriesVisibility", visible),
            ("SeriesLabel", {line.column: [line.label] for line in found}),
            ("SeriesColor", {line.column: [*map(str, line.colour)] for line in found}),
            ("SeriesLineThickness", {line.column: ["2"] for line in found}),
            ("SeriesMarkerStyle", {line.column: [mark] for line in found}),
            ("SeriesMarkerSize", {line.column: ["5"] for line in found}),
        ):
            self._upkeep.set_rows(self._shown, name, rows)
        self._set_axis(np.concatenate([np.empty(0), *(columns[line.column] for line in found)]))
        room = (self._labels.size[1] - 2 * TOP) / KEY_PITCH
        is_loss_alone = [line.column for line in found] == ["loss"]  # as the title says
        self._upkeep.set(self.view, ShowLegend=int(not is_loss_alone and 0 < len(found) <= room))

    def _set_axis(self, values: NDArray[Any]) -> None:
        """Make the y axis logarithmic where it can be."""
        values = values[np.isfinite(values)]
        positive = values[values > 0]
        is_logarithmic = self._chart.is_logarithmic and positive.size > 0
        self._upkeep.set(self.view, LeftAxisLogScale=int(is_logarithmic))
        if is_logarithmic and positive.size < values.size:
            # Over an axis that reaches 0, ParaView would put a red sign.
            self._upkeep.set(
                self.view,
                LeftAxisUseCustomRange=1,
                LeftAxisRangeMinimum=positive.min() / LOG_MARGIN,
                LeftAxisRangeMaximum=positive.max() * LOG_MARGIN,
            )
        else:
            self._upkeep.set(self.view, LeftAxisUseCustomRange=0)
            # ParaView itself changes them from now on.
            self._upkeep.forget(self.view, "LeftAxisRangeMinimum", "LeftAxisRangeMaximum")


def lines(columns: Mapping[str, NDArray[Any]], chart: Chart, *, layers: list[str]) -> list[Line]:
    """Choose the columns of a chart: of layers in their order, or else the loss, then the others.

    Args:
        columns: by name, as in the dataset; shape ``(T,)`` each. Without a finite value they are
            left out.
        chart: what to show.
        layers: names of all layers.
    """
    names = {unquote(name): name for name, values in columns.items() if np.isfinite(values).any()}
    found = []
    if not chart.quantities:
        of_layers = tuple(f"{layer}/" for layer in layers)
        logged = [name for name in names if name != "step" and not name.startswith(of_layers)]
        logged.sort(key=lambda name: name != "loss")
        tones = [INK, *GROUPS] if logged[:1] == ["loss"] else list(GROUPS)
        found = [
            Line(names[name], _short(name), tones[index % len(tones)])
            for index, name in enumerate(logged)
        ]
    for quantity in chart.quantities:
        for layer, colour in zip(layers, layer_colours(len(layers)), strict=True):
            column = names.get(f"{layer}/{quantity}")
            if column and (quantity in ALWAYS or (columns[column] > 0).any()):
                found.append(Line(column, _short(layer) + SUFFIXES.get(quantity, ""), colour))
    return found


def _short(name: str) -> str:
    half = (LONGEST_LABEL - len(ELLIPSIS)) // 2
    return name if len(name) <= LONGEST_LABEL else name[:half] + ELLIPSIS + name[-half:]


def _set_up(view: Any) -> None:
    view.ChartTitle = " "  # keeps room for ours
    view.ChartTitleFontSize = round(TOP)
    view.LegendFontSize = round(SMALL)
    view.BottomAxisTitle = "step"
    view.ShowBottomAxisGrid = 0
    view.HideTimeMarker = 1
    for axis in ("Bottom", "Left"):
        for name, value in (
            ("TitleBold", 0),
            ("TitleFontSize", round(SMALL)),
            ("TitleColor", list(MUTED)),
            ("LabelFontSize", round(SMALL)),
            ("LabelColor", list(MUTED)),
            ("Color", list(LINE)),
            ("GridColor", list(GRID)),
        ):
            setattr(view, f"{axis}Axis{name}", value)
    # Beside the lines, not over them; ParaView has no property for it.
    legend = view.GetClientSideObject().GetContextItem().GetLegend()
    legend.SetInline(False)
    legend.GetPen().SetOpacity(0)
    legend.GetBrush().SetOpacity(0)  # else a long one hides the last number of the axis
    view.GetClientSideObject().GetContextView().GetRenderer().SetBackground(*PAGE)
