"""Fuzzed files of a run: rows Z1 and Z2 of what tensorview promises under faults."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tensorview.errors import ConfigurationError, RunError
from tensorview.manifest import MANIFEST, from_line, read_entries, to_line
from tensorview.pvd import listed_files
from tensorview.run import Run, read_run_id
from tensorview.run_writer import RunWriter
from tensorview.steering.client import Answers
from tensorview.steering.commands import check_arguments
from tensorview.steering.commands import from_line as read_command
from tensorview.steering.ctl import _line as ctl_line
from tensorview.steering.lines import Tail
from tensorview.worker import datasets
from tensorview.worker.datasets import arrays, blocks, read_frame
from tensorview.worker.pictures.main import main as export
from tensorview.worker.sinks.scalars_csv import ScalarsCsv
from tests.fuzz import mutators
from tests.fuzz.corpus import CORPUS, files_of
from tests.fuzz.harness import Input

MB = 10**6
OTHER_FILES = (
    "run.json",
    MANIFEST,
    "weights.pvd",
    "scalars.csv",
    "commands.jsonl",
    "steering.jsonl",
)


class InRun:
    """A run in a scratch folder, of which one file is hostile."""

    memory_bytes = 100 * MB
    cpu_seconds = 2
    corpus = CORPUS

    def warm(self, scratch: Path) -> None:
        """Do with the good run what is done with hostile ones."""
        self.good = files_of(CORPUS / "run")
        self.entries = [from_line(line) for line in self.good[MANIFEST].splitlines(keepends=True)]
        self.outside = scratch / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret", encoding="utf-8")
        self.check(Input(self.plain_name, self.good[self.plain_name.split(" ")[-1]]))

    def read_saved(self, path: Path) -> Input:
        """Return the input that was saved at *path*: its case, then its name."""
        return Input(path.name.split("-", 2)[2].replace("+", "/"), path.read_bytes())

    def put(self, files: dict[str, bytes]) -> Path:
        """Make a run of this case's own that holds *files*, and return its folder."""
        folder = Path(tempfile.mkdtemp(dir=self.outside.parent))
        for file, content in files.items():
            path = folder / file
            if "/" in file:
                path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder


class Datasets(InRun):
    """Z1: a ``.vtp`` or ``.vti`` that is damaged, or forged so that the manifest agrees."""

    name = "datasets"
    plain_name = "forged weights/00000050.vtp"

    def make(self, rng: random.Random) -> Input:
        """Spoil one dataset."""
        names = [name for name in self.good if name.endswith((".vtp", ".vti"))]
        name, kind = rng.choice(names), rng.choice(("damaged", "forged", "forged"))
        data, others = self.good[name], [self.good[other] for other in names]
        if kind == "forged" and rng.random() < 0.5:
            data = mutators.lie_in_values(rng, data, others)
        else:
            data = mutators.spoil(rng, data, others=others)
        return Input(f"{kind} {name}", data)

    def check(self, case: Input) -> None:
        """Read the step and export its tables."""
        kind, _, file = case.name.partition(" ")
        changed = case.data != self.good[file]
        (entry,) = [entry for entry in self.entries if entry.file == file]
        if kind == "forged":
            entry = entry._replace(size=len(case.data), crc32=zlib.crc32(case.data))
        parts = {"run.json": self.good["run.json"], file: case.data, MANIFEST: to_line(entry)}
        folder = self.put(parts)
        run = Run.open(folder)
        (step,) = [step for step, files in run.files.items() if file in files]
        refused = None
        try:
            frame = read_frame(run, step)
        except RunError as error:
            refused = error
        if refused is not None:
            assert changed, refused
            assert f"'{file}'" in str(refused)
            assert_sentence(refused)
            return
        assert kind == "forged" or not changed, "damage was not seen"
        for dataset in frame.datasets.values():
            for part in _parts(dataset):
                assert_sound(part)
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            options = {"kind": "csv", "run_dir": str(folder), "step": step}
            code = export(options | {"folder": str(self.outside)})
        faults = [line for line in said.getvalue().splitlines() if line.startswith("tensorview: ")]
        assert len(faults) == code, said.getvalue()
        assert not faults or "MemoryError" not in faults[0], faults


def use_vtks_reader() -> None:
    """Decode datasets as whoever has no reader of ours, to see what that would do."""
    from vtkmodules.vtkIOXML import (  # noqa: PLC0415  # loaded by nobody else
        vtkXMLImageDataReader,
        vtkXMLPolyDataReader,
    )

    def decoder(kind: Any) -> Any:
        def decode(data: bytes, *, source: str) -> Any:
            reader = kind()
            reader.ReadFromInputStringOn()
            reader.SetInputString(data)
            errors: list[object] = []
            reader.AddObserver("ErrorEvent", lambda *_: errors.append(1))
            reader.Update()
            if errors or reader.GetErrorCode():
                raise RunError(f"Cannot decode {source}: VTK says no.")
            return reader.GetOutput()

        return decode

    datasets.decode_polydata = decoder(vtkXMLPolyDataReader)
    datasets.decode_image = decoder(vtkXMLImageDataReader)


def _parts(dataset: Any) -> list[Any]:
    if dataset.IsA("vtkMultiBlockDataSet"):
        return [image for _, image in blocks(dataset)]
    return [dataset]


def assert_sound(dataset: Any) -> None:
    """Nothing in a dataset points out of it, so that VTK's filters may do what they like."""
    points, cells = dataset.GetNumberOfPoints(), dataset.GetNumberOfCells()
    for data, count in ((dataset.GetPointData(), points), (dataset.GetCellData(), cells)):
        assert all(len(values) == count for values in arrays(data).values())
    if dataset.IsA("vtkPolyData"):
        for kind in ("Verts", "Lines", "Strips", "Polys"):
            found = getattr(dataset, f"Get{kind}")()
            assert found.IsValid()
        dataset.BuildLinks()
    assert np.isfinite(dataset.GetBounds()).all()


class RunFiles(InRun):
    """Z2: every other file of a run that we read."""

    name = "runs"
    plain_name = "run.json"

    def warm(self, scratch: Path) -> None:
        """Keep one view of the run, which takes a quarter of the time."""
        super().warm(scratch)
        self.entries = [entry for entry in self.entries if entry.view.startswith("weights")]
        files = {entry.file for entry in self.entries}
        self.good = {name: self.good[name] for name in (*OTHER_FILES, *sorted(files))}
        self.good[MANIFEST] = b"".join(map(to_line, self.entries))

    def make(self, rng: random.Random) -> Input:
        """Spoil one of the files."""
        name = rng.choice((*OTHER_FILES, MANIFEST, MANIFEST))
        data = self.good[name]
        if name == "run.json" and rng.random() < 0.6:
            return Input(name, json.dumps(mutators.spoil_json(rng, json.loads(data))).encode())
        if name.endswith(".jsonl") and rng.random() < 0.7:
            return Input(name, mutators.spoil_lines(rng, data))
        if rng.random() < 0.05:
            return Input(name, rng.choice((mutators.TOO_DEEP, mutators.BOMB, b"\xff" * 10_000)))
        others = [self.good[other] for other in OTHER_FILES]
        return Input(name, mutators.spoil(rng, data, others=others))

    def check(self, case: Input) -> None:
        """Do all that reads this file."""
        whole = case.name in ("run.json", MANIFEST, "weights.pvd")
        parts = self.good if whole else {"run.json": self.good["run.json"]}
        folder = self.put(parts | {case.name: case.data})
        opened = watch_opens(folder)
        if case.name in ("run.json", MANIFEST):
            self._read(folder, case)
        if whole:
            with contextlib.suppress(RunError):
                RunWriter(folder).close()
            for path in folder.glob("*.pvd"):
                assert listed_files(path.read_bytes()) is not None
        if case.name == "scalars.csv":
            with contextlib.suppress(RunError):
                scalars = ScalarsCsv(folder, last_step=1000)
                scalars.add(50, {"loss": 1.0})
                scalars.close()
        if case.name == "steering.jsonl":
            with Answers(folder) as answers:
                for answer in answers.read():
                    assert ctl_line(answer).isprintable()
                assert answers.training is None or not answers.training.is_gone
        if case.name == "commands.jsonl":
            _obey(folder)
        assert opened == []
        assert files_of(self.outside) == {"secret": b"secret"}

    def _read(self, folder: Path, case: Input) -> None:
        for act in (lambda: read_run_id(folder), lambda: Run.create(folder, settings={})):
            try:
                act()
            except RunError as error:
                assert_sentence(error)
        try:
            run = Run.open(folder)
        except RunError as error:
            assert case.name == "run.json"
            assert_sentence(error)
            return
        if case.name == MANIFEST:
            good = self.good[MANIFEST].splitlines(keepends=True)
            pairs = zip(good, case.data.splitlines(keepends=True), strict=False)
            intact = next((n for n, (a, b) in enumerate(pairs) if a != b), 0)
            found, _, _ = read_entries(io.BytesIO(case.data))
            assert found[:intact] == self.entries[:intact]
            for files in run.files.values():
                for entry in files.values():
                    with contextlib.suppress(RunError):
                        assert run.read(entry) == self.good[entry.file]


def _obey(folder: Path) -> None:
    """Read commands as a training does, up to what it would do."""
    tail = Tail(folder, "commands.jsonl", max_line_bytes=2**14, from_end=False)
    for line in tail.read():
        command = read_command(line)
        if command is not None:
            with contextlib.suppress(ConfigurationError):
                check_arguments(command.command, command.arguments)
    tail.close()


def watch_opens(folder: Path) -> list[str]:
    """Return a list that fills with what this process opens outside *folder* from now on."""
    if not _watched:
        sys.addaudithook(_note)  # for the rest of the process
    _watched[:] = [str(folder), sys.prefix, sys.base_prefix, "/usr/lib", "/proc/self/statm"]
    _watched.append(str(Path(__file__).parents[2]))
    _opened.clear()
    return _opened


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and not isinstance(arguments[0], int):
        path = os.fsdecode(arguments[0])
        # Without a slash it is a name in a folder that is held open already.
        if ("/" in path or path == "..") and not path.startswith(tuple(_watched)):
            _opened.append(path)


_watched: list[str] = []
_opened: list[str] = []


def assert_sentence(error: Exception) -> None:
    """An error is one line that a terminal can be given, and a person can read."""
    assert str(error).isprintable()
    assert len(str(error)) < 2000
