"""What is fuzzed: rows Z1 to Z4 of what tensorview promises under faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.handed_over import Snapshots, Tables
from tests.fuzz.runs import Datasets, RunFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGETS: Sequence[type[Datasets | RunFiles | Snapshots | Tables]] = (
    Datasets,
    RunFiles,
    Snapshots,
    Tables,
)
