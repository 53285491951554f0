"""Which captures of a long run stay on disk, where not all do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class CommittedCapture(NamedTuple):
    """One capture on disk: its number in the run, its step, the paths of its files in the run."""

    number: int
    step: int
    files: tuple[str, ...]


def superfluous(captures: Sequence[int], *, keep: int) -> list[int]:
    """Choose the captures that go: few of the old ones stay, nearly all of the new ones.

    The newest *keep* stay. Of the 2 *keep* before them one of each two numbers stays, of the 4
    *keep* before those one of each four, and so on: always the first that there is of the numbers
    that share a quotient by that power of two. So the first capture of a run stays for ever, and of
    ``n`` captures about ``keep * log2(n / keep + 1)`` stay.

    Args:
        captures: ascending numbers of those that are there; numbers may be missing.
        keep: 1 or more.

    Returns:
        Some of *captures*, ascending. Never one that a longer run would keep: what is the first of
        its numbers at one power of two is so at all smaller ones.
    """
    going: list[int] = []
    before = -1
    for capture in captures:
        age = captures[-1] - capture
        # Numbers share a quotient at ages from keep (2^j - 1) to keep (2^(j+1) - 1).
        level = (age // keep + 1).bit_length() - 1
        if before >> level == capture >> level:
            going.append(capture)
        before = capture
    return going


class Thinner:
    """Knows which captures of a run are there, and which of them go.

    Looks once every *keep* / 8 captures, so that its share of a capture does not grow with the run.

    Args:
        captures: of the run as it is.
        keep: see `superfluous`.
    """

    def __init__(self, captures: Iterable[CommittedCapture], *, keep: int) -> None:
        self._keep = keep
        self._there: dict[int, CommittedCapture] = {}
        self._waiting = 0
        for capture in captures:
            self.add(capture)

    def add(self, capture: CommittedCapture) -> None:
        """Take note of a capture that was committed; it takes the place of others of its step."""
        self._there[capture.step] = capture
        self._waiting += 1

    def going(self, *, at_end: bool) -> list[CommittedCapture]:
        """Say which captures are to be removed now.

        Args:
            at_end: of the run, so there will be no later occasion.
        """
        if self._waiting * 8 < self._keep and not at_end:
            return []
        self._waiting = 0
        there = {capture.number: capture for capture in self._there.values()}
        return [there[number] for number in superfluous(sorted(there), keep=self._keep)]

    def forget(self, capture: CommittedCapture) -> None:
        """It is gone."""
        del self._there[capture.step]
