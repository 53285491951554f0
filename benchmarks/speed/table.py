"""The table and the chart of all rows."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.rows import Row

MET, MISSED = "#3b6ea5", "#c44e52"


def number(value: float) -> str:
    """Three digits that count, without an exponent where a person would write none."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def markdown(rows: Sequence[Row], *, machine: str) -> str:
    """Lay the rows out as a Markdown table, and say what they were measured on."""
    lines = [
        f"Measured on: {machine}.",
        "",
        "| # | work | target | measured | made of | physical limit |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        verdict = number(row.value) if row.met else f"**{number(row.value)}** (missed)"
        made_of = "; ".join(f"{name} {number(value)}" for name, value in row.figures.items())
        lines.append(
            f"| {row.number} | {row.work} | {sign} {number(row.target)} {row.unit} "
            f"| {verdict} | {made_of} | {row.floor} |"
        )
    return "\n".join(lines) + "\n"


def chart(rows: Sequence[Row], *, path: Path, machine: str) -> None:
    """Draw how much of its target each row uses up, on a logarithmic axis."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # the measuring needs none of it

    figure = Figure(figsize=(13, 1.5 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    shares = [min(max(row.share, 1e-4), 1e4) for row in rows]
    axes.barh(places, shares, color=[MET if row.met else MISSED for row in rows], height=0.7)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(places, [f"{row.number}  {_short(row.work)}" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share of the target used up (1 is the target; shorter is better)")
    axes.margins(x=0.05, y=0.01)
    beside = axes.get_yaxis_transform()  # x from 0 to 1 across the axes
    for place, row in enumerate(rows):
        sign = "≥" if row.at_least else "≤"
        text = f"{number(row.value)} {row.unit}  (target {sign} {number(row.target)})"
        axes.text(1.01, place, text, transform=beside, va="center", fontsize=7)
    axes.set_title(f"Speed of tensorview\n{machine}", fontsize=9)
    figure.savefig(path, dpi=120)


def _short(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
