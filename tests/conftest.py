"""What every test is held to: nothing of tensorview is left behind."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    """Fail a test that leaves a watcher or a worker process behind."""
    yield
    left = []
    if "tensorview.watcher" in sys.modules:
        watchers = sys.modules["tensorview.watcher"]._watchers
        left += [f"watcher of {watcher.settings.name}" for watcher in watchers.values()]
        for watcher in list(watchers.values()):
            watcher.close()
    if "tensorview.supervisor" in sys.modules:
        handles = sys.modules["tensorview.supervisor"]._open_handles
        left += [f"{handle.name} worker {handle.pid}" for handle in handles]
        for handle in list(handles):
            handle.close()
    assert left == []
