"""How every view is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tensorview.client.window.grounds import boxes, trays, windows
from tensorview.worker.pictures.scene import Eye
from tensorview.worker.views.layout import LABEL_GAP
from tensorview.worker.views.weights import HEIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FLAT = {"Ambient": 1.0, "Diffuse": 0.0}
"""Colours as they are in the colour map, whatever the light."""


class Look(NamedTuple):
    """How a view is drawn.

    Attributes:
        title: of the view.
        array: to colour by.
        on_points: whether that is a point array.
        bar: title of its colour bar, empty for none.
        eye: where the camera stands.
        depth: heights that must be seen, None for those of the data's bounds.
        is_flat: whether the view is moved in two dimensions only.
        samples: a pixel; more smooth edges, and show what is thinner than a pixel.
        blurs: whether edges are smoothed afterwards instead, which blurs what is small.
        properties: of the representation.
        ground: makes what the data stand on.
        title_room: height that is free for titles, in panel units.
        title_rise: distance of a title from its panel, in panel units; negative for one below.
        gutters: whether NaN in an image stands for nothing.
        has_groups: whether a legend of groups is needed.
        has_frames: whether there are frames in the colour of the group.
    """

    title: str
    array: str
    on_points: bool = False
    bar: str = ""
    eye: Eye = Eye()
    depth: tuple[float, float] | None = None
    is_flat: bool = True
    samples: int = 4
    blurs: bool = False
    properties: Mapping[str, Any] = FLAT
    ground: Callable[..., Any] | None = None
    title_room: float = LABEL_GAP
    title_rise: float = 0.0
    gutters: bool = True
    has_groups: bool = False
    has_frames: bool = False


LOOKS = {
    "weights": Look(
        "Weights",
        "weight_scaled",
        bar="weight / range",
        eye=Eye(elevation=64.0),
        depth=(-HEIGHT, HEIGHT),
        is_flat=False,
        samples=0,  # without a graphics card they would take as long as all else
        properties={"Ambient": 0.45, "Diffuse": 0.7, "Specular": 0.0},
        ground=trays,
        title_room=0.11,  # blocks rise and trays hang into the rest
        title_rise=0.03,
    ),
    "trajectory": Look(
        "Trajectory",
        "step",
        on_points=True,
        bar="step",
        # High above: the first two axes, which lie flat, hold most of a path's variance.
        eye=Eye(elevation=66.0, azimuth=-8.0),
        is_flat=False,
        samples=0,
        blurs=True,  # round dots
        properties={
            **FLAT,
            "LineWidth": 4.0,
            "PointSize": 10.0,
            "RenderPointsAsSpheres": 1,
        },
        ground=boxes,
        title_rise=-LABEL_GAP,
    ),
    "distribution": Look("Distribution", "group", ground=windows, has_groups=True),
    "maps": Look("Maps", "activation_scaled", bar="activation", has_groups=True, has_frames=True),
    "correlation": Look("Correlation", "pcc", bar="Pearson r", gutters=False),
}
