"""2,000 hostile inputs a target; `make fuzz` tries more of them, each in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CASES = 2000
SEED = 6
TOGETHER = 20
"""Cases in a process: a fork takes longer than most of them."""
ROOT = Path(__file__).parents[2]
MOST_CORPUS_BYTES = 200_000

TEMPERS = """
import itertools, os, sys, time
from tests.fuzz import harness
from tests.fuzz.harness import Input

class Target:
    name, memory_bytes, cpu_seconds, corpus = "tempers", 50_000_000, 1, harness.Path("nowhere")

    def check(self, case):
        if case.name == "raises":
            raise ValueError("on purpose")
        if case.name == "exits":
            sys.exit("on purpose")
        if case.name == "crashes":
            os.abort()
        if case.name == "allocates":
            bytearray(100_000_000)
        if case.name == "computes":
            while True:
                pass
        if case.name == "hangs":
            time.sleep(60)

harness.HANG_SECONDS = 8.0
tempers = ["raises", "exits", "crashes", "allocates", "computes", "hangs"]
names = [name for temper in tempers for name in (temper, "good")]
cases = iter([(str(number), Input(name, b"")) for number, name in enumerate(names)])
count, failures = harness.run(Target(), cases, per_process=int(sys.argv[1]))
print(count)
for failure in failures:
    print(failure.case, failure.input.name, failure.what.splitlines()[-1].split(".")[0])
"""


def fuzz(target, folder):
    """Try `CASES` inputs and what was found before; fail with what went wrong."""
    options = ["--cases", str(CASES), "--seed", str(SEED), "--per-process", str(TOGETHER)]
    command = [sys.executable, "-m", "tests.fuzz", "--target", target, "--save", str(folder)]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (count,) = re.findall(rf"^{target}: (\d+) cases, 0 failures", done.stdout, re.MULTILINE)
    assert int(count) >= CASES


def test_z1_hostile_datasets_are_refused(tmp_path):
    """A damaged file is refused by name before VTK sees it, a forged one where it points out."""
    fuzz("datasets", tmp_path)


def test_z1_the_same_files_end_a_process_that_trusts_them(tmp_path):
    """VTK's own reader dies of some of them: they are hostile indeed, and the harness sees it."""
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--target",
        "datasets",
        "--vtk",
        "--per-process",
        "10",
    ]
    options = ["--cases", "100", "--seed", str(SEED), "--save", str(tmp_path)]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 1
    assert re.search(r"^\d+ died of SIGSEGV$", done.stdout, re.MULTILINE)


def test_z2_hostile_run_files_give_what_is_intact_or_one_error(tmp_path):
    """Whatever a run's files hold: what is intact, or one clear error, and nothing outside."""
    fuzz("runs", tmp_path)


def test_z3_hostile_snapshots_are_refused(tmp_path):
    """Whatever stands in a slot, a token or a message: no crash, no allocation over the cap."""
    fuzz("snapshots", tmp_path)


def test_z4_hostile_texts_read_back_and_are_no_formulas(tmp_path):
    """Any text in a table reads back equal, and no spreadsheet takes it for a formula."""
    fuzz("tables", tmp_path)


def test_the_harness_sees_every_kind_of_failure():
    """An exception, a crash, too much memory or time, a hang: each fails its case and no other."""
    done = subprocess.run(
        [sys.executable, "-c", TEMPERS, "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "12",
        "0 raises ValueError: on purpose",
        "2 exits SystemExit: on purpose",
        "4 crashes died of SIGABRT",
        "6 allocates MemoryError",
        "8 computes died of SIGXCPU",
        "10 hangs hung for 8 s",
    ]


def test_the_same_seed_gives_the_same_inputs(tmp_path):
    """A failure can be repeated from its seed, and its saved input is the one that failed."""
    code = (
        "import sys; from tests.fuzz import harness, targets; from pathlib import Path\n"
        "for kind in targets.TARGETS:\n"
        "    (folder := Path(sys.argv[1]) / kind.name).mkdir(parents=True)\n"
        "    target = kind(); target.warm(folder)\n"
        "    for name, case in harness.cases(target, seed=3, count=20):\n"
        "        failure = harness.Failure(case=name, input=case, what='')\n"
        "        (path,) = harness.save([failure], folder)\n"
        "        assert target.read_saved(path) == case, path\n"
        "        print(name, case)\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / str(n))],
            cwd=ROOT,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for n in range(2)
    ]
    assert said[0] == said[1]
    assert said[0].count(b"Input(") > 80


def test_the_corpus_is_small():
    """It comes with every clone."""
    files = (path for path in (Path(__file__).parent / "corpus").rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in files) < MOST_CORPUS_BYTES
