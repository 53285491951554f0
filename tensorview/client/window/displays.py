"""One view of the data in one of ParaView's render views: its looks, kept up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from paraview.simple import Show
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.client.window.cameras import Margins, fitted, pixel_size, upwards
from tensorview.client.window.grounds import Ground, boxes, trays, windows
from tensorview.client.window.images import Images
from tensorview.client.window.labels import Labels
from tensorview.client.window.notes import Notes, header, leaves, read_notes
from tensorview.client.window.upkeep import is_open
from tensorview.worker.pictures.colours import INK, MUTED, PAGE
from tensorview.worker.pictures.groups import group_keys
from tensorview.worker.pictures.scene import Eye

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensorview.client.window.colour_maps import ColourMaps
    from tensorview.client.window.upkeep import Upkeep

RIGHT, TOP, BOTTOM, SIDE = 112, 34, 26, 12
"""Margins in pixels: for colour bar and legend, title, status line, and where nothing is."""
TITLE, TEXT, SMALL = 15, 12, 11
"""Sizes of letters in pixels."""
LEAST_TITLED = 44
"""Width of a panel in pixels below which its title would only be in the way."""
TWO_LINES = 130
"""Width of a panel in pixels from which on its title has a second line."""


class Look(NamedTuple):
    """How a view is drawn.

    Attributes:
        title: of the view.
        array: to colour by.
        points: whether that is a point array.
        bar: title of its colour bar, None for none.
        eye: where the camera stands.
        flat: whether the view is moved in two dimensions only.
        ground: makes what the data stand on.
        rise: how far the data rise above the upper edge of a panel on the screen, in panel units.
        properties: of the representation.
    """

    title: str
    array: str
    points: bool = False
    bar: str | None = None
    eye: Eye = Eye()
    flat: bool = True
    ground: Callable[..., Any] | None = None
    rise: float = 0.0
    properties: Mapping[str, Any] = {"Ambient": 1.0, "Diffuse": 0.0}


LOOKS = {
    "weights": Look(
        "Weights",
        "weight_scaled",
        bar="weight by range",
        eye=Eye(elevation=64.0),
        flat=False,
        ground=trays,
        rise=0.06,
        properties={"Ambient": 0.45, "Diffuse": 0.7, "Specular": 0.0},
    ),
    "trajectory": Look(
        "Trajectory",
        "step",
        points=True,
        bar="step",
        eye=Eye(elevation=58.0, azimuth=-18.0),
        flat=False,
        ground=boxes,
        properties={
            "LineWidth": 4.0,
            "PointSize": 9.0,
            "RenderLinesAsTubes": 1,
            "RenderPointsAsSpheres": 1,
            "Ambient": 0.6,
            "Diffuse": 0.5,
        },
    ),
    "distribution": Look("Distribution", "group", ground=windows),
    "maps": Look("Maps", "activation_scaled", bar="activation"),
    "correlation": Look("Correlation", "pcc", bar="Pearson r"),
}
FRAMES_PORT = 1


class Display:
    """One view, in the words of `Look`.

    Args:
        name: of the view.
        view: ParaView's render view.
        sources: by Catalyst channel; may grow.
        maps: the colour maps of all displays.
        upkeep: keeps what the user has changed.
    """

    def __init__(
        self,
        name: str,
        view: Any,
        *,
        sources: Mapping[str, Any],
        maps: ColourMaps,
        upkeep: Upkeep,
    ) -> None:
        self.view = view
        self._look = LOOKS[name]
        self._channels = (name, f"{name}_atlas")
        self._sources = sources
        self._maps = maps
        self._upkeep = upkeep
        self._shown: dict[tuple[str, int], Any] = {}
        self._notes = Notes()
        self._status = ""
        self._stamp: Any = None
        self._drawn: Any = None
        self._groups: tuple[int, ...] = ()
        view.UseColorPaletteForBackground = 0
        view.BackgroundColorMode = "Single Color"
        view.Background = list(PAGE)
        view.OrientationAxesVisibility = 0
        view.CameraParallelProjection = 1
        view.InteractionMode = "2D" if self._look.flat else "3D"
        view.CenterAxesVisibility = 0
        self._labels = Labels(view)
        self._ground = Ground(view)
        self._images = Images(view)
        self.update()

    def open_views(self) -> list[Any]:
        """Return the view, unless the user has closed it."""
        return [self.view] if is_open(self.view) else []

    def say(self, text: str) -> None:
        """Write the status line."""
        self._status = text

    def needs_update(self) -> bool:
        """Say whether the view has another size or zoom than what is written on it."""
        return bool(self._drawn != self._screen())

    def update(self) -> None:
        """Bring all up to date with the sources."""
        self._show_new()
        datasets = {key: self._dataset(key) for key in self._shown}
        stamp = tuple((key, id(data), data.GetMTime()) for key, data in datasets.items() if data)
        changed = stamp != self._stamp
        if changed:
            self._stamp = stamp
            self._read(datasets)
        self._fit()
        if changed or self.needs_update():
            self._show_images(datasets)
        self._write()
        self._drawn = self._screen()

    def _dataset(self, key: tuple[str, int]) -> Any:
        channel, port = key
        return self._sources[channel].GetClientSideObject().GetOutputDataObject(port)

    def _show_new(self) -> None:
        for channel in self._channels:
            if channel not in self._sources or (channel, 0) in self._shown:
                continue
            source = self._sources[channel]
            ports = source.SMProxy.GetNumberOfOutputPorts()
            for port in range(ports):
                self._show(channel, port)

    def _show(self, channel: str, port: int) -> None:
        from paraview.servermanager import OutputPort  # noqa: PLC0415

        source = self._sources[channel]
        shown = Show(OutputPort(source, port), self.view)
        array = "group" if port == FRAMES_PORT else self._look.array
        # An atlas is drawn as textures; its outline is what a selection in it is shown on.
        is_atlas = channel.endswith("_atlas") and port != FRAMES_PORT
        shown.SetRepresentationType("Outline" if is_atlas else "Surface")
        properties = LOOKS["maps"].properties if port == FRAMES_PORT else self._look.properties
        for name, value in properties.items():
            setattr(shown, name, value)
        if is_atlas:
            shown.AmbientColor = shown.DiffuseColor = [0.89, 0.895, 0.91]
        else:
            # ColorBy would ask for the range of an array that may not be there yet.
            shown.ColorArrayName = ["POINTS" if self._look.points else "CELLS", array]
            shown.LookupTable = self._maps.table(array)
        self._shown[channel, port] = shown

    def _read(self, datasets: Mapping[tuple[str, int], Any]) -> None:
        found = [leaf for data in datasets.values() for leaf in leaves(data)]
        self._notes = read_notes(found)
        groups: set[int] = set()
        for data in found:
            array = data.GetCellData().GetArray("group")
            if array is not None and self._look.array in ("group", "activation_scaled"):
                groups.update(np.unique(vtk_to_numpy(array)).tolist())
        self._groups = tuple(sorted(groups))
        if self._groups:
            self._maps.groups(self._groups[-1])
        if self._look.array == "step":
            self._maps.steps(self._notes.step)
        if self._look.ground:
            cells = self._dataset((self._channels[0], 0))
            self._ground.show(self._look.ground(cells, self._notes.places))

    def _screen(self) -> Any:
        """What the size of letters and textures depends on."""
        width, height = self._labels.size
        return width, height, self.view.CameraParallelScale, self._status, self._notes

    def _fit(self) -> None:
        bounds = self._notes.bounds
        if bounds is None:
            return
        margins = Margins(SIDE, RIGHT, BOTTOM, TOP)
        camera = fitted(bounds, eye=self._look.eye, size=self._labels.size, margins=margins)
        self._upkeep.set(self.view, **camera)

    def _show_images(self, datasets: Mapping[tuple[str, int], Any]) -> None:
        key = (self._channels[1], 0)
        if key in self._shown:
            visible = bool(self._shown[key].Visibility)
            self._images.show(
                leaves(datasets[key]) if visible else [],
                array=self._look.array,
                colours=self._maps.table(self._look.array).GetClientSideObject(),
                pixel=pixel_size(self.view),
            )

    def _write(self) -> None:
        """Write title, panel titles, colour bar, legend and status line."""
        labels = self._labels
        width, height = labels.size
        labels.begin()
        base = height - TOP + 12
        labels.text((SIDE, base), self._look.title, size=TITLE, bold=True)
        left = SIDE + labels.width_of(self._look.title, size=TITLE, bold=True) + 14
        about = labels.fit(header(self._notes), width=width - left - SIDE, size=TEXT)
        labels.text((left, base), about, size=TEXT, colour=MUTED)
        self._write_panels()
        right = width - RIGHT + 14
        top = height - TOP - 14.0
        if self._look.bar and self._notes.bounds:
            length = min(180, 0.4 * (height - TOP - BOTTOM))
            self._maps.bar(
                self._look.array,
                self.view,
                title=self._look.bar,
                left=right,
                top=top,
                length=length,
            )
            top -= length + 44
        if self._groups:
            self._write_legend(left=right, top=top)
        for line, text in enumerate(reversed(self._status.splitlines())):
            fitting = labels.fit(text, width=width - 2 * SIDE, size=TEXT)
            labels.text((SIDE, 7 + 16 * line), fitting, size=TEXT, colour=INK)
        labels.end()

    def _write_panels(self) -> None:
        pixel = pixel_size(self.view)
        up = upwards(self.view)
        for place in self._notes.places:
            x0, x1, y0, y1, z0, _ = place.bounds
            room = (x1 - x0) / pixel
            if room < LEAST_TITLED:
                continue
            if self._look.array == "step":
                at, align = np.array([x0, y0, z0]) - 4 * pixel * up, "top"
            else:
                at, align = np.array([x0, y1, 0.0]) + (self._look.rise + 4 * pixel) * up, "bottom"
            size = min(13.0, max(9.0, room / 11))
            name = self._labels.fit(place.name, width=room, size=size, bold=True)
            two = room >= TWO_LINES
            if two:
                small = 0.85 * size
                details = list(place.details)
                while (
                    len(details) > 1
                    and self._labels.width_of("  ".join(details), size=small) > room
                ):
                    details.pop(0)
                text = self._labels.fit("  ".join(details), width=room, size=small)
                below = at - (1.25 * size * pixel * up if align == "top" else 0)
                self._labels.text(below.tolist(), text, size=small, colour=MUTED, vertical=align)
            above = at + (1.25 * 0.85 * size * pixel * up if two and align == "bottom" else 0)
            self._labels.text(above.tolist(), name, size=size, bold=True, vertical=align)

    def _write_legend(self, *, left: float, top: float) -> None:
        keys = group_keys(np.array(self._groups))
        room = max(1, int((top - BOTTOM) / 17))
        shown = keys if len(keys) <= room else keys[: room - 1]
        for line, key in enumerate(shown):
            y = top - 17 * line
            self._labels.swatch((left, left + 13, y - 6, y + 5), colour=key.colour)
            text = self._labels.fit(key.label, width=RIGHT - 14 - 20, size=SMALL)
            self._labels.text((left + 19, y), text, size=SMALL, vertical="centre")
        if len(shown) < len(keys):
            more = f"and {len(keys) - len(shown)} more"
            y = top - 17 * len(shown)
            self._labels.text((left, y), more, size=SMALL, colour=MUTED, vertical="centre")
