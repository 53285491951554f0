"""The benchmarks of pruning, made small: that they run; limits are for the whole ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles import LONG
from tests.examples.test_examples import small_mnist

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SECONDS = 280
"""Hang limit. Each takes under 30 seconds of one quiet core."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def data(tmp_path):
    real = os.environ.get("TENSORVIEW_DATA")
    return Path(real) / "MNIST" if real else small_mnist(tmp_path / "data", train=500, test=500)


def run_benchmark(name, *arguments):
    """Run one without the trained ResNet, which takes long: random weights do here."""
    environment = {key: value for key, value in os.environ.items() if key != "TENSORVIEW_DATA"}
    return subprocess.run(
        [sys.executable, BENCHMARKS / name, "--quick", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


WAYS = ("least missed, merged", "least missed, dropped", "most alike, dropped")
ARM = {
    "accuracy": 99.0,
    "filters": 12,
    "events": [{"lost": {"merge": 0.0, "drop": 0.1}}],
    "together": [{"lost": {"merge": 0.0}}],
}
TRAINED = {
    "resnet20": {"dead": {"conv": [3]}, "change": 0.0, "lost": {"conv": dict.fromkeys(WAYS, 1.0)}},
    **{f"lenet5-{arm}-seed-0-epochs-4": ARM for arm in ("unpruned", "merge", "drop")},
}
"""What trainings find, by the name it is kept by."""


@pytest.mark.long
def test_pruning(tmp_path, data):
    """Prints a row for all that must hold, and measures nothing twice.

    In the short form not even once what takes a training: `tests/examples/test_pruning.py` trains.
    """
    if not LONG:
        (tmp_path / "out" / "quick").mkdir(parents=True)
        for name, found in TRAINED.items():
            (tmp_path / "out" / "quick" / f"{name}.json").write_text(json.dumps(found))
    arguments = (
        "--data",
        data,
        "--seed",
        0,
        "--out",
        tmp_path / "out",
        "--json",
        tmp_path / "rows",
    )

    first = run_benchmark("pruning.py", *arguments)
    measured = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")}
    again = run_benchmark("pruning.py", *arguments)
    rows = json.loads((tmp_path / "rows").read_text())

    assert (first.returncode, again.returncode) == (0, 0), first.stdout + first.stderr
    assert {path.stem for path in measured} == {"copy", *TRAINED}
    assert all(path.stat().st_mtime_ns == time for path, time in measured.items())
    assert first.stdout.endswith(again.stdout)
    assert [row["ok"] for row in rows if row["ok"] is not None] == [True] * 3
    assert again.stdout.count("\n| ") == len(rows) == 12


def test_pruning_fails_where_a_limit_is_passed(tmp_path, data):
    """What is measured against a limit decides the exit status."""
    out = tmp_path / "out"
    (out / "quick").mkdir(parents=True)
    (out / "quick" / "copy.json").write_text('{"change": 1e-3}')

    result = run_benchmark("pruning.py", "--data", data, "--part", "copy", "--out", out)

    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == (
        "| a scaled copy merged: change of outputs | <= 1e-6 | 0.001 | FAIL |"
    )


def test_optimizer_state(data):
    """An update after pruning is as long as without; that of a new optimizer is longer."""
    result = run_benchmark("optimizer_state.py", "--data", data)
    table = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")]

    assert result.returncode == 0, result.stdout + result.stderr
    assert [line[0] for line in table[2:]] == [
        f"| {network}, {state}" for network in ("unpruned", "pruned") for state in ("kept", "new")
    ]
    # Until filters go, and with the same optimizer, all is the same.
    assert table[2][1] == table[3][1]
    assert table[4][1] == table[5][1]
