"""ParaView as a stage: tests have stories played there, and read what was seen."""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

from tensorview.client.paraview import find_paraview
from tests.doubles import virtual_display

PROJECT = Path(__file__).parents[2]


@contextmanager
def stage(script, folder):
    """Yield a function that plays a story of *script* and returns what it found, as of JSON.

    Args:
        script: run by ParaView's Python with the project's path; see `tests.client.stories`.
        folder: where stories leave their pictures.

    Raises:
        AssertionError: the story failed, or ParaView complained.
    """
    with virtual_display() as display:
        paraview = subprocess.Popen(
            [find_paraview().pvpython, script, PROJECT],
            env={**os.environ, "DISPLAY": display},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def play(story):
            paraview.stdin.write(json.dumps([story, str(folder)]) + "\n")
            paraview.stdin.flush()
            said = paraview.stdout.readline()
            assert said == "played\n"
            complaints = (folder / f"{story}.txt").read_text()
            found = folder / f"{story}.json"
            assert found.exists(), complaints
            assert "ERR" not in complaints
            assert "Warning" not in complaints
            return json.loads(found.read_text())

        try:
            yield play
        finally:
            paraview.kill()
            paraview.wait()
            paraview.stdin.close()
            paraview.stdout.close()
