"""Make the pictures of the docs anew: a run, its exported pages, and the window on it.

Usage: python -m tests.gui.pictures
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from tensorview.export import export
from tests.doubles import wait_until
from tests.gui.desk import ACTIVATIONS_TAB, Desk, is_coloured

PROJECT = Path(__file__).parents[2]
PICTURES = PROJECT / "docs" / "pictures"


def main():
    sys.path.insert(0, str(PROJECT / "examples"))
    from lenet5_digits import train  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train(every=20, run_dir=run, live=False)
        export(run, png=True, out=PICTURES)
        learning_rates = [sys.executable, PROJECT / "examples" / "learning_rates.py"]
        subprocess.run([*learning_rates, "--out", folder], check=True)
        export(Path(folder) / "learning-rate-10", png=True, tab="health", out=PICTURES)
        with Desk(Path(folder), run, answers=False) as desk:
            wait_until(lambda: all(is_coloured(desk.shot()).values()), seconds=60, what="colours")
            time.sleep(5)
            save(desk, "window")
            desk.click(*ACTIVATIONS_TAB)
            time.sleep(5)
            desk.select((0.03, 0.1, 0.08, 0.2))
            time.sleep(5)
            save(desk, "selection")


def save(desk, name):
    Image.fromarray(desk.shot()[:960]).save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
