# script-version: 2.0
"""Render a picture of every view at every capture inside the live worker: no viewer is needed.

Give its path to ``tensorview.watch(..., pipeline=...)``. Pictures go to the run's ``pictures``
folder as ``<view>_<step>.png``. ParaView 5 renders only with a display: start the training under
``xvfb-run`` where there is none.
"""

import os
from pathlib import Path

from paraview import catalyst
from paraview.simple import (
    ColorBy,
    CreateView,
    Delete,
    GetColorTransferFunction,
    Render,
    SaveScreenshot,
    Show,
    Text,
    TrivialProducer,
)

from tensorview.worker.pictures.colours import (
    DIVERGING,
    INK,
    SEQUENTIAL,
    STEPS,
    WEIGHTS,
    group_colour,
)

options = catalyst.Options()

FOLDER = Path(os.environ["TENSORVIEW_PICTURES"])
VIEWS = ("weights", "trajectory", "distribution", "maps", "correlation")
ATLAS_VIEWS = ("weights", "maps", "correlation")
RAMPS = {
    "weight": WEIGHTS,
    "weight_scaled": WEIGHTS,
    "activation": SEQUENTIAL,
    "activation_scaled": SEQUENTIAL,
    "pcc": DIVERGING,
    "step": STEPS,
}
SIZE = [1280, 960]
MARGIN = 1.1

pictures = {}


class Picture:
    """One view's render view, made at its first frame and kept."""

    def __init__(self, name):
        self.name = name
        channels = (name, f"{name}_atlas") if name in ATLAS_VIEWS else (name,)
        self.producers = [TrivialProducer(registrationName=channel) for channel in channels]
        self.view = None

    def update(self, time):
        for producer in self.producers:
            producer.UpdatePipeline(time)

    def draw(self):
        datasets = [p.GetClientSideObject().GetOutputDataObject(0) for p in self.producers]
        notes = datasets[0].GetFieldData()
        step = notes.GetArray("step").GetValue(0)
        if self.view is None:
            self.set_up(notes)
        colour(self.shown[0], [notes])
        for shown, atlas in zip(self.shown[1:], datasets[1:], strict=True):
            images = [atlas.GetBlock(index) for index in range(atlas.GetNumberOfBlocks())]
            if images:
                colour(shown, [image.GetFieldData() for image in images])
        self.title.Text = (
            f"{notes.GetAbstractArray('name').GetValue(0)}   {self.name}   step {step}"
        )
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{self.name}_{step:08d}.png"
        SaveScreenshot(str(path), self.view, ImageResolution=SIZE)

    def set_up(self, notes):
        self.view = CreateView("RenderView")
        self.view.ViewSize = SIZE
        self.view.UseColorPaletteForBackground = 0
        self.view.BackgroundColorMode = "Single Color"
        self.view.Background = [1, 1, 1]
        self.view.OrientationAxesVisibility = 0
        self.view.CameraParallelProjection = 1
        self.shown = [Show(producer, self.view) for producer in self.producers]
        for shown in self.shown:
            shown.SetRepresentationType("Surface")  # images would be outlines
            shown.LineWidth = 3
        self.title = self.label("", "Upper Left Corner", 18)
        for index in range(notes.GetAbstractArray("layers").GetNumberOfValues()):
            box = [notes.GetArray("layer_bounds").GetValue(6 * index + i) for i in range(6)]
            title = self.label(notes.GetAbstractArray("layers").GetValue(index), None, 14)
            title.BillboardPosition = [box[0], box[3] + 0.03, 0]
        Render(self.view)  # the first one resets the camera
        x0, x1, y0, y1, _, _ = (notes.GetArray("bounds").GetValue(i) for i in range(6))
        centre = [(x0 + x1) / 2, (y0 + y1) / 2]
        self.view.CameraFocalPoint = [*centre, 0]
        self.view.CameraPosition = [*centre, 10]
        self.view.CameraViewUp = [0, 1, 0]
        self.view.CameraParallelScale = MARGIN / 2 * max(y1 - y0, (x1 - x0) * SIZE[1] / SIZE[0])

    def label(self, text, location, size):
        source = Text(Text=text)
        shown = Show(source, self.view, "TextSourceRepresentation")
        shown.Color = list(INK)
        shown.FontSize = size
        if location is None:
            shown.TextPropMode = "Billboard 3D Text"
            return shown
        shown.WindowLocation = location
        return source


def colour(shown, notes):
    """Colour a representation as the field data of its datasets say, over all their ranges."""
    array = notes[0].GetAbstractArray("color_array").GetValue(0)
    low = min(note.GetArray("color_range").GetValue(0) for note in notes)
    high = max(note.GetArray("color_range").GetValue(1) for note in notes)
    ColorBy(shown, ("POINTS" if array == "step" else "CELLS", array))
    table = GetColorTransferFunction(array)
    table.AutomaticRescaleRangeMode = "Never"
    if array == "group":
        groups = range(int(low), int(high) + 1)
        table.InterpretValuesAsCategories = 1
        table.Annotations = [text for group in groups for text in (str(group), f"group {group}")]
        table.IndexedColors = [part for group in groups for part in group_colour(group)]
        table.IndexedOpacities = [1.0] * len(groups)
    else:
        table.RGBPoints = [
            part for place, *rgb in RAMPS[array] for part in (low + place * (high - low), *rgb)
        ]
    table.NanOpacity = 0.0  # the gutters of an atlas
    shown.LookupTable = table
    shown.Ambient, shown.Diffuse = 1.0, 0.0


def catalyst_execute(info):
    description = info.dataDescription
    count = description.GetNumberOfInputDescriptions()
    channels = {description.GetInputDescriptionName(index) for index in range(count)}
    for name in VIEWS:
        if name in channels:
            if name not in pictures:
                pictures[name] = Picture(name)
            pictures[name].update(info.time)
            pictures[name].draw()


def catalyst_finalize():
    # Left to the end of the process, X is gone before the views' OpenGL is.
    for picture in pictures.values():
        Delete(picture.view)
    pictures.clear()
