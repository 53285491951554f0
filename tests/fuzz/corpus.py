"""The valid part of the corpus: a small run and snapshots, made by our own code.

`python -m tests.fuzz.corpus` makes it anew, where what it holds has changed its form.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from tensorview.encoding import EncodedSnapshot
from tensorview.run import Run
from tensorview.steering.client import Answer
from tensorview.steering.commands import Command, to_line
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tests.snapshots import make_layer, make_snapshot

CORPUS = Path(__file__).parent / "corpus"


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of all files by their path in *folder*."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def layers(rng: np.random.Generator, *, special: bool = False):
    """A convolution and a linear layer."""
    small = {"kind": "Linear", "filters": 2, "kernel": (1, 1), "map_size": (1, 1), "captures": 3}
    return [
        make_layer(rng, name="a.conv", filters=3, map_size=(2, 3), captures=3, special=special),
        make_layer(rng, name="b", **small),
    ]


def make_run(path: Path) -> None:
    """Make a run of two captures, one of cells and one of images, that was steered."""
    rng = np.random.default_rng(5)
    run = Run.create(path, settings={"name": "LeNet", "every": 50, "layers": ["a.conv", "b"]})
    sink = FileSink(path, formats=("vtp", "csv"))
    sink.write(make_frame(make_snapshot(rng, layers=layers(rng), step=50, form="cells")))
    images = make_snapshot(
        rng,
        layers=[make_layer(rng, name='=b "<&> c', filters=3, map_size=(2, 3), captures=3)],
        views=("weights", "maps", "correlation"),
        form="atlas",
    )
    sink.write(make_frame(images))
    sink.close()
    command = Command(id="90ab", run=run.id, command="every", arguments={"steps": 9}, origin="ctl")
    (path / "commands.jsonl").write_bytes(to_line(command) * 2)
    answer = Answer(
        id="90ab",
        command="every",
        arguments={"steps": 9},
        origin="ctl",
        step=1,
        state="applied",
        message="Every 9 steps are captured from now on.",
    )
    listening = {"state": "listening", "id": "", "command": "", "arguments": {}, "origin": ""}
    listening |= {"step": 0, "message": "It listens.", "pid": 1, "host": "node", "allow": ["every"]}
    lines = [listening, vars(answer), listening | {"state": "closed"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "steering.jsonl").write_text(text, encoding="utf-8")


def make_snapshots(folder: Path) -> None:
    """Encode three snapshots."""
    rng = np.random.default_rng(6)
    for name, form, special in (("cells", "cells", False), ("atlas", "atlas", True)):
        snapshot = make_snapshot(rng, layers=layers(rng, special=special), form=form)
        encoded = EncodedSnapshot(snapshot)
        buffer = bytearray(encoded.nbytes)
        encoded.write(memoryview(buffer))
        (folder / f"{name}.bin").write_bytes(buffer)


if __name__ == "__main__":
    for part, make in (("run", make_run), ("snapshots", make_snapshots)):
        shutil.rmtree(CORPUS / part, ignore_errors=True)
        (CORPUS / part).mkdir(parents=True, mode=0o700)
        make(CORPUS / part)
