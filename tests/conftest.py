"""What every test is held to: nothing of tensorview is left behind."""

import os
import sys
from itertools import chain, zip_longest
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

# Trainings, workers and viewers of several tests share the cores: threads that wait for each other
# would take them all.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LP_NUM_THREADS", "1")  # of Mesa, which draws where there is no GPU

hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

TESTS = Path(__file__).parent
FIRST = ["gui", "examples"]
"""These take longest."""
COMPUTING = ["benchmarks", "client", "pruning", "watch", "pictures"]
"""These take long, and need a core; what is in no list comes after them."""
WAITING = ["faults", "live", "steering", "transport"]
"""These mostly wait: for workers, viewers and moments."""
DEFAULT_PORT = {"tests/gui/test_demo.py", "tests/examples/test_examples.py"}
"""These listen on ParaView's own port: one after another."""


def pytest_collection_modifyitems(items):
    """Begin with what takes long; a file that waits and one that computes take turns."""
    files = list(dict.fromkeys(item.path for item in items))

    def files_of(folders):
        return [file for folder in folders for file in files if file.is_relative_to(TESTS / folder)]

    first, waiting = files_of(FIRST), files_of(WAITING)
    computing = files_of(COMPUTING)
    computing += [file for file in files if file not in {*first, *waiting, *computing}]
    turns = chain.from_iterable(zip_longest(computing, waiting))
    order = {file: number for number, file in enumerate([*first, *filter(None, turns)])}
    items.sort(key=lambda item: order[item.path])


class ByFile(LoadScopeScheduling):
    """Side by side: whole files; those of `tests/gui`, whose windows take a core, in turn."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        if file in DEFAULT_PORT:
            return "default port"
        return "gui" if file.startswith("tests/gui/") else file


def pytest_xdist_make_scheduler(config, log):
    """Give pytest-xdist, where it is used, our own order."""
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    """Fail a test that leaves a watcher or a worker process behind."""
    yield
    left = []
    if "tensorview.open_watchers" in sys.modules:
        watchers = sys.modules["tensorview.open_watchers"].open_watchers
        left += [f"watcher of {watcher.settings.name}" for watcher in watchers.values()]
        for watcher in list(watchers.values()):
            watcher.close()
    if "tensorview.supervisor" in sys.modules:
        handles = sys.modules["tensorview.supervisor"]._open_handles
        left += [f"{handle.name} worker {handle.pid}" for handle in handles]
        for handle in list(handles):
            handle.close()
    assert left == []
