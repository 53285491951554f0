"""Which filters would go, and how, before anything is changed."""

from __future__ import annotations


class Plan:
    """What pruning would do; made by `Watcher.redundant`."""
