"""What a `Watcher` says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tensorview.analysis.health import Flag


@dataclass(frozen=True, kw_only=True)
class SinkStatus:
    """How one sink does.

    Attributes:
        state: live ``"waiting"``, ``"connected"``, ``"stalled"`` (the viewer takes nothing: it is
            paused, or hangs), ``"unreachable"`` (whoever holds the port does not answer, and is
            called again for ever); files ``"starting"``, ``"ready"``, ``"stalled"``; both
            ``"failed"``, ``"closed"``.
        delivered: captures that got to somebody.
        dropped: captures that did not.
        fault: the last one, "" for none.
    """

    state: str
    delivered: int
    dropped: int
    fault: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a `Watcher` did so far.

    Attributes:
        step: optimizer steps counted.
        state: ``"running"``, ``"paused"`` by a command, or ``"closed"``.
        every: steps between captures, as it is now.
        asked_every: steps between captures that were asked for; *every* is a power of two times as
            many, to keep *budget*.
        budget: share of the wall time that we may take, None for no limit.
        focus: name of the layer that is shown alone, "" for all.
        should_stop: whether a command asked for the end of the training.
        captures: snapshots taken.
        dropped: captures that a sink did not get, summed over sinks.
        reduced: one sentence a layer that is not shown in full.
        flags: of the training's health that stand now, oldest first.
        sinks: by name: ``"files"``, ``"live"``.
        faults: faults of ours since the start, and the last one's text.
        last_fault: empty if there was none.
        cost: our share of the wall time since the first step, 0 to 1.
        run_dir: where files go, None for nowhere.
        pruned: by layer that lost filters: how many it has, and had.
    """

    step: int
    state: str
    every: int
    asked_every: int
    budget: float | None
    focus: str
    should_stop: bool
    captures: int
    dropped: int
    reduced: tuple[str, ...]
    flags: tuple[Flag, ...]
    sinks: dict[str, SinkStatus]
    faults: int
    last_fault: str
    cost: float
    run_dir: Path | None
    pruned: dict[str, tuple[int, int]]

    def __str__(self) -> str:
        """Lay it out for a person, a line each."""
        steering = f"{self.state}, every {self.every} steps"
        if self.every > self.asked_every:
            steering += f" instead of {self.asked_every} to keep budget={self.budget:g}"
        if self.focus:
            steering += f", focus on {self.focus}"
        if self.should_stop:
            steering += ", asked to stop"
        lines = [
            (
                f"step {self.step}, {self.captures} captures, {self.dropped} dropped, "
                f"{self.cost:.1%} of the wall time"
            ),
            steering,
            f"files: {self.run_dir or 'none'}",
        ]
        for name, sink in self.sinks.items():
            fault = f" ({sink.fault})" if sink.fault else ""
            lines.append(
                f"{name}: {sink.state}, {sink.delivered} delivered, {sink.dropped} dropped{fault}"
            )
        lines += [
            f"pruned: {layer} has {now} of {first} filters"
            for layer, (now, first) in self.pruned.items()
        ]
        lines += [f"reduced: {sentence}" for sentence in self.reduced]
        lines += [f"flag: {flag}" for flag in self.flags]
        if self.faults:
            lines.append(f"{self.faults} faults, the last: {self.last_fault}")
        return "\n".join(lines)
