"""The picture of the scalars: a chart a quantity, a line a layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from tensorview.worker.datasets import arrays
from tensorview.worker.pictures import colours
from tensorview.worker.pictures.content import places
from tensorview.worker.pictures.legend import Key
from tensorview.worker.pictures.scene import Rectangle
from tensorview.worker.pictures.series import charts, key_layers, layer_colours, standing_flags
from tensorview.worker.pictures.ticks import label, log_ticks, ticks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tensorview.worker.frame import Frame
    from tensorview.worker.pictures.part import Part, Slot
    from tensorview.worker.pictures.series import Chart

TITLE = "Scalars"
ASPECT, WIDEST = 1.5, 2.1
LINE_PIXELS, DOT_PIXELS = 1.8, 2.6
MOST_FLAGS = 12
"""Flags that are named."""
MOST_DOTS = 12
"""Captures up to which each is marked with a dot."""


def draw(part: Part, frame: Frame, *, last: Frame) -> None:
    """Draw the scalars of a frame.

    Args:
        part: of a picture, empty.
        frame: what to draw.
        last: whose table is shown up to the step of *frame*, with axes for all of it; one that
            begins after *frame* knows nothing of it.
    """
    table: Any = last.datasets["scalars"]
    columns = _columns(table)
    if not (columns.get("step", np.empty(0)) <= frame.step).any():
        table = frame.datasets["scalars"]
        columns = _columns(table)
    layers = [place.name for place in places(table)]
    found = charts(columns, layers=layers)
    if not found:
        part.nothing()
        return
    slots = part.grid(len(found), aspect=ASPECT, widest=WIDEST)
    for chart, slot in zip(found, slots, strict=True):
        part.chart_title(slot, chart.title + (", log scale" if chart.logarithmic else ""))
        _draw_chart(part, slot, chart, steps=columns["step"], until=frame.step)
    if any(line.layer is not None for chart in found for line in chart.lines):
        tones = layer_colours(len(layers))
        shown = key_layers(len(layers))
        part.legend.keys([Key(tones[i], layers[i], "line") for i in shown], title="layers")
        if len(shown) < len(layers):
            part.legend.note(f"{len(layers)} layers, coloured\nby their place in the network")
    past = np.flatnonzero(columns["step"] <= frame.step)
    flags = standing_flags(columns, layers=layers, row=past[-1]) if len(past) else []
    if flags:
        named = [f"{layers[index]}: {kind}" for index, kind in flags[:MOST_FLAGS]]
        more = [f"and {len(flags) - MOST_FLAGS} more"] if len(flags) > MOST_FLAGS else []
        part.legend.note("\n".join(["health flags:", *named, *more]))
    for mark in {chart.mark for chart in found if chart.mark is not None}:
        part.legend.keys([Key(colours.MUTED, f"rule of thumb, {label(mark)}", "dashed")])


def _columns(table: Any) -> dict[str, NDArray[Any]]:
    return {
        unquote(name): np.asarray(values) for name, values in arrays(table.GetPointData()).items()
    }


def _draw_chart(part: Part, slot: Slot, chart: Chart, *, steps: NDArray[Any], until: int) -> None:
    font = part.small_font(slot)
    low, high, marks = _axis(chart)
    texts = [label(mark) for mark in marks]
    left = max(part.canvas.width_of(text, size=font) for text in texts) + 0.8 * font
    outer = slot.rectangle
    first, last = float(np.nanmin(steps)), float(np.nanmax(steps))
    overhang = part.canvas.width_of(label(last), size=font) / 2  # of the last step
    plot = Rectangle(
        outer.left + left,
        outer.right - overhang,
        outer.bottom + 2.7 * font,
        outer.top - 0.4 * font,
    )
    if last == first:
        first, last = first - 0.5, last + 0.5

    def at(x: Any, y: Any) -> NDArray[Any]:
        with np.errstate(divide="ignore", invalid="ignore"):
            raised = np.log10(np.where(np.asarray(y, float) > 0, y, np.nan))
        height = raised if chart.logarithmic else np.asarray(y, float)
        height = np.where(np.isfinite(height), height, np.nan)
        across = (np.asarray(x, float) / 2 - first / 2) / (last / 2 - first / 2)
        up = (height / 2 - low / 2) / (high / 2 - low / 2)
        return np.stack(
            np.broadcast_arrays(plot.left + across * plot.width, plot.bottom + up * plot.height),
            axis=-1,
        )

    canvas = part.canvas
    for mark, text in zip(marks, texts, strict=True):
        y = float(at(first, mark)[1])
        canvas.path([(plot.left, y), (plot.right, y)], colour=colours.GRID, width=part.unit)
        canvas.text(
            plot.left - 0.4 * font,
            y,
            text,
            size=font,
            colour=colours.MUTED,
            align="right",
            vertical="centre",
        )
    for step in _step_ticks(part, first, last, font=font, width=plot.width):
        x = float(at(step, 1.0)[0])
        ends = [(x, plot.bottom), (x, plot.bottom - 0.35 * font)]
        canvas.path(ends, colour=colours.LINE, width=part.unit)
        canvas.text(
            x,
            plot.bottom - 0.5 * font,
            label(step),
            size=font,
            colour=colours.MUTED,
            align="centre",
            vertical="top",
        )
    canvas.text(
        plot.right,
        outer.bottom,
        "step",
        size=font,
        colour=colours.MUTED,
        align="right",
        vertical="bottom",
    )
    if chart.mark is not None and low <= math.log10(chart.mark) <= high:
        y = float(at(first, chart.mark)[1])
        canvas.dashed((plot.left, y), (plot.right, y), colour=colours.MUTED, width=part.unit)
    past = steps <= until
    for line in chart.lines:
        points = at(steps[past], line.values[past])
        canvas.path(points, colour=line.colour, width=LINE_PIXELS * part.unit)
        if len(steps) <= MOST_DOTS:
            canvas.dots(points, colour=line.colour, radius=DOT_PIXELS * part.unit)
        else:
            lonely = _lonely(points)
            canvas.dots(points[lonely], colour=line.colour, radius=LINE_PIXELS * part.unit)
    canvas.path(
        [(plot.left, plot.top), (plot.left, plot.bottom), (plot.right, plot.bottom)],
        colour=colours.LINE,
        width=part.unit,
    )


def _axis(chart: Chart) -> tuple[float, float, list[float]]:
    """Return the ends of the y axis (of its logarithm, where it is logarithmic), and its ticks."""
    values = np.concatenate([line.values for line in chart.lines]).astype(float)
    values = values[np.isfinite(values)]
    if chart.logarithmic:
        values = values[values > 0]
        if chart.mark is not None:
            values = np.append(values, chart.mark)
        low, high = math.log10(values.min()), math.log10(values.max())
        room = max(0.05 * (high - low), 0.1)
        low, high = low - room, high + room
        marks = log_ticks(10**low, 10**high, count=6)
        if len(marks) < 2:  # too narrow for powers of ten
            marks = ticks(10**low, 10**high, count=4)
        return low, high, [mark for mark in marks if mark > 0]
    low, high = float(values.min()), float(values.max())
    if chart.counts:
        low, high = min(low, 0.0), max(high, 1.0)
    room = 0.05 * (high - low) if high > low else abs(high) * 0.1 or 1.0
    bottom = low if low == 0 else low - room
    marks = ticks(bottom, high + room, count=5)
    if chart.counts:
        marks = [mark for mark in marks if mark == round(mark)]
    return bottom, high + room, marks


def _step_ticks(part: Part, first: float, last: float, *, font: float, width: float) -> list[float]:
    """Return as many whole steps as can be written beside each other."""
    widest = part.canvas.width_of(label(last), size=font) + 1.6 * font
    count = max(1, min(6, int(width / widest) - 1))
    found = [step for step in ticks(first, last, count=count) if step == round(step)]
    return found or [round(last)]


def _lonely(points: NDArray[Any]) -> NDArray[Any]:
    """Find points without a neighbour to draw a line to, shape ``(n,)``, bool."""
    finite = np.isfinite(points).all(axis=1)
    beside = np.zeros(len(finite), bool)
    beside[1:] |= finite[:-1]
    beside[:-1] |= finite[1:]
    result: NDArray[Any] = finite & ~beside
    return result
