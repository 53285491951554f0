"""Hostile inputs, tried in processes that are forked from one that has warmed up.

A case is an input of a target, made from the corpus by a seed and a number alone. It fails where
its process raises, dies of a signal, takes more than the target allows of time or memory, or hangs.
The cases after it go on in a fresh process.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import random
import resource
import select
import signal
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

HANG_SECONDS = 30.0
"""On a machine that is busy with other things; what a case may compute is bounded by the target."""
PASSED = b"\0"
SAVED = 5
"""Failing inputs of a run that are kept."""


class Input(NamedTuple):
    """What one case is given: the name of what it stands for, and its bytes."""

    name: str
    data: bytes


class Target(Protocol):
    """What is tried.

    Attributes:
        name: for the command line.
        corpus: folder of the corpus.
        memory_bytes: that a case may take beside what the warm process has.
        cpu_seconds: that a case may take.
    """

    name: str
    corpus: Path
    memory_bytes: int
    cpu_seconds: int

    def warm(self, scratch: Path) -> None:
        """Import and do once all that a case needs; *scratch* is an empty folder."""

    def make(self, rng: random.Random) -> Input:
        """Return a hostile input."""

    def read_saved(self, path: Path) -> Input:
        """Return the input that was saved at *path*."""

    def check(self, case: Input) -> None:
        """Try it, in a process of its own; whatever it raises is a failure."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A case that failed: which, its input, and what happened."""

    case: str
    input: Input
    what: str


def cases(target: Target, *, seed: int, count: int) -> Iterator[tuple[str, Input]]:
    """Yield what was kept of former failures, then *count* new cases, each with its name."""
    for path in sorted((target.corpus / "found" / target.name).glob("*")):
        yield "-".join(path.name.split("-")[:2]), target.read_saved(path)
    for number in range(count):
        yield f"{seed}-{number}", target.make(random.Random(f"{target.name}:{seed}:{number}"))


def run(
    target: Target, inputs: Iterator[tuple[str, Input]], *, per_process: int
) -> tuple[int, list[Failure]]:
    """Try all inputs, *per_process* of them in each; return how many there were, and which failed.

    A fork costs as much as a case. What one leaves behind in its process the next may stumble over,
    though, so 1 is what proves most.
    """
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread would not be forked"
    gc.collect()
    gc.freeze()
    failures: list[Failure] = []
    count = 0
    while waiting := list(itertools.islice(inputs, per_process)):
        count += len(waiting)
        while waiting:
            done, what = _apart(target, [case for _, case in waiting])
            if what:
                name, case = waiting[done]
                failures.append(Failure(case=name, input=case, what=what))
                done += 1
            waiting = waiting[done:]
    return count, failures


def save(failures: list[Failure], folder: Path) -> list[Path]:
    """Write the inputs of the first failures to *folder*, to be tried again."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for failure in failures[:SAVED]:
        path = folder / f"{failure.case}-{failure.input.name.replace('/', '+')}"
        path.write_bytes(failure.input.data)
        paths.append(path)
    return paths


def _apart(target: Target, tried: list[Input]) -> tuple[int, str]:
    """Try inputs in a child, up to the first that fails.

    Returns:
        How many passed, and what went wrong with the next, "" where nothing did.
    """
    said, say = os.pipe()
    child = os.fork()
    if not child:
        os.close(said)
        _child(target, tried, say)
    os.close(say)
    heard = b""
    poll = select.poll()
    poll.register(said, select.POLLIN)
    while hangs := bool(poll.poll(HANG_SECONDS * 1000)):
        piece = os.read(said, 65536)
        if not piece:
            break
        heard += piece
    hangs = not hangs
    if hangs:
        os.kill(child, signal.SIGKILL)
    os.close(said)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = heard.lstrip(PASSED)
    done, words = len(heard) - len(text), text.decode(errors="replace")
    if hangs:
        return done, f"hung for {HANG_SECONDS:g} s"
    if status < 0:
        return done, f"died of {signal.Signals(-status).name}. {words}"
    return done, words if status else ""


def _child(target: Target, tried: list[Input], say: int) -> None:
    code = 1
    gc.disable()
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for case in tried:
            _bound(target)
            target.check(case)
            os.write(say, PASSED)
        code = 0
    except BaseException:  # noqa: BLE001  # whatever it is, the case has failed
        os.write(say, traceback.format_exc().encode(errors="replace")[-4000:])
    finally:
        os._exit(code)


def _bound(target: Target) -> None:
    """Let the next case of this process have what the target allows, and no more."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * resource.getpagesize() + target.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.RLIM_INFINITY))
    seconds = math.ceil(time.process_time()) + target.cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
