"""From the columns of the scalars table to charts: which there are, and what lines they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.worker.pictures.colours import DEPTH, GROUPS, INK, ramp_colour

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tensorview.worker.pictures.colours import Colour

MOST_LAYER_COLOURS = len(GROUPS)
MOST_LAYER_KEYS = 12
RULE_OF_THUMB = 1e-3
"""Update-to-weight ratio at which training with plain optimizers tends to go well."""

_TITLES = {
    "loss": "loss",
    "gradient_norm": "gradient norm",
    "update_ratio": "update / weight norm",
    "curvature": "curvature, degrees a capture",
    "weight_norm": "weight norm",
    "flags": "health flags",
    "filters": "filters of pruned layers",
    "dead": "dead filters",
    "saturated": "saturated filters",
    "nonfinite_weights": "weights not finite",
    "nonfinite_gradients": "gradients not finite",
    "nonfinite_activations": "activations not finite",
}
_LOGARITHMIC = {"gradient_norm", "update_ratio"}
_FAULTS = {
    "flags",
    "saturated",
    "nonfinite_weights",
    "nonfinite_gradients",
    "nonfinite_activations",
}
"""Counts that have no chart where they are 0 throughout, as they should be."""
_COUNTS = {"filters", "dead", *_FAULTS}
_FLAG = "flag_"
"""Begins the columns of single kinds of flags."""
_NOT_DRAWN = "straightness"
"""Known so late in a run, and told by its flag."""


class Line(NamedTuple):
    """One column: its layer (None for what the user logged), values and colour."""

    layer: str | None
    values: NDArray[Any]
    colour: Colour


class Chart(NamedTuple):
    """One quantity.

    Attributes:
        title: above it.
        lines: one a layer, or one.
        logarithmic: y axis.
        counts: whole numbers from 0.
        mark: value to mark with a dashed line, None for none.
    """

    title: str
    lines: list[Line]
    logarithmic: bool
    counts: bool
    mark: float | None


def charts(columns: Mapping[str, NDArray[Any]], *, layers: Sequence[str]) -> list[Chart]:
    """Sort columns into charts: the loss, what else was logged, then layer by layer quantities.

    Args:
        columns: of equal length, by name: ``"step"``, ``"<layer>/<quantity>"``, others. Those of
            single kinds of flags are left out, see `standing_flags`; so is straightness.
        layers: all layers' names; their place decides their colour.

    Returns:
        Charts in which at least one value is finite. Numbers of filters are charted only of layers
        where they change.
    """
    logged: list[str] = []
    quantities: dict[str, list[Line]] = {quantity: [] for quantity in _TITLES if quantity != "loss"}
    tones = dict(zip(layers, layer_colours(len(layers)), strict=True))
    for name, values in columns.items():
        layer, _, quantity = name.rpartition("/")
        if layer in tones and (quantity.startswith(_FLAG) or quantity == _NOT_DRAWN):
            continue
        if layer in tones and quantity == "filters" and (values == values[-1:]).all():
            continue
        if layer in tones:
            quantities.setdefault(quantity, []).append(Line(layer, values, tones[layer]))
        elif name != "step":
            logged.append(name)
    logged.sort(key=lambda name: name != "loss")
    found = [
        Chart(
            title=_TITLES.get(name, name),
            lines=[Line(None, columns[name], INK)],
            logarithmic=False,
            counts=False,
            mark=None,
        )
        for name in logged
    ]
    for quantity, lines in quantities.items():
        positive = any((line.values[np.isfinite(line.values)] > 0).any() for line in lines)
        if quantity in _FAULTS and not positive:
            continue
        found.append(
            Chart(
                title=_TITLES.get(quantity, quantity.replace("_", " ")),
                lines=lines,
                logarithmic=quantity in _LOGARITHMIC and positive,
                counts=quantity in _COUNTS,
                mark=RULE_OF_THUMB if quantity == "update_ratio" and positive else None,
            )
        )
    return [chart for chart in found if any(np.isfinite(line.values).any() for line in chart.lines)]


def standing_flags(
    columns: Mapping[str, NDArray[Any]], *, layers: Sequence[str], row: int
) -> list[tuple[int, str]]:
    """Name the flags that stand at one row of the table.

    Returns:
        Number of the layer and kind of flag, layer by layer.
    """
    return [
        (index, name.removeprefix(begin).replace("_", " "))
        for index, begin in enumerate(f"{layer}/{_FLAG}" for layer in layers)
        for name, values in columns.items()
        if name.startswith(begin) and values[row] > 0
    ]


def layer_colours(count: int) -> list[Colour]:
    """Return a colour a layer: distinct ones for few layers, by depth for many."""
    if count <= MOST_LAYER_COLOURS:
        return list(GROUPS[:count])
    return [ramp_colour(index / (count - 1), DEPTH) for index in range(count)]


def key_layers(count: int) -> list[int]:
    """Return the layers that a legend names: all, or evenly chosen ones from first to last."""
    shown = min(count, MOST_LAYER_KEYS)
    return sorted({round(index * (count - 1) / max(shown - 1, 1)) for index in range(shown)})
