"""Measure everything that is claimed of speed and memory, and print one table.

Each theme runs in a process of its own. Leaves `speed.json`, `speed.md` and `speed.png` in the
folder of `--out`. Ends with 1 if something could not be measured; targets that are not met are told
in the table.

Usage: python -m benchmarks.speed [--quick] [--theme NAME ...] [--out FOLDER]
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.speed.machine import describe_machine
from benchmarks.speed.rows import Row, from_lines
from benchmarks.speed.table import chart, markdown

THEMES = {
    "training": "what being watched costs a training, and what TensorBoard and wandb take",
    "files": "VGG16's maps as files, against csv and vtp of points",
    "live": "handing frames over, and their way to a live client",
    "large": "ResNet-50 and VGG16 in the window",
    "pearson": "correlations of a large layer, against numpy",
    "geometry": "geometry of heavy layers, against one call a value",
    "long": "10,000 captures: time, memory and disk of late ones against early ones",
    "memory": "what a watched training process holds more",
}
HANG_SECONDS = 1800
"""Per theme; each takes a few minutes."""


def run_theme(name: str, *, quick: bool) -> tuple[list[Row], str]:
    """Return the rows of one theme, and what went wrong, "" for nothing."""
    command = [sys.executable, "-m", f"benchmarks.speed.{name}", *(["--quick"] if quick else [])]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=HANG_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"{name} was stopped after {HANG_SECONDS} s"
    rows = list(from_lines(done.stdout.splitlines()))
    return rows, f"{name} ended with {done.returncode}" if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small: shows that it runs")
    parser.add_argument(
        "--theme",
        nargs="+",
        choices=THEMES,
        default=list(THEMES),
        metavar="NAME",
        help="; ".join(f"{name}: {what}" for name, what in THEMES.items()),
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, faults = [], []
    for name in arguments.theme:
        print(f"measuring: {THEMES[name]}", file=sys.stderr, flush=True)
        found, fault = run_theme(name, quick=arguments.quick)
        rows += found
        faults += [fault] if fault else []
    machine = describe_machine()
    document = {"machine": machine, "quick": arguments.quick, "rows": [asdict(row) for row in rows]}
    (arguments.out / "speed.json").write_text(json.dumps(document, indent=1) + "\n")
    table = markdown(rows, machine=machine)
    (arguments.out / "speed.md").write_text(table)
    chart(rows, path=arguments.out / "speed.png", machine=machine)
    print(table)
    for fault in faults:
        print(f"Not measured: {fault}.", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
