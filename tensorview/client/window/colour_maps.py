"""Colour maps, one an array as ParaView has them, and their bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from paraview.servermanager import vtkSMProxyManager
from paraview.simple import GetColorTransferFunction, GetScalarBar
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from tensorview.client.window.cameras import size_in_points
from tensorview.snapshot import GROUP_DEAD, GROUP_NONE
from tensorview.worker.pictures.colours import (
    DIVERGING,
    INK,
    MUTED,
    NOT_FINITE,
    SEQUENTIAL,
    STEPS,
    UNDEFINED,
    WEIGHTS,
    group_colour,
)
from tensorview.worker.pictures.ticks import ticks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from tensorview.client.window.upkeep import Upkeep
    from tensorview.worker.pictures.colours import Colour, Ramp

RAMPS: dict[str, tuple[Ramp, float, float]] = {
    "weight_scaled": (WEIGHTS, -1, 1),
    "activation_scaled": (SEQUENTIAL, 0, 1),
    "pcc": (DIVERGING, -1, 1),
    "step": (STEPS, 0, 1),
}
LABELS = {
    "weight_scaled": [-1.0, 0.0, 1.0],
    "activation_scaled": [0.0, 0.5, 1.0],
    "pcc": [-1.0, 0.0, 1.0],
}
NAN: dict[str, tuple[Colour, float]] = {
    "activation_scaled": (UNDEFINED, 0.0),  # frames have no activation
    "weight_scaled": (NOT_FINITE, 1.0),
    "pcc": (UNDEFINED, 1.0),
}
NAMES = {GROUP_DEAD: "dead", GROUP_NONE: "in no group"}
THICKNESS, LETTERS = 12, 11
"""Of colour bars, in points."""


class ColourMaps:
    """The colour maps of all views.

    Args:
        upkeep: keeps what the user has changed.
    """

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep
        self._tables: dict[str, Any] = {}
        self._bars: dict[tuple[str, str], Any] = {}
        self._last = 1
        for array, (ramp, low, high) in RAMPS.items():
            table = self.table(array)
            table.ColorSpace = "RGB"
            colour, opacity = NAN.get(array, (UNDEFINED, 1.0))
            table.NanColor, table.NanOpacity = list(colour), opacity
            self._set_ramp(array, ramp, low, high)
        self.name_groups(0)

    def table(self, array: str) -> Any:
        """Return ParaView's colour map of an array."""
        if array not in self._tables:
            self._tables[array] = GetColorTransferFunction(array)
            self._tables[array].AutomaticRescaleRangeMode = "Never"
        return self._tables[array]

    def end_steps(self, last: int) -> None:
        """Let the colours of steps end at the last one of the run."""
        self._last = max(1, last)
        self._set_ramp("step", STEPS, 0, self._last)

    def name_groups(self, last: int) -> None:
        """Name and colour the groups up to *last*."""
        table = self.table("group")
        groups = range(GROUP_DEAD, max(0, last) + 1)
        known = len(table.Annotations) // 2
        if known >= len(groups):
            return
        self._upkeep.set(
            table,
            InterpretValuesAsCategories=1,
            Annotations=[
                text
                for group in groups
                for text in (str(group), NAMES.get(group, f"group {group}"))
            ],
            IndexedColors=[part for group in groups for part in group_colour(group)],
            IndexedOpacities=[1.0] * len(groups),
        )

    def group_keys(self, groups: Iterable[int]) -> list[tuple[str, Colour]]:
        """Return a line of legend for every colour among *groups*: its text and the colour."""
        table = self.table("group")
        names, parts = list(table.Annotations)[::2], list(table.IndexedColors)
        tones = {int(name): tuple(parts[3 * i : 3 * i + 3]) for i, name in enumerate(names)}
        alike: dict[Any, list[int]] = {}
        for group in sorted(groups, key=lambda group: (group < 0, group)):
            alike.setdefault(tones.get(group, tuple(table.NanColor)), []).append(group)
        return [
            (
                ", ".join(NAMES.get(group, str(group)) for group in same[:3])
                + (", ..." if len(same) > 3 else ""),
                colour,
            )
            for colour, same in alike.items()
        ]

    def show_bar(
        self, array: str, view: Any, *, title: str, place: tuple[float, float], length: float
    ) -> None:
        """Show the colour bar of an array in a view.

        Args:
            array: what is coloured.
            view: where.
            title: above it.
            place: of its lower left corner, in points from that of the view.
            length: in points.
        """
        key = (array, view.SMProxy.GetGlobalIDAsString())
        width, height = size_in_points(view)
        if key not in self._bars:
            self._bars[key] = _new_bar(self.table(array), view, title=title)
        bar = self._bars[key]
        self._upkeep.set(
            bar,
            Position=[place[0] / width, place[1] / height],
            ScalarBarLength=length / height,
            ScalarBarThickness=THICKNESS,
            TitleFontSize=LETTERS,
            LabelFontSize=LETTERS,
        )
        marks = LABELS.get(array) or [
            step for step in ticks(0, self._last, count=4) if step == round(step)
        ]
        self._upkeep.set(bar, CustomLabels=marks)

    def _set_ramp(self, array: str, ramp: Ramp, low: float, high: float) -> None:
        points = [part for place, *colour in ramp for part in (low + place * (high - low), *colour)]
        self._upkeep.set(self.table(array), RGBPoints=points)


def mapped(values: NDArray[Any], table: Any) -> NDArray[Any]:
    """Colour values of shape ``(n,)`` by one of ParaView's colour maps.

    Returns:
        Shape ``(n, 3)``, uint8.
    """
    given = numpy_to_vtk(np.ascontiguousarray(values, np.float64))
    rgba = vtk_to_numpy(table.GetClientSideObject().MapScalars(given, 0, -1))
    result: NDArray[Any] = rgba[:, :3].copy()
    return result


def _new_bar(table: Any, view: Any, *, title: str) -> Any:
    bar = GetScalarBar(table, view)
    bar.Title, bar.ComponentTitle = title, ""
    bar.WindowLocation = "Any Location"
    bar.Orientation = "Vertical"
    bar.HorizontalTitle = 1
    bar.TitleJustification = "Left"
    bar.TitleColor, bar.LabelColor = list(INK), list(MUTED)
    bar.AutomaticLabelFormat = 0
    bar.LabelFormat = bar.RangeLabelFormat = (
        "{:g}" if vtkSMProxyManager.GetVersionMajor() > 5 else "%g"
    )
    bar.UseCustomLabels = 1
    bar.AddRangeLabels = 0
    bar.DrawTickMarks = 0
    bar.DrawNanAnnotation = 0
    bar.Visibility = 1
    return bar
