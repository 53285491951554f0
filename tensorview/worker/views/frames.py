"""From a snapshot to the frame: every view's datasets, each with its field data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tensorview.worker.frame import CHANNELS, Frame
from tensorview.worker.views import (
    correlation,
    distribution,
    maps,
    scalars,
    trajectory,
    weights,
)
from tensorview.worker.views.annotations import (
    LayerNote,
    annotate,
    annotate_tiles,
)
from tensorview.worker.views.atlas import AtlasView, blocks, split
from tensorview.worker.views.layout import PanelLayer, panel_bounds, panels, view_bounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkPolyData

    from tensorview.snapshot import Layer, Snapshot


class _Look(NamedTuple):
    """How a view is titled, bounded and coloured.

    Attributes:
        detail: what a title says behind the layer's name and kind.
        depth: lowest and highest z of a layer's panel.
        color_array: of the polydata.
        color_range: of the polydata.
    """

    detail: Callable[[Layer], str]
    depth: Callable[[Layer], tuple[float, float]]
    color_array: str
    color_range: Callable[[Snapshot], tuple[float, float]]


def _flat(_: Layer) -> tuple[float, float]:
    return 0.0, 0.0


def _last_step(snapshot: Snapshot) -> tuple[float, float]:
    return 0.0, max(1.0, float(snapshot.step))


_LOOKS = {
    "weights": _Look(
        detail=weights.detail,
        depth=lambda _: (-weights.MAX_HEIGHT, weights.MAX_HEIGHT),
        color_array="weight_scaled",
        color_range=lambda _: (-1.0, 1.0),
    ),
    "trajectory": _Look(
        detail=trajectory.detail,
        depth=lambda layer: (0.0, trajectory.box_side(layer.trajectories)),
        color_array="step",
        color_range=_last_step,
    ),
    "distribution": _Look(
        detail=distribution.detail,
        depth=_flat,
        color_array="group",
        color_range=lambda snapshot: distribution.color_range(snapshot.layers),
    ),
    "maps": _Look(
        detail=maps.detail,
        depth=_flat,
        color_array="activation_scaled",
        color_range=lambda _: (0.0, 1.0),
    ),
    "correlation": _Look(
        detail=correlation.detail,
        depth=_flat,
        color_array="pcc",
        color_range=lambda _: correlation.COLOR_RANGE,
    ),
    "scalars": _Look(detail=lambda _: "", depth=_flat, color_array="step", color_range=_last_step),
}

_ATLAS_VIEWS: dict[str, AtlasView] = {
    "weights": AtlasView(weights.size, weights.CELL_LIMIT, weights.CELL_BUDGET, weights.atlas),
    "maps": AtlasView(maps.size, maps.CELL_LIMIT, maps.CELL_BUDGET, maps.atlas),
    "correlation": AtlasView(
        correlation.size, correlation.CELL_LIMIT, correlation.CELL_BUDGET, correlation.atlas
    ),
}


def make_frame(snapshot: Snapshot) -> Frame:
    """Draw every view of a snapshot.

    Same snapshot, same bytes; the frame shares no memory with it. Views that were not asked for,
    and layers that lack what a view shows, leave their place empty.
    """
    layers = [
        PanelLayer(index, layer, panel)
        for index, (layer, panel) in enumerate(
            zip(snapshot.layers, panels(len(snapshot.layers)), strict=True)
        )
    ]
    datasets: dict[str, vtkDataObject] = {}
    for view, look in _LOOKS.items():
        shown = layers if view in snapshot.views else []
        notes = [_note(entry, look=look) for entry in layers]
        bounds = _bounds(notes)
        if view in _ATLAS_VIEWS:
            atlas_view = _ATLAS_VIEWS[view]
            shown, large = split(shown, form=snapshot.form, view=atlas_view)
            images = []
            for entry in large:
                drawn = atlas_view.draw(entry)
                annotate(
                    drawn.image,
                    snapshot=snapshot,
                    notes=[notes[entry.index]],
                    bounds=bounds,
                    color_array=drawn.color_array,
                    color_range=drawn.color_range,
                )
                annotate_tiles(drawn, layer=entry.layer)
                images.append((entry.layer.name, drawn.image))
            datasets[f"{view}_atlas"] = blocks(images)
        polydata = _cells(view, shown, snapshot=snapshot)
        annotate(
            polydata,
            snapshot=snapshot,
            notes=notes,
            bounds=bounds,
            color_array=look.color_array,
            color_range=look.color_range(snapshot),
        )
        datasets[view] = polydata
    return Frame(
        step=snapshot.step,
        capture=snapshot.capture,
        datasets={channel: datasets[channel] for channel in CHANNELS},
    )


def _cells(view: str, layers: list[PanelLayer], *, snapshot: Snapshot) -> vtkPolyData:
    """Draw the polydata of one view."""
    if view == "trajectory":
        return trajectory.cells(
            layers, steps=snapshot.trajectory_steps, losses=snapshot.trajectory_losses
        )
    if view == "scalars":
        return scalars.cells(snapshot.scalars if view in snapshot.views else {})
    if view == "distribution":
        return distribution.cells(layers, focus=snapshot.focus)
    draw = {
        "weights": weights.cells,
        "maps": maps.cells,
        "correlation": correlation.cells,
    }[view]
    return draw(layers)


def _note(entry: PanelLayer, *, look: _Look) -> LayerNote:
    layer = entry.layer
    title = "  ".join(filter(None, (layer.name, layer.kind, look.detail(layer))))
    return LayerNote(
        name=layer.name, title=title, bounds=panel_bounds(entry.panel, depth=look.depth(layer))
    )


def _bounds(notes: list[LayerNote]) -> tuple[float, ...]:
    """Bounds of a view: its panels, their titles, and the deepest of them."""
    lows = [note.bounds[4] for note in notes] or [0.0]
    highs = [note.bounds[5] for note in notes] or [0.0]
    return view_bounds(len(notes), depth=(min(lows), max(highs)))
