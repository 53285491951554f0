"""A row of the table: one figure, its target, and what it was made of."""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured figure.

    Attributes:
        number: in the table; rows of one number belong together.
        work: what was done, and against what.
        value: what is compared with the target.
        unit: of both; "x" for a ratio.
        target: limit of the value.
        at_least: whether more is better; else less is.
        figures: what the value was made of, by name with its unit: ``"ours [ms]"``.
        floor: the physical limit beside it, measured in the same run, in words; "" for none.
    """

    number: str
    work: str
    value: float
    unit: str
    target: float
    at_least: bool = False
    figures: dict[str, float] = field(default_factory=dict)
    floor: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is reached; a value that is not a number never reaches it."""
        return self.value >= self.target if self.at_least else self.value <= self.target

    @property
    def share(self) -> float:
        """How much of the target is used up: 1 at the limit, less is better."""
        if not self.at_least:
            return self.value / self.target
        return self.target / self.value if self.value else math.inf


def alternate(
    *contestants: Callable[[], float | None], rounds: int, warm_up: int = 1
) -> list[list[float]]:
    """Run *contestants* in turn, each first as often as any other.

    Args:
        contestants: each returns its own seconds, or None to be timed as a whole.
        rounds: how often each counts.
        warm_up: rounds before those, which do not count.

    Returns:
        Seconds by contestant, one a round.
    """
    seconds: list[list[float]] = [[] for _ in contestants]
    for number in range(-warm_up, rounds):
        turn = number % len(contestants)
        order = [*range(turn, len(contestants)), *range(turn)]
        for index in order:
            started = time.perf_counter()
            own = contestants[index]()
            elapsed = time.perf_counter() - started if own is None else own
            if number >= 0:
                seconds[index].append(elapsed)
    return seconds


def ratio(above: list[float], below: list[float]) -> float:
    """Median over rounds of one by the other, so that what slows a whole round cancels out."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def milliseconds(seconds: Iterable[float]) -> float:
    """Median of *seconds*, in milliseconds."""
    return 1e3 * statistics.median(seconds)


def main(measure: Callable[..., Iterable[Row]]) -> None:
    """Run one theme as a command: a line of JSON a row, as soon as it is there."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("--quick", action="store_true", help="small: shows that it runs")
    for row in measure(quick=parser.parse_args().quick):
        print(json.dumps(asdict(row)), flush=True)


def from_lines(lines: Iterable[str]) -> Iterator[Row]:
    """Read what `main` printed; other lines are let go by."""
    for line in lines:
        if line.startswith('{"number"'):
            yield Row(**json.loads(line))
