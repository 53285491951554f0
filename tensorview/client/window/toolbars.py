"""How ParaView's window is divided when it opens for the first time.

By itself ParaView puts our buttons behind a long row of its own, where none of them is seen, and
half of its left column shows what an expert looks up.
"""

from __future__ import annotations

import struct

TOOLBARS = (
    ("MainControlsToolbar", "VCRToolbar", "currentTimeToolbar", "customViewpointsToolbar"),
    (
        "variableToolbar",
        "representationToolbar",
        "cameraToolbar",
        "axesToolbar",
        "lightingToolbar",
    ),
    ("Common", "DataAnalysis", "MeasurementTools"),
    ("MacrosToolbar",),
)
"""ParaView's names of them, row by row; it passes over those that a version lacks."""
PANELS = (("pipelineBrowserDock", 270), ("propertiesDock", 510), ("informationDock", 0))
"""Those on the left from above, with their heights in pixels, 0 for one that is closed."""
LEFT_WIDTH, WIDTH, HEIGHT = 300, 1294, 786
"""Of the left column, and of the views, in pixels."""

# Qt's own numbers, see QMainWindow::saveState in its source, qmainwindowlayout.cpp.
_MARK, _VERSION = 0xFF, 0
_PANELS, _SEQUENCE, _PANEL, _TOOLBARS = b"\xfd", b"\xfc", b"\xfb", b"\xfc"
_LEFT, _TOP, _VERTICAL = 0, 2, b"\x02"
_CORNERS = (4, 4, 1, 2)
_ANY_SIZE = 0xFFFFFF


def first_layout() -> str:
    """Return the value of ``Layout`` in the section ``[MainWindow]`` of ParaView's settings."""
    return '"@ByteArray(' + "".join(f"\\x{byte:x}" for byte in _state()) + ')"'


def _state() -> bytes:
    """Return what Qt would have saved of such a window."""
    parts = [_numbers(_MARK, _VERSION), _PANELS, _numbers(1, _LEFT, LEFT_WIDTH, HEIGHT)]
    parts += [_SEQUENCE, _VERTICAL, _numbers(len(PANELS))]
    top = 0
    for name, height in PANELS:
        parts += [_PANEL, _text(name), bytes([height > 0]), _numbers(top, height, 0, _ANY_SIZE)]
        top += height
    parts += [_numbers(WIDTH, HEIGHT, *_CORNERS), _TOOLBARS, _numbers(len(TOOLBARS))]
    for row in TOOLBARS:
        parts.append(_numbers(_TOP, len(row)))
        # Neither place nor size: one after the other, as wide as they are.
        parts += [_text(name) + b"\x01" + _numbers(-1, -1, 0, 0) for name in row]
    return b"".join(parts)


def _numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return _numbers(len(encoded)) + encoded
