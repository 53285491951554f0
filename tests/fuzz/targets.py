"""What is fuzzed: rows Z1 to Z4 of what tensorview promises under faults."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import random
import string
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.encoding import MAX_BYTES, decode
from tensorview.errors import ConfigurationError, RunError, SnapshotError
from tensorview.manifest import MANIFEST, from_line, read_entries, to_line
from tensorview.pulse import Pulse
from tensorview.pvd import listed_files
from tensorview.run import Run, read_run_id
from tensorview.run_writer import RunWriter
from tensorview.snapshot import Snapshot
from tensorview.steering.client import Answers
from tensorview.steering.commands import check_arguments
from tensorview.steering.commands import from_line as read_command
from tensorview.steering.ctl import _line as ctl_line
from tensorview.steering.lines import Tail
from tensorview.transport import TOKEN, Receiver, Sender
from tensorview.worker import datasets
from tensorview.worker.csv_text import csv_bytes, restore
from tensorview.worker.datasets import arrays, blocks, read_frame
from tensorview.worker.main import Worker
from tensorview.worker.pictures.main import main as export
from tensorview.worker.sinks.memory import MemorySink
from tensorview.worker.sinks.scalars_csv import ScalarsCsv
from tests.fuzz import mutators
from tests.fuzz.corpus import CORPUS, files_of
from tests.fuzz.harness import Input

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Snapshots:
    """Z3: what a worker finds in a slot or its token, and what a training hears from a worker."""

    name = "snapshots"
    memory_bytes = 100 * MB
    cpu_seconds = 2
    corpus = CORPUS

    def warm(self, _scratch: Path) -> None:
        """Make a frame of the good snapshots."""
        self.good = files_of(CORPUS / "snapshots")
        for name, data in self.good.items():
            self.check(Input(name, data))
            assert isinstance(decode(memoryview(data)), Snapshot)

    def read_saved(self, path: Path) -> Input:
        """Return the input that was saved at *path*."""
        return Input(path.name.split("-", 2)[2], path.read_bytes())

    def make(self, rng: random.Random) -> Input:
        """Spoil a snapshot, a token or a message."""
        choice = rng.random()
        if choice < 0.1:
            numbers = [rng.choice((*mutators.NUMBERS, MAX_BYTES, MAX_BYTES + 1)) for _ in range(3)]
            token = TOKEN.pack(*(number % 2**64 for number in numbers))
            return Input("token", token[: rng.choice((24, 24, 24, 23, 1))])
        if choice < 0.2:
            message = {"done": 0, "reached": True, "fault": "", "state": "ready"}
            lines = json.dumps(message).encode() + b"\n"
            return Input("message", mutators.spoil_lines(rng, lines * 3))
        name = rng.choice(sorted(self.good))
        data = self.good[name]
        if choice < 0.6:
            return Input(name, self._with_table(rng, data))
        return Input(name, mutators.spoil(rng, data, others=list(self.good.values())))

    def _with_table(self, rng: random.Random, data: bytes) -> bytes:
        size = int.from_bytes(data[8:16], "little")
        table = json.dumps(mutators.spoil_json(rng, json.loads(data[24 : 24 + size]))).encode()
        values = data[-(-(24 + size) // 64) * 64 :]
        start = -(-(24 + len(table)) // 64) * 64
        header = data[:8] + len(table).to_bytes(8, "little")
        header += (start + len(values)).to_bytes(8, "little") + table
        return header.ljust(start, b"\0") + values

    def check(self, case: Input) -> None:
        """Receive it, and make a frame of what was received."""
        sender = Sender(slots=1, max_bytes=2**27)
        token_fd, ack_fd, slot_fd = sender.worker_fds
        if case.name == "message":
            os.write(ack_fd, case.data[:60_000])
            for message in sender.messages():
                assert isinstance(message, dict)
            return
        sender._file.reserve(0, len(case.data) or 1)[: len(case.data)] = case.data
        token = case.data if case.name == "token" else TOKEN.pack(0, len(case.data), 1)
        os.write(sender._token_write, token)
        receiver = Receiver(token_fd=token_fd, ack_fd=ack_fd, slot_fd=slot_fd)
        try:
            received = receiver.receive(1.0)
        except EOFError:
            assert len(token) < TOKEN.size
            return
        assert received is not None
        snapshot = received[1]
        if isinstance(snapshot, SnapshotError):
            assert_sentence(snapshot)
            return
        worker = Worker(
            receiver=receiver, pulse=Pulse(), parent=os.getppid(), outlives_parent=False
        )
        answer = worker._deliver(snapshot, MemorySink())
        assert "MemoryError" not in answer["fault"], answer


class Tables:
    """Z4: texts in tables, from layers' names to what a spreadsheet makes of them."""

    name = "tables"
    memory_bytes = 100 * MB
    cpu_seconds = 2
    corpus = CORPUS
    pieces = (
        *("=", "+", "-", "@", "\t", "\r", "\n", "\r\n", "'", '"', '""', ",", ";", "|", " "),
        *("=1+1", "=cmd|' /C calc'!A0", "@SUM(1)", "-1", "1e5", "NA", "nan", "None", "\ufeff"),
        *("\uff1d", "\uff0b", "\u2028", "\x0b", "\x1f", "\x7f", "\x85", "\u202e", "\U0001f600"),
        *string.ascii_letters,
    )

    def warm(self, _scratch: Path) -> None:
        """Make a table once."""
        self.check(Input("table", json.dumps(["a", "=b"]).encode()))

    def read_saved(self, path: Path) -> Input:
        """Return the input that was saved at *path*."""
        return Input("table", path.read_bytes())

    def make(self, rng: random.Random) -> Input:
        """Join texts out of what is special in tables."""
        sizes = rng.choices((0, 1, 1, 2, 3, 8), k=6)
        texts = ["".join(rng.choices(self.pieces, k=size)) for size in sizes]
        return Input("table", json.dumps(texts).encode())

    def check(self, case: Input) -> None:
        """Write and read back; nothing may be a formula."""
        texts = json.loads(case.data)
        names = list(dict.fromkeys(texts))
        table = {"layer": np.array(texts, object)}
        numbers = {name: np.arange(len(texts), dtype=np.float64) for name in names}
        data = csv_bytes([{"first": table["layer"], **numbers}])
        rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
        assert [restore(name) for name in rows[0][1:]] == [n for n in names if n != "first"]
        assert [restore(row[0]) for row in rows[1:]] == texts
        for cell in (*rows[0], *(row[0] for row in rows[1:])):
            assert not cell.lstrip(" \ufeff").startswith(FORMULA), repr(cell)


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
TARGETS: Sequence[type[Datasets | RunFiles | Snapshots | Tables]] = (
    Datasets,
    RunFiles,
    Snapshots,
    Tables,
)
