# script-version: 2.0
"""Render a picture of every view at every capture, inside the live worker: no viewer is needed.

Use it with ``tensorview.watch(..., pipeline="images.py")``'s full path. Pictures go to the run's
``pictures`` folder as ``<view>_<step>.png``, or to the environment variable TENSORVIEW_PICTURES.
ParaView 5 renders only with a display: start the training under ``xvfb-run`` where there is none.
"""

import os

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

options = catalyst.Options()
FOLDER = os.environ.get("TENSORVIEW_PICTURES", "pictures")
SIZE = [1280, 960]

BLUE_WHITE_RED = [-1, 0.13, 0.30, 0.75, 0, 1, 1, 1, 1, 0.80, 0.10, 0.12]
GRAY = [0, 0, 0, 0, 1, 1, 1, 1]
GRAY_PINK = [0, 0.8, 0.8, 0.8, 1, 0.9, 0.1, 0.5]
GROUP_COLORS = [
    [0.35, 0.35, 0.35],  # dead
    [0.80, 0.80, 0.80],  # in no group
    [0.00, 0.45, 0.70],
    [0.90, 0.62, 0.00],
    [0.00, 0.62, 0.45],
    [0.80, 0.47, 0.65],
    [0.34, 0.71, 0.91],
    [0.84, 0.37, 0.00],
    [0.94, 0.89, 0.26],
    [0.55, 0.35, 0.65],
]
RAMPS = {
    "weight_scaled": BLUE_WHITE_RED,
    "pcc": BLUE_WHITE_RED,
    "activation_scaled": GRAY,
    "step": GRAY_PINK,
}
PICTURES = ("weights", "trajectory", "distribution", "maps", "correlation")


class Picture:
    """One view's render view, made at its first frame and kept."""

    def __init__(self, name):
        self.producers = {
            channel: TrivialProducer(registrationName=channel)
            for channel in (name, f"{name}_atlas")
            if channel in CHANNELS
        }
        self.name = name
        self.view = None

    def update(self, time):
        for producer in self.producers.values():
            producer.UpdatePipeline(time)

    def draw(self):
        data = self.producers[self.name].GetClientSideObject().GetOutputDataObject(0)
        notes = data.GetFieldData()
        step = notes.GetArray("step").GetValue(0)
        if self.view is None:
            self.set_up(notes)
        self.colour(notes)
        self.title.Text = f"{self.name}   step {step}"
        os.makedirs(FOLDER, exist_ok=True)
        path = os.path.join(FOLDER, f"{self.name}_{step:08d}.png")
        SaveScreenshot(path, self.view, ImageResolution=SIZE)

    def set_up(self, notes):
        self.view = CreateView("RenderView")
        self.view.ViewSize = SIZE
        self.view.UseColorPaletteForBackground = 0
        self.view.BackgroundColorMode = "Single Color"
        self.view.Background = [1, 1, 1]
        self.view.OrientationAxesVisibility = 0
        self.view.CameraParallelProjection = 1
        self.shown = [Show(producer, self.view) for producer in self.producers.values()]
        self.title = Text()
        text = Show(self.title, self.view, "TextSourceRepresentation")
        text.WindowLocation = "Upper Left Corner"
        text.Color = [0, 0, 0]
        Render(self.view)  # the first one resets the camera
        x0, x1, y0, y1, _, _ = (notes.GetArray("bounds").GetValue(i) for i in range(6))
        centre = [(x0 + x1) / 2, (y0 + y1) / 2, 0]
        self.view.CameraFocalPoint = centre
        self.view.CameraPosition = [centre[0], centre[1], 10]
        self.view.CameraViewUp = [0, 1, 0]
        self.view.CameraParallelScale = 0.6 * max(y1 - y0, (x1 - x0) * SIZE[1] / SIZE[0])

    def colour(self, notes):
        array = notes.GetAbstractArray("color_array").GetValue(0)
        low, high = (notes.GetArray("color_range").GetValue(i) for i in range(2))
        where = "POINTS" if array == "step" else "CELLS"
        ColorBy(self.shown[0], (where, array))
        table = GetColorTransferFunction(array)
        table.AutomaticRescaleRangeMode = "Never"
        table.NanColor = [1, 1, 1]
        if array == "group":
            table.InterpretValuesAsCategories = 1
            table.Annotations = [t for g in range(-2, 8) for t in (str(g), group_name(g))]
            table.IndexedColors = [part for color in GROUP_COLORS for part in color]
            table.IndexedOpacities = [1.0] * len(GROUP_COLORS)
        else:
            ramp = list(RAMPS[array])
            span = (ramp[-4] - ramp[0]) or 1
            ramp[::4] = [low + (x - ramp[0]) / span * (high - low) for x in ramp[::4]]
            table.RGBPoints = ramp
        self.shown[0].LookupTable = table
        self.shown[0].Ambient, self.shown[0].Diffuse = 0.4, 0.6


def group_name(group):
    return {-2: "dead", -1: "no group"}.get(group, f"group {group}")


def catalyst_finalize():
    # Left to the end of the process, X is gone before the views' OpenGL is.
    for picture in pictures.values():
        Delete(picture.view)
    pictures.clear()


CHANNELS = set()
pictures = {}


def catalyst_execute(info):
    description = info.dataDescription
    for index in range(description.GetNumberOfInputDescriptions()):
        CHANNELS.add(description.GetInputDescriptionName(index))
    for name in PICTURES:
        if name in CHANNELS:
            picture = pictures.setdefault(name, None) or Picture(name)
            pictures[name] = picture
            picture.update(info.time)
            picture.draw()
