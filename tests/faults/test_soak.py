"""The long training under every fault at once, made short: that it runs, and keeps what it says."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.paraview
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_c4_a_soak_of_half_a_minute_keeps_every_promise():
    """Viewer and workers killed, disk full twice: nothing lost uncounted, training as unwatched."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.soak", "--minutes", "0.6"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
    rows = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert int(rows["disk full"]) == 2
    assert int(rows["captures counted as dropped"]) > 0
