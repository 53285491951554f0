"""Fuzzed snapshots, messages, tables: rows Z3 and Z4 of what tensorview promises under faults."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import string
from pathlib import Path

import numpy as np

from tensorview.encoding import MAX_BYTES, decode
from tensorview.errors import SnapshotError
from tensorview.pulse import Pulse
from tensorview.snapshot import Snapshot
from tensorview.transport import TOKEN, Receiver, Sender
from tensorview.worker.csv_text import csv_bytes, restore
from tensorview.worker.main import Worker
from tensorview.worker.sinks.memory import MemorySink
from tests.fuzz import mutators
from tests.fuzz.corpus import CORPUS, files_of
from tests.fuzz.harness import Input
from tests.fuzz.runs import MB, assert_sentence


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
            message = {"done": 0, "reached": True, "fault": "", "cause": "", "state": "ready"}
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
                texts = [message.get(name, "") for name in ("fault", "cause", "state")]
                assert all(isinstance(text, str) for text in texts), message
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
        assert "MemoryError" not in answer.get("fault", ""), answer


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
