"""One view of the data in one of ParaView's render views: its looks, kept up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from paraview.servermanager import OutputPort
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.client.window.cameras import CAMERA, Margins, fitted, pixel_size
from tensorview.client.window.grounds import Ground
from tensorview.client.window.images import Images
from tensorview.client.window.labels import Labels
from tensorview.client.window.looks import FLAT, LOOKS
from tensorview.client.window.notes import Notes, array_names, header, leaves, read_notes
from tensorview.client.window.upkeep import keep_quiet, list_arrays, show_now
from tensorview.client.window.writing import (
    BOTTOM,
    RIGHT,
    SIDE,
    TOP,
    write_header,
    write_legend,
    write_panels,
    write_status,
)
from tensorview.worker.frame import ATLAS_CHANNELS
from tensorview.worker.pictures.colours import GRID, INK, PAGE, STEPS
from tensorview.worker.views.layout import LABEL_GAP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensorview.client.window.colour_maps import ColourMaps
    from tensorview.client.window.upkeep import Upkeep

MARKS = (("last capture", STEPS[-1][1:]), ("pruned", INK))
"""Dots on paths."""
NEVER_MEGABYTES = 1e6
FRAMES_PORT = 1
"""Output port of a source of maps that holds their frames, where it has one."""


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
        self.name = name
        self._look = LOOKS[name]
        self._sources = sources
        self._maps = maps
        self._upkeep = upkeep
        self._shown: dict[tuple[str, int], Any] = {}
        self._notes = Notes()
        self._listed: dict[tuple[str, int], set[tuple[str, str]]] = {}
        self._groups: list[int] = []
        self._is_pruned = False
        self._status = ""
        self._fitted_for: tuple[str, ...] = ()
        self._seen: Any = None
        self._drawn: Any = None
        view.UseColorPaletteForBackground = 0
        view.BackgroundColorMode = "Single Color"
        view.Background = list(PAGE)
        view.OrientationAxesVisibility = 0
        view.CenterAxesVisibility = 0
        view.UseFXAA = int(self._look.blurs)
        view.GetRenderWindow().SetMultiSamples(self._look.samples)
        view.CameraParallelProjection = 1
        # While one turns a large view, ParaView would else draw coarse blots in place of windows.
        view.LODThreshold = NEVER_MEGABYTES
        view.InteractionMode = "2D" if self._look.is_flat else "3D"
        self._labels = Labels(view)
        self._ground = Ground(view)
        self._images = Images(view)

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the Catalyst channels that it shows, as far as there are any."""
        return self.name, f"{self.name}_atlas"

    def say(self, text: str) -> None:
        """Write the status line."""
        self._status = text

    def needs_update(self) -> bool:
        """Say whether size, zoom or status are not those that were written for."""
        return bool(self._drawn != self._screen())

    def update(self) -> None:
        """Bring all up to date with the sources."""
        self._show_new()
        datasets = {key: self._dataset(*key) for key in self._shown}
        seen = {key: data.GetMTime() for key, data in datasets.items()}
        if seen != self._seen:
            self._read(datasets)
            self._drawn = None
        self._seen = seen
        self._fit()
        if self.needs_update():
            self._show_images(datasets)
            self._write()
            self._drawn = self._screen()

    def _show_new(self) -> None:
        for channel in self.channels:
            if channel in self._sources and (channel, 0) not in self._shown:
                source = self._sources[channel]
                self._shown[channel, 0] = self._show(
                    source, array=self._look.array, properties=self._look.properties
                )
                if channel in ATLAS_CHANNELS:
                    # It is drawn as textures; on its outline a selection in it can be shown.
                    self._shown[channel, 0].SetRepresentationType("Outline")
                    self._shown[channel, 0].AmbientColor = list(GRID)
                    self._shown[channel, 0].ColorArrayName = ["POINTS", ""]
                ports = source.SMProxy.GetNumberOfOutputPorts()
                if self._look.has_frames and ports > FRAMES_PORT:
                    frames = OutputPort(source, FRAMES_PORT)
                    self._shown[channel, FRAMES_PORT] = self._show(
                        frames, array="group", properties=FLAT
                    )

    def _show(self, source: Any, *, array: str, properties: Mapping[str, Any]) -> Any:
        shown = show_now(source, self.view)
        shown.SetRepresentationType("Surface")
        for name, value in properties.items():
            setattr(shown, name, value)
        # ColorBy would ask for the range of an array that may not be there yet.
        shown.ColorArrayName = ["POINTS" if self._look.on_points else "CELLS", array]
        shown.LookupTable = self._maps.table(array)
        return shown

    def _dataset(self, channel: str, port: int) -> Any:
        return self._sources[channel].GetClientSideObject().GetOutputDataObject(port)

    def _read(self, datasets: Mapping[tuple[str, int], Any]) -> None:
        found = [leaf for data in datasets.values() for leaf in leaves(data)]
        self._notes = read_notes(found)
        self._calm(datasets)
        if self._look.has_groups:
            arrays = [data.GetCellData().GetArray("group") for data in found]
            groups = [np.unique(vtk_to_numpy(array)) for array in arrays if array]
            self._groups = np.unique(np.concatenate([np.empty(0, int), *groups])).tolist()
            self._maps.name_groups(max(self._groups, default=0))
        removals = [data.GetCellData().GetArray("segment") for data in found]
        self._is_pruned = any(vtk_to_numpy(array).any() for array in removals if array)
        if self._look.array == "step":
            self._maps.end_steps(self._notes.step)
        if self._look.ground and (self.name, 0) in datasets:
            table = self._maps.table(self._look.array)
            cells = datasets[self.name, 0]
            self._ground.show(self._look.ground(cells, self._notes.places, table))

    def _calm(self, datasets: Mapping[tuple[str, int], Any]) -> None:
        """Keep ParaView's lists of arrays from being made at each frame, but true."""
        for (channel, port), data in datasets.items():
            names = array_names(data)
            if names != self._listed.get((channel, port), set()):
                self._listed[channel, port] = names
                list_arrays(self._shown[channel, port])
                keep_quiet(self._shown[channel, port])
                keep_quiet(self._sources[channel])

    def _screen(self) -> Any:
        """Return what the size of letters and textures depends on."""
        return *self._labels.size, self.view.CameraParallelScale, self._status

    def _fit(self) -> None:
        if self._notes.bounds is None:
            return
        x0, x1, y0, y1, *depth = self._notes.bounds
        shift = LABEL_GAP if self._look.title_rise < 0 else 0.0
        layers = tuple(place.name for place in self._notes.places)
        if layers != self._fitted_for:
            # Where the user looked is another place now.
            self._upkeep.forget(self.view, *CAMERA)
            self._fitted_for = layers
        camera = fitted(
            (x0, x1, y0 - shift, y1 - shift, *(self._look.depth or depth)),
            eye=self._look.eye,
            size=self._labels.size,
            margins=Margins(SIDE, RIGHT, BOTTOM, TOP),
        )
        self._upkeep.set(self.view, **camera)

    def _show_images(self, datasets: Mapping[tuple[str, int], Any]) -> None:
        key = (f"{self.name}_atlas", 0)
        if key in datasets:
            self._images.show(
                leaves(datasets[key]) if self._shown[key].Visibility else [],
                array=self._look.array,
                table=self._maps.table(self._look.array),
                pixel=pixel_size(self.view),
                gutters=self._look.gutters,
            )

    def _write(self) -> None:
        labels = self._labels
        width, height = labels.size
        labels.begin()
        write_header(labels, self._look.title, about=header(self._notes))
        write_panels(labels, self.view, look=self._look, notes=self._notes)
        left, top = width - RIGHT + 14, height - TOP - 8
        if self._look.bar and self._notes.run:
            length = min(180.0, 0.36 * (height - TOP - BOTTOM))
            self._maps.show_bar(
                self._look.array,
                self.view,
                title=self._look.bar,
                place=(left, top - 14 - length),
                length=length,
            )
            top -= length + 44
        if self._groups:
            keys = self._maps.group_keys(self._groups)
            write_legend(labels, keys, title="group", left=left, top=top)
        if self._is_pruned:
            write_legend(labels, MARKS, title="dots", left=left, top=top)
        write_status(labels, self._status)
        labels.end()
