"""The real ParaView window acts on a training, and lets filters be picked."""

import numpy as np
import pytest

from tensorview.run import Run
from tensorview.steering import Answers
from tests.doubles import free_port, wait_until
from tests.gui.desk import ACTIVATIONS_TAB, ALL_FOUR, Desk, is_coloured, page

pytestmark = [pytest.mark.paraview, pytest.mark.slow, pytest.mark.timeout(300)]

PINK = (230, 0, 120)
"""Roughly the colour of outlines around selected filters."""


def answers(run):
    """All that a training answered so far, as (command, state, step)."""
    with Answers(run) as found:
        return [
            (answer.command, answer.state, answer.step) for answer in found.read() if answer.command
        ]


def test_buttons_reach_the_training_and_say_what_came_of_it(tmp_path, train):
    """Pressed one after another, they are obeyed in that order; what is not allowed is refused."""
    port, run = free_port(), tmp_path / "run"
    train("run", port=port)
    with Desk(tmp_path, "--port", port) as desk:
        wait_until(lambda: is_coloured(desk.shot()) == ALL_FOUR, seconds=90, what="a picture")
        labels = ("Pause training", "Capture now", "Capture less often", "Resume training")
        for count, label in enumerate(labels, start=1):
            desk.press(label)
            wait_until(
                lambda count=count: len(answers(run)) >= count, seconds=20, what=f"{label} to work"
            )
        wait_until(
            lambda: "goes on" in desk.ask("found = window._said"),
            seconds=20,
            what="the answer in the window",
        )
        desk.press("Stop training")
        wait_until(lambda: Run.open(run).steps(), seconds=20, what="files")
        wait_until(lambda: answers(run)[-1][:2] == ("stop", "applied"), seconds=20, what="the end")

    commands = [(command, state) for command, state, _ in answers(run)]
    assert commands[:4] == [
        ("pause", "applied"),
        ("capture", "applied"),
        ("every", "applied"),
        ("resume", "applied"),
    ]
    paused_at, captured_at = answers(run)[0][2], answers(run)[1][2]
    assert captured_at == paused_at
    assert paused_at in Run.open(run).steps()


def test_a_filter_picked_in_one_view_is_outlined_in_the_others(tmp_path, train):
    """In the Activations tab a pick in the distribution is seen in the maps and correlation."""
    port = free_port()
    train("run", port=port)
    with Desk(tmp_path, "--port", port) as desk:
        wait_until(lambda: is_coloured(desk.shot()) == ALL_FOUR, seconds=90, what="a picture")
        desk.click(*ACTIVATIONS_TAB)
        wait_until(lambda: not any(outlined(desk.shot())), seconds=20, what="the tab")
        desk.select((0.03, 0.1, 0.08, 0.2))
        wait_until(
            lambda: all(outlined(desk.shot())),
            seconds=30,
            what=lambda: f"outlines in three views, got {outlined(desk.shot())}",
        )
        picked = desk.ask("found = {k: list(v) for k, v in window.selection.filters.items()}")
        desk.press("Mark selected filters")
        wait_until(
            lambda: ("select", "applied") in [entry[:2] for entry in answers(tmp_path / "run")],
            seconds=20,
            what="the training to be told",
        )

    assert picked
    with Answers(tmp_path / "run") as found:
        told = {
            answer.arguments["layer"]: answer.arguments["filters"]
            for answer in found.read()
            if answer.command == "select"
        }
    assert told == picked


def outlined(shot):
    """Whether each third of the page shows the outline of a selection."""
    return [
        bool((np.abs(third.astype(int) - PINK) <= 25).all(axis=2).sum() > 40)
        for third in np.array_split(shot[page(shot)], 3, axis=1)
    ]
