"""Run by ParaView's Python: open a file, show it, and time it.

An image is shown as our window shows it, all else as ParaView shows what it opens. It has shown a
small file of the kind before, so that what it makes once is not counted. Prints seconds until the
file is loaded, seconds until it is in sight, and how much of the view it fills, as JSON.

Usage: BOOTSTRAP SMALL_FILE FILE [PICTURE.png]
"""

import importlib.util
import json
import sys
import time

from paraview import simple
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter


def load_tensorview(bootstrap):
    """Load the package as a worker does: by its location."""
    spec = importlib.util.spec_from_file_location("bootstrap", bootstrap)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load_package()


def show(path):
    """Show a file coloured by its values; return the seconds until each was done."""
    started = time.perf_counter()
    source = simple.OpenDataFile(path)
    source.UpdatePipeline()
    loaded = time.perf_counter()
    if path.endswith(".vti"):
        show_image(source)
    else:
        if path.endswith(".csv"):
            source = simple.TableToPoints(Input=source, XColumn="x", YColumn="y", ZColumn="z")
        array = ("CELLS", "activation") if path.endswith(".pvd") else ("POINTS", "value")
        simple.ColorBy(simple.Show(source, view), array)
        view.ResetCamera()
    simple.Render(view)
    return {"load": loaded - started, "picture": time.perf_counter() - started}


def show_image(source):
    """Show an image of activations in the range that it names."""
    image = source.GetClientSideObject().GetOutputDataObject(0)
    table = simple.GetColorTransferFunction("activation")
    table.RescaleTransferFunction(*vtk_to_numpy(image.GetFieldData().GetArray("color_range")))
    x0, x1, y0, y1, _, _ = image.GetBounds()
    view.CameraFocalPoint = [(x0 + x1) / 2, (y0 + y1) / 2, 0]
    view.CameraPosition = [(x0 + x1) / 2, (y0 + y1) / 2, 3]
    view.CameraParallelScale = 0.6 * (y1 - y0)
    images.show([image], array="activation", table=table, pixel=pixel_size(view), gutters=True)


def filled():
    """Share of the view's pixels that are not background."""
    grab = vtkWindowToImageFilter()
    grab.SetInput(view.GetRenderWindow())
    grab.Update()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())[:, :3]
    return float((pixels != pixels[0]).any(axis=1).mean())


load_tensorview(sys.argv[1])
from tensorview.client.window.cameras import pixel_size  # noqa: E402  # needs the above
from tensorview.client.window.images import Images  # noqa: E402

view = simple.CreateView("RenderView")
view.ViewSize = [1000, 1000]
view.CameraParallelProjection = 1
images = Images(view)
show(sys.argv[2])
for shown in simple.GetSources().values():
    simple.Delete(shown)
simple.Render(view)
result = {**show(sys.argv[3]), "filled": filled()}
if len(sys.argv) > 4:
    simple.SaveScreenshot(sys.argv[4], view)
sys.stdout.write(json.dumps(result) + "\n")
