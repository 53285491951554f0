"""A screen with `tensorview view` on it, used as a person would: eyes, mouse, keyboard."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageGrab

from tensorview.worker.pictures.colours import GROUPS
from tests.doubles import virtual_display, wait_until

PAGE = (254, 254, 254)
MAIN_WINDOW = "ParaView"
MACROS_MENU = (470, 10)
APPLY = (48, 460)
ACTIVATIONS_TAB = (735, 189)
ALL_FOUR = dict.fromkeys(("weights", "trajectory", "distribution", "maps"), True)
ASK_MACRO = "zz_ask"
ASK = """
import os
exec(open({question!r}).read(), {{}})
os.replace({answer!r} + ".tmp", {answer!r})
"""
QUESTION = """
import json
from paraview import servermanager
from paraview.simple import *
from tensorview.client.window import buttons
from tensorview.worker.datasets import arrays
window = buttons.window
{body}
with open({answer!r} + ".tmp", "w") as stream:
    json.dump(found, stream)
"""


class Desk:
    """A screen of 1600 x 1000 pixels with the window of one `tensorview view`.

    Args:
        folder: for ParaView's settings and our notes.
        arguments: of the command.
        command: that is run instead of ours; a ParaView of the user's own.
        answers: whether `ask` is used; it needs a button of its own.
    """

    def __init__(self, folder, *arguments, command=None, answers=True):
        self.folder = folder
        self.config = folder / "config"
        self._macros = self.config / ("." if command else "tensorview") / "ParaView" / "Macros"
        self._command = command or [sys.executable, "-m", "tensorview", "view"]
        self._answers = answers
        self.arguments = [str(argument) for argument in arguments]
        self._stack = contextlib.ExitStack()
        self._question, self._answer = folder / "question.py", folder / "answer.json"

    def __enter__(self):
        self._macros.mkdir(parents=True, exist_ok=True)
        if self._answers:
            text = ASK.format(question=str(self._question), answer=str(self._answer))
            (self._macros / f"{ASK_MACRO}.py").write_text(text)
        display = self._stack.enter_context(virtual_display(size=(1600, 1000)))
        self.environment = {
            **os.environ,
            "DISPLAY": display,
            "XDG_CONFIG_HOME": str(self.config),
        }
        self._said = (self.folder / "said").open("wb")
        self._stack.callback(self._said.close)
        self.process = subprocess.Popen(
            [*self._command, *self.arguments],
            env=self.environment,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._stack.callback(self._end)
        try:
            wait_until(self._is_open, seconds=60, what=f"the window; {self.said()}")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            with contextlib.suppress(OSError):
                Image.fromarray(self.shot()).save(self.folder / "failure.png")
        self._stack.close()

    def _end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _is_open(self):
        assert self.process.poll() is None, self.said()
        return any(name.startswith(MAIN_WINDOW) for name in self.windows())

    def wait_until_ready(self, *, seconds=60):
        """Wait until the window has its tabs, which comes after its main window is there."""
        is_ready = "found = window is not None"
        wait_until(lambda: self.ask(is_ready), seconds=seconds, what="the window")

    def said(self):
        """What the command has printed."""
        return (self.folder / "said").read_text(errors="replace")

    def xdotool(self, *arguments):
        """Use mouse or keyboard."""
        command = ["xdotool", *map(str, arguments)]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30, check=False
        ).stdout

    def click(self, x, y):
        """Click with the left button at a place of the screen."""
        self.xdotool("mousemove", x, y, "click", 1)

    def key(self, *names):
        """Press keys, one after another."""
        self.xdotool("key", *names)

    def windows(self):
        """Titles of all visible windows: the main one, dialogs, boxes of messages."""
        numbers = self.xdotool("search", "--onlyvisible", "--name", ".+").split()
        names = [self.xdotool("getwindowname", number).strip() for number in numbers]
        return [name for name in names if name]

    def dialogs(self):
        """Titles of all windows but the main one."""
        return [name for name in self.windows() if not name.startswith(MAIN_WINDOW)]

    def shot(self):
        """What is on the screen, shape ``(H, W, 3)``, uint8."""
        return np.asarray(ImageGrab.grab(xdisplay=self.environment["DISPLAY"]).convert("RGB"))

    def see_all(self):
        """Wait until all four views of the overview have their colours."""
        wait_until(
            lambda: is_coloured(self.shot()) == ALL_FOUR,
            seconds=90,
            what=lambda: f"four coloured views, got {is_coloured(self.shot())}",
        )

    def paraview(self):
        """Process id of ParaView itself."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def memory(self):
        """Resident memory of ParaView in MiB."""
        pages = int(Path(f"/proc/{self.paraview()}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def add_filter(self, name, *, to):
        """Add a filter by the quick search, and apply it."""
        wait_until(lambda: self._find(name, to), seconds=120, what="the filter")
        time.sleep(1)
        self.click(*APPLY)

    def _find(self, name, to):
        """Choose a filter, the first of its kind, in the quick search; say whether it is there.

        An open search gets letters only once it has the keyboard.
        """
        if self.dialogs():
            self.key("Escape")
            holds_within(5, lambda: not self.dialogs())
            return False
        self.ask(f"SetActiveSource(FindSource({to!r})); found = 0")
        self.key("ctrl+space")
        if not holds_within(15, self._dialog_has_keyboard):
            return False
        self.xdotool("type", "--delay", 50, name)
        time.sleep(1)
        self.key("Return")
        if not holds_within(15, lambda: not self.dialogs()):
            return False
        return self.ask(f"found = FindSource({name + '1'!r}) is not None")

    def _dialog_has_keyboard(self):
        return self.xdotool("getwindowfocus", "getwindowname").strip() in self.dialogs()

    def drag(self, start, end):
        """Drag with the left button."""
        self.xdotool("mousemove", *start, "mousedown", 1)
        for share in (0.3, 0.6, 1.0):
            x, y = (int(a + share * (b - a)) for a, b in zip(start, end, strict=True))
            self.xdotool("mousemove", x, y)
            time.sleep(0.1)
        self.xdotool("mouseup", 1)

    def select(self, area):
        """Select cells in a rectangle x0 y0 x1 y1, given as shares of the page."""
        rows, columns = page(self.shot())
        width, height = columns.stop - columns.start, rows.stop - rows.start
        left, top, right, bottom = area
        start = int(columns.start + left * width), int(rows.start + top * height)
        end = int(columns.start + right * width), int(rows.start + bottom * height)
        self.click(*start)  # the view takes the keyboard
        time.sleep(0.5)
        self.key("s")
        time.sleep(0.5)
        self.drag(start, end)
        time.sleep(1)

    def press(self, macro):
        """Press a button of the toolbar, in the menu that has them all."""
        labels = sorted(path.stem for path in self._macros.glob("[!.]*.py"))
        self.click(*MACROS_MENU)
        time.sleep(0.5)
        self.key(*["Up"] * (len(labels) - labels.index(macro)), "Return")

    def ask(self, body):
        """Run Python in the window, as a macro from its menu; return what is in ``found``."""
        self._answer.unlink(missing_ok=True)
        self._question.write_text(QUESTION.format(body=body, answer=str(self._answer)))

        def is_answered():
            self.press(ASK_MACRO)  # again where a window that was just opening has lost it
            return holds_within(20, self._answer.exists)

        wait_until(is_answered, seconds=90, what="an answer of the window")
        return json.loads(self._answer.read_text())


def holds_within(seconds, condition):
    """Say whether *condition* comes true in that time."""
    try:
        wait_until(condition, seconds=seconds)
    except AssertionError:
        return False
    return True


def page(shot):
    """Where views are: rows and columns of the screen that are paper to a fifth, or else all."""
    paper = (shot == PAGE).all(axis=2)
    rows, columns = (np.flatnonzero(paper.mean(axis=axis) > 0.2) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return slice(0, shot.shape[0]), slice(0, shot.shape[1])
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def quarters(shot):
    """Cut the page into upper left, upper right, lower left, lower right."""
    rows, columns = page(shot)
    area = shot[rows, columns]
    half = area.shape[0] // 2, area.shape[1] // 2
    return (
        area[: half[0], : half[1]],
        area[: half[0], half[1] :],
        area[half[0] :, : half[1]],
        area[half[0] :, half[1] :],
    )


def share(area, *, red, green, blue):
    """Share of pixels whose channels lie within the given ranges."""
    within = [
        (area[..., index] >= low) & (area[..., index] <= high)
        for index, (low, high) in enumerate((red, green, blue))
    ]
    return float(np.logical_and.reduce(within).mean())


def near(area, colour, *, by=12):
    """Share of pixels near a colour given in [0, 1]."""
    return float((np.abs(area - 255 * np.array(colour)) <= by).all(axis=2).mean())


def is_coloured(shot):
    """Say which of the four views of the overview hold the colours that they should."""
    weights, trajectory, distribution, maps = quarters(shot)
    return {
        "weights": share(weights, red=(0, 130), green=(60, 180), blue=(150, 255)) > 0.01
        and share(weights, red=(150, 255), green=(0, 140), blue=(0, 140)) > 0.01,
        "trajectory": share(trajectory, red=(190, 240), green=(0, 130), blue=(90, 170)) > 0.0005,
        "distribution": max(near(distribution, colour) for colour in GROUPS) > 0.002,
        "maps": share(maps, red=(40, 140), green=(45, 150), blue=(60, 165)) > 0.005,
    }
