"""Macro files, which ParaView shows as buttons, and the row that they are given."""

import subprocess
import sys

import pytest

from tensorview.client.paraview import find_paraview
from tensorview.client.window import buttons
from tensorview.client.window.macros import BUTTONS, install_macro, write_macros
from tensorview.client.window.toolbars import PANELS, TOOLBARS, first_layout


def test_buttons_are_macros_that_press_them(tmp_path, monkeypatch):
    """Each file, run as ParaView runs it, presses the button that its name promises."""
    write_macros(tmp_path / "Macros")
    pressed = []
    monkeypatch.setattr(buttons, "press", pressed.append)
    paths = sorted((tmp_path / "Macros").iterdir())
    for path in paths:
        exec(compile(path.read_text(), path, "exec"), {"__name__": "__main__"})  # noqa: S102

    assert [path.stem for path in paths] == list(BUTTONS)  # ParaView's order, which is ours
    assert pressed == list(BUTTONS.values())
    assert sorted(BUTTONS) == list(BUTTONS)


def test_a_macro_says_nothing_without_the_window(tmp_path):
    """Pressed before the package is loaded, it does nothing rather than open a traceback."""
    write_macros(tmp_path)
    buttons.press("capture")  # the window is not open yet

    for path in tmp_path.iterdir():
        done = subprocess.run(
            [sys.executable, "-I", "-S", path], capture_output=True, text=True, check=True
        )
        assert done.stdout + done.stderr == ""


def test_macros_of_the_users_own_are_left_alone(tmp_path):
    """Old buttons of ours go; what the user made stays, and what the user deleted stays away."""
    write_macros(tmp_path)
    (tmp_path / "mine.py").write_text("print()\n")
    (tmp_path / "Capture now.py").rename(tmp_path / "Old name.py")
    (tmp_path / "Stop training.py").rename(tmp_path / ".Stop training.py")  # ParaView's Delete
    write_macros(tmp_path)

    names = {path.stem for path in tmp_path.glob("*.py") if not path.name.startswith(".")}
    assert names == set(BUTTONS) - {"Stop training"} | {"mine"}
    assert (tmp_path / "mine.py").read_text() == "print()\n"


@pytest.mark.paraview
def test_the_layout_macro_loads_the_package_by_its_place(tmp_path):
    """In a ParaView that has never heard of tensorview; here, where nothing is connected."""
    path = install_macro(tmp_path / "ParaView" / "Macros")
    done = subprocess.run(
        [find_paraview().pvpython, path], capture_output=True, text=True, timeout=60, check=False
    )

    assert path.name == "tensorview layout.py"
    assert done.stdout.splitlines()[-1:] == [
        "No training is connected. Choose Catalyst > Connect, start it, then do this again."
    ], done.stderr


def test_the_layout_macro_says_that_the_package_is_gone(tmp_path):
    """After an update or removal: one sentence with what to do."""
    path = install_macro(tmp_path)
    text = path.read_text().replace("bootstrap.py", "nowhere.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", text], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("tensorview is not at /")
    assert done.stdout.endswith("nowhere.py any more: run `tensorview view --install-macro`.\n")


def test_the_first_layout_gives_the_buttons_a_row_of_their_own():
    """Each toolbar and panel once, and nothing that a settings file would break on."""
    layout = first_layout()
    escapes = layout.removeprefix('"@ByteArray(').removesuffix(')"').split("\\x")[1:]
    state = bytes(int(escape, 16) for escape in escapes)
    rows = state.decode("latin-1").split("\x00\x00\x00\x02\x00\x00\x00")[1:]
    names = [name for row in TOOLBARS for name in row] + [name for name, _ in PANELS]

    assert layout.isprintable()
    for name in names:
        assert state.count(name.encode("utf-16-be")) == 1
    assert "MacrosToolbar".encode("utf-16-be").decode("latin-1") in rows[-1]
    assert "\x00C\x00o\x00m\x00m\x00o\x00n" not in rows[-1]
