"""What a layer's numbers are held against: a threshold each, with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensorview.analysis.examination import Examination

FAR = 0.005
"""A path that went further than this share of the weights is straight because it learns fast."""
LONG = 100
"""Steps below which momentum alone makes a path straight: ten times the memory of 0.9."""
SETTLED = 3
"""Captures in a row without its cause that lower a flag."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Raises one kind of flag.

    Attributes:
        kind: of the flag, in a word or two.
        number: of `Examination.numbers` that is compared.
        threshold: what with.
        above: whether the flag is for numbers at or above it, else for those at or below.
        captures: in a row that must show it.
        source: where the threshold comes from.
        beside: other numbers that the flag carries.
        given: what else must hold of the numbers.
        stays: whether the flag is never lowered.
    """

    kind: str
    number: str
    threshold: float
    above: bool
    captures: int
    source: str
    beside: tuple[str, ...]
    given: Callable[[Mapping[str, float]], bool] = lambda _: True
    stays: bool = False

    def holds(self, examination: Examination) -> bool:
        """Whether one capture shows it; a number that is NaN does not."""
        numbers = examination.numbers
        found = numbers[self.number]
        beyond = found >= self.threshold if self.above else found <= self.threshold
        return beyond and self.given(numbers)

    def is_raised(self, past: Sequence[Examination], *, stands: bool) -> bool:
        """Whether the flag is to stand after the newest of *past*, given whether it *stands*."""
        if stands:
            last = past[-SETTLED:]
            return self.stays or len(last) < SETTLED or any(map(self.holds, last))
        last = past[-self.captures :]
        return len(last) == self.captures and all(map(self.holds, last))

    @property
    def column(self) -> str:
        """Its column in the table of scalars."""
        return f"flag_{self.kind.replace(' ', '_')}"


RULES = (
    Rule(
        kind="not finite",
        number="nonfinite",
        threshold=1.0,
        above=True,
        captures=1,
        source="one NaN or infinity spoils all that is computed from it",
        beside=(
            "nonfinite_weights",
            "nonfinite_gradients",
            "nonfinite_activations",
            "last_clean_step",
        ),
        stays=True,
    ),
    Rule(
        kind="large update",
        number="update_ratio",
        threshold=0.5,
        above=True,
        captures=1,
        source="500 times the rule of thumb of 1e-3 in the CS231n notes, Neural Networks 3",
        beside=("weight_norm", "gradient_norm"),
    ),
    Rule(
        kind="exploding gradient",
        number="sensitivity",
        threshold=1e5,
        above=True,
        captures=1,
        source="after Pascanu et al. 2013; measured, see docs/health.md",
        beside=("gradient_norm", "weight_norm", "update_ratio"),
    ),
    Rule(
        kind="vanishing gradient",
        number="sensitivity_share",
        threshold=1e-4,
        above=False,
        captures=3,
        source="after Glorot & Bengio 2010; measured, see docs/health.md",
        beside=("gradient_norm", "weight_norm", "update_ratio"),
    ),
    Rule(
        kind="stalled",
        number="moved",
        threshold=2.0**-24,
        above=False,
        captures=3,
        source="float32 has 24 bits: less than that of a weight is lost in rounding",
        beside=("update_ratio", "gradient_norm", "curvature"),
    ),
    Rule(
        kind="straight path",
        number="straightness",
        threshold=0.9,
        above=True,
        captures=1,
        source="measured, see docs/health.md",
        beside=("path_moved", "path_steps", "curvature", "update_ratio", "gradient_norm"),
        given=lambda numbers: numbers["path_moved"] <= FAR and numbers["path_steps"] >= LONG,
    ),
    Rule(
        kind="dead layer",
        number="dead_share",
        threshold=0.9,
        above=True,
        captures=3,
        source="measured, see docs/health.md",
        beside=("dead", "gradient_norm"),
    ),
    Rule(
        kind="dead filters",
        number="dead_surely",
        threshold=1.0,
        above=True,
        captures=3,
        source="constant over 256 samples or more, so alive for 1.2 % of inputs at most "
        "(rule of three, Hanley & Lippman-Hand 1983)",
        beside=("dead_share",),
    ),
    Rule(
        kind="saturated",
        number="saturated_share",
        threshold=0.5,
        above=True,
        captures=3,
        source="after Glorot & Bengio 2010; measured, see docs/health.md",
        beside=("gradient_norm",),
    ),
)
"""One a kind of flag, in the order in which flags of one capture are raised."""
