"""Run by pvpython: open a file, show it, and print how much of the view it fills. Usage: FILE"""

import sys

from paraview import simple
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

view = simple.CreateView("RenderView")
simple.Show(simple.OpenDataFile(sys.argv[1]), view)
view.ResetCamera()
simple.Render(view)
grab = vtkWindowToImageFilter()
grab.SetInput(view.GetRenderWindow())
grab.Update()
pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())[:, :3]
sys.stdout.write(f"{(pixels != pixels[0]).any(axis=1).mean()}\n")
