"""The real ParaView window beside a training: it shows all, lets filters be picked, and acts."""

import numpy as np
import pytest

from benchmarks.speed.large import ink
from tensorview.run import Run
from tensorview.steering import Answers
from tests.doubles import free_port, wait_until
from tests.gui.conftest import trainings
from tests.gui.desk import ACTIVATIONS_TAB, Desk, page

pytestmark = [pytest.mark.paraview, pytest.mark.slow, pytest.mark.timeout(300)]

PINK = (230, 0, 120)
"""Roughly the colour of outlines around selected filters."""


def answers(run):
    """All that a training answered so far, as (command, state, step)."""
    with Answers(run) as found:
        return [
            (answer.command, answer.state, answer.step) for answer in found.read() if answer.command
        ]


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """Yield a window that was opened beside a training, and the run of it."""
    folder, port = tmp_path_factory.mktemp("beside"), free_port()
    with trainings(folder) as start:
        start("run", port=port)
        with Desk(folder, "--port", port) as desk:
            yield desk, folder / "run"


def test_four_coloured_views_without_a_click(beside):
    """A window shows all of a training that was there before it; no box opens."""
    desk, _ = beside
    desk.see_all()

    assert desk.dialogs() == []


def test_a_filter_picked_in_one_view_is_outlined_in_the_others(beside):
    """In the Activations tab a pick in the distribution is seen in the maps and correlation."""
    desk, run = beside
    desk.click(*ACTIVATIONS_TAB)
    wait_until(lambda: is_drawn(desk.shot()), seconds=30, what="the tab")
    desk.select((0.03, 0.1, 0.08, 0.2))
    wait_until(
        lambda: all(outlined(desk.shot())),
        seconds=30,
        what=lambda: f"outlines in three views, got {outlined(desk.shot())}",
    )
    picked = desk.ask("found = {k: list(v) for k, v in window.selection.filters.items()}")
    desk.press("Mark selected filters")
    wait_until(
        lambda: ("select", "applied") in [entry[:2] for entry in answers(run)],
        seconds=60,
        what="the training to be told",
    )

    assert picked
    with Answers(run) as found:
        told = {
            answer.arguments["layer"]: answer.arguments["filters"]
            for answer in found.read()
            if answer.command == "select"
        }
    assert told == picked


def test_buttons_reach_the_training_and_say_what_came_of_it(beside):
    """Pressed one after another, they are obeyed in that order; what is not allowed is refused."""
    desk, run = beside
    before = len(answers(run))
    labels = ("Pause training", "Capture now", "Capture less often", "Resume training")
    for count, label in enumerate(labels, start=before + 1):
        desk.press(label)
        wait_until(
            lambda count=count: len(answers(run)) >= count, seconds=60, what=f"{label} to work"
        )
    wait_until(
        lambda: "goes on" in desk.ask("found = window._said"),
        seconds=60,
        what="the answer in the window",
    )
    desk.press("Stop training")
    wait_until(lambda: Run.open(run).steps(), seconds=60, what="files")
    wait_until(lambda: answers(run)[-1][:2] == ("stop", "applied"), seconds=60, what="the end")

    given = answers(run)[before:]
    assert [(command, state) for command, state, _ in given[:4]] == [
        ("pause", "applied"),
        ("capture", "applied"),
        ("every", "applied"),
        ("resume", "applied"),
    ]
    paused_at, captured_at = given[0][2], given[1][2]
    assert captured_at == paused_at
    assert paused_at in Run.open(run).steps()


def is_drawn(shot):
    """Whether all three views have a picture; that of the overview, left behind, has magenta."""
    return min(map(ink, thirds(shot))) > 0.02 and not any(outlined(shot))


def outlined(shot):
    """Whether each third of the page shows the outline of a selection."""
    return [
        bool((np.abs(third.astype(int) - PINK) <= 25).all(axis=2).sum() > 40)
        for third in thirds(shot)
    ]


def thirds(shot):
    """Cut the page into its left, middle and right view."""
    return np.array_split(shot[page(shot)], 3, axis=1)
