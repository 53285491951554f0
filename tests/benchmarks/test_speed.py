"""The speed benchmarks, made small: that they run and say what they measured; no figure is held."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.speed.__main__ import THEMES
from benchmarks.speed.rows import Row, alternate, ratio
from benchmarks.speed.table import chart, markdown
from tests.doubles import LONG

ROOT = Path(__file__).parents[2]
SECONDS = 600
"""Hang limit of all themes. They take two minutes of a quiet machine."""


def make_row(**changes):
    return Row(**{"number": "1", "work": "w", "value": 1.5, "unit": "x", "target": 2.0} | changes)


def test_contestants_take_turns_and_each_is_first_as_often():
    """What slows the machine for a while slows both."""
    order = []

    def contestant(name):
        return lambda: order.append(name)

    seconds = alternate(contestant("a"), contestant("b"), rounds=4, warm_up=2)

    assert "".join(order) in ("abba" * 3, "baab" * 3)
    assert [len(own) for own in seconds] == [4, 4]


def test_a_contestant_may_bring_its_own_seconds():
    """What it reports counts, and the ratio is the median of the rounds' own."""
    above, below = alternate(lambda: 6.0, lambda: 2.0, rounds=3)

    assert above == [6.0] * 3
    assert ratio(above, below) == 3.0
    assert ratio([1.0, 10.0, 3.0], [1.0, 1.0, 1.0]) == 3.0


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(1.9, False, True), (2.1, False, False), (2.1, True, True), (1.9, True, False)],
)
def test_a_target_is_met_from_its_own_side(value, at_least, met):
    """At most or at least; a value that is not a number meets neither."""
    row = make_row(value=value, at_least=at_least)

    assert row.met == met
    assert (row.share <= 1) == met
    assert not make_row(value=float("nan"), at_least=at_least).met
    assert make_row(value=0.0, at_least=at_least).met != at_least
    assert make_row(value=0.0, at_least=at_least).share == (math.inf if at_least else 0.0)


def test_the_table_says_what_was_missed(tmp_path):
    """Every row has its figure, its target and what it was made of; a miss is told as one."""
    rows = [
        make_row(figures={"ours [ms]": 12345.0}),
        make_row(value=7.0, floor="one copy: 1 ms"),
        make_row(value=0.0, at_least=True),
    ]
    table = markdown(rows, machine="A machine")
    chart(rows, path=tmp_path / "speed.png", machine="A machine")

    assert "Measured on: A machine." in table
    assert "| 1 | w | ≤ 2 x | 1.5 | ours [ms] 12,345 |  |" in table
    assert "| 1 | w | ≤ 2 x | **7** (missed) |  | one copy: 1 ms |" in table
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_docs_show_the_table_of_the_figures_beside_them():
    """docs/speed.md holds what docs/speed.json gives, and that is from a whole run."""
    document = json.loads((ROOT / "docs" / "speed.json").read_text())
    rows = [Row(**row) for row in document["rows"]]

    assert not document["quick"]
    assert markdown(rows, machine=document["machine"]) in (ROOT / "docs" / "speed.md").read_text()


ROWS = {
    "training": {1, 2, 3, 5},  # 4 as 1, for a larger network
    "files": {6},
    "live": {7, 8, 9},
    "pearson": {10},
    "geometry": {11, 12},
    "long": {13},
    "memory": {14},
}
"""By theme. But for large networks, of which `tests/gui/test_large.py` runs all."""
BESIDE_TRAININGS = {"training", "live", "memory"}
"""Themes with viewers, TensorBoard and wandb beside trainings: in the long form only."""


@pytest.mark.paraview
@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.long
def test_every_theme_runs(tmp_path):
    """Made small, all yield their rows, with finite figures; table, JSON and chart are left."""
    themes = [theme for theme in ROWS if LONG or theme not in BESIDE_TRAININGS]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.speed",
            "--quick",
            "--out",
            tmp_path,
            "--theme",
            *themes,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]

    numbers = {int(re.match("[0-9]+", row["number"]).group()) for row in rows}
    assert {*ROWS, "large"} == set(THEMES)
    assert numbers == set().union(*(ROWS[theme] for theme in themes))
    assert all(row["value"] == row["value"] and row["target"] > 0 for row in rows)
    assert {path.name for path in tmp_path.iterdir()} == {"speed.json", "speed.md", "speed.png"}
