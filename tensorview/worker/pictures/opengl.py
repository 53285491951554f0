"""Whether VTK can render here: without any OpenGL library it ends the process."""

from __future__ import annotations

import ctypes

import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  # registers VTK's windows
from vtkmodules.vtkRenderingCore import vtkRenderWindow

LAST_RESORT = "vtkOSOpenGLRenderWindow"
"""The window that VTK falls back to when neither X nor EGL work. It needs one of these:"""
LAST_RESORT_LIBRARIES = ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")


def missing() -> str | None:
    """Return one sentence that says what to install, None where VTK can render."""
    if window_class() != LAST_RESORT or any(map(loadable, LAST_RESORT_LIBRARIES)):
        return None
    return (
        "No OpenGL library found, so no picture can be drawn. On Debian and Ubuntu: "
        "apt install libegl1 libgl1-mesa-dri."
    )


def window_class() -> str:
    """Return the class of window that VTK chooses on this machine."""
    name: str = vtkRenderWindow().GetClassName()
    return name


def loadable(library: str) -> bool:
    """Say whether the dynamic linker finds *library*."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
