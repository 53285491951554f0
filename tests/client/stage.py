"""ParaView as a stage: tests have stories played there, and read what was seen."""

import json
import os
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

from tensorview.client.paraview import NO_MPI, find_paraview
from tests.doubles import virtual_display

PROJECT = Path(__file__).parents[2]


@contextmanager
def stage(script, folder):
    """Yield a function that plays a story of *script* and returns what it found, as of JSON.

    Args:
        script: run by ParaView's Python with the project's path and *folder*; it ends in
            `tests.client.stories.play_what_is_asked`.
        folder: where stories leave their pictures.

    Raises:
        AssertionError: the story failed, or ParaView complained, also while it was loaded.
    """
    complaints = folder / "complaints.txt"
    with (
        virtual_display() as display,
        complaints.open("w") as stderr,
        complaints.open() as heard,
        subprocess.Popen(
            [find_paraview().pvpython, NO_MPI, script, PROJECT, folder],
            env={**os.environ, "DISPLAY": display},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as paraview,
    ):

        def play(story):
            with suppress(BrokenPipeError):  # it has ended, which is said below
                print(story, file=paraview.stdin, flush=True)
            said = paraview.stdout.readline()
            complained = heard.read()
            assert said == "played\n", complained
            found = folder / f"{story}.json"
            assert found.exists(), complained
            assert "ERR" not in complained
            assert "Warning" not in complained
            return json.loads(found.read_text())

        try:
            yield play
        finally:
            paraview.kill()
            with suppress(BrokenPipeError):
                paraview.stdin.close()
