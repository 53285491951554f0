"""The macro files that ParaView shows as buttons of its toolbar.

They are written before ParaView starts, by our own Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorview.launch import BOOTSTRAP
from tensorview.whole_files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

BUTTONS = {
    "Capture less often": "less",
    "Capture more often": "more",
    "Capture now": "capture",
    "Focus on all": "all",
    "Focus on selected": "focus",
    "Halve learning rate": "halve",
    "Mark selected filters": "mark",
    "Pause training": "pause",
    "Prune flagged filters": "prune",
    "Resume training": "resume",
    "Stop training": "stop",
}
"""What the window's `Steering.press` takes, by what is written on the button. ParaView orders them
by the alphabet."""

LAYOUT = "tensorview layout"
OURS = "# Written by tensorview.\n"

_BUTTON = """{ours}import sys

if "tensorview" in sys.modules:
    from tensorview.client.window import buttons

    buttons.press({name!r})
"""

_LAYOUT = """{ours}# Lays out and colours the training that Catalyst > Connect has connected to.
import importlib.util
import os
import sys

bootstrap = {bootstrap!r}
if "tensorview" not in sys.modules and os.path.exists(bootstrap):
    spec = importlib.util.spec_from_file_location("bootstrap", bootstrap)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load_package()
if "tensorview" in sys.modules:
    from tensorview.client.window import window

    window.adopt()
else:
    print(f"tensorview is not at {{bootstrap}} any more: run `tensorview view --install-macro`.")
"""


def write_macros(folder: Path) -> None:
    """Write a macro a button; what an older version wrote goes, what the user has made stays.

    ParaView puts a dot before the name of a macro that the user deletes. It is not written again.

    Args:
        folder: ParaView's own for macros; made where there is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("[!.]*.py"):
        if path.stem not in BUTTONS and path.read_bytes().startswith(OURS.encode()):
            path.unlink()
    for label, name in BUTTONS.items():
        if not (folder / f".{label}.py").exists():
            _write(folder, label, _BUTTON.format(ours=OURS, name=name))


def install_macro(folder: Path) -> Path:
    """Write the macro that lays out a connection which ParaView's own menu has made; return it.

    Args:
        folder: for macros of the user's own ParaView; made where there is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _write(folder, LAYOUT, _LAYOUT.format(ours=OURS, bootstrap=str(BOOTSTRAP)))


def _write(folder: Path, label: str, text: str) -> Path:
    path = folder / f"{label}.py"
    replace_file(path, text.encode())
    return path
