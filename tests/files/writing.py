"""Commit captures of self-proving files, with lists at each capture.

Usage: python -m tests.files.writing RUN COUNT FILES
"""

import hashlib
import sys

from tensorview import run_writer
from tensorview.run import Run
from tensorview.run_writer import NewFile, RunWriter

VIEWS = ("weights", "maps", "scalars")


def content(view, step):
    """Bytes that prove themselves: a body of some size behind its own hash."""
    body = f"{view} {step} ".encode() * (20 + 7 * (step % 90))
    return hashlib.sha256(body).digest() + body


def is_whole(data):
    return hashlib.sha256(data[32:]).digest() == data[:32]


def files(step):
    parts = [("maps_atlas", "conv.1", ".vti"), *((view, None, ".vtp") for view in VIEWS)]
    return [
        NewFile(view=view, layer=layer, suffix=suffix, data=content(view, step))
        for view, layer, suffix in parts
    ]


def main(path, count, files_per_capture):
    run_writer.SETTLE_SECONDS = 0.0
    writer = RunWriter(path)
    first = max(Run.open(path).steps(), default=-1) + 1
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for step in range(first, first + count):
        writer.commit(files(step)[:files_per_capture], step=step, capture=step)
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
