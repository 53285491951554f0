"""`python -m tests.fuzz`: hostile inputs to all targets; what fails is saved, to be tried again."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# Before they are loaded: a process with threads cannot be forked safely.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["VTK_SMP_BACKEND_IN_USE"] = "Sequential"

from tests.fuzz import harness  # noqa: E402  # as said above
from tests.fuzz.runs import use_vtks_reader  # noqa: E402
from tests.fuzz.targets import TARGETS  # noqa: E402

FAILURES = Path(__file__).parent / "failures"


def main() -> int:
    """Return 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    names = [target.name for target in TARGETS]
    parser.add_argument("--target", choices=names, action="append", help="(default: all)")
    parser.add_argument("--cases", type=int, default=2000, help="of each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--per-process", type=int, default=1, help="cases in a process")
    parser.add_argument("--again", type=Path, metavar="FILE", help="a saved input of the target")
    parser.add_argument("--vtk", action="store_true", help="datasets by VTK's own reader instead")
    parser.add_argument("--save", type=Path, default=FAILURES, metavar="FOLDER")
    options = parser.parse_args()
    if options.vtk:
        use_vtks_reader()
    return max(_try(name, options) for name in options.target or names)


def _try(name: str, options: argparse.Namespace) -> int:
    target = next(target for target in TARGETS if target.name == name)()
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="tensorview-fuzz-") as scratch:
        target.warm(Path(scratch))
        started = time.monotonic()
        if options.again:
            inputs = iter([(options.again.name, target.read_saved(options.again))])
        else:
            inputs = harness.cases(target, seed=options.seed, count=options.cases)
        count, failures = harness.run(target, inputs, per_process=options.per_process)
    seconds = time.monotonic() - started
    paths = [] if options.again else harness.save(failures, options.save / name)
    said = f"{name}: {count} cases, {len(failures)} failures, {seconds:.1f} s, seed {options.seed}"
    sys.stdout.write(f"{said}\n")
    deaths = Counter(f.what.partition(".")[0] for f in failures if f.what.startswith("died"))
    for what, number in deaths.items():
        sys.stdout.write(f"{number} {what}\n")
    for failure in failures[: harness.SAVED]:
        sys.stdout.write(f"case {failure.case}, {failure.input.name}:\n{failure.what}\n")
    for path in paths:
        sys.stdout.write(f"python -m tests.fuzz --target {name} --again '{path}'\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
