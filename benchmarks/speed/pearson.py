"""Correlate the maps of a large layer, in turn with numpy on the same array and as many threads."""

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.speed.rows import Row, alternate, main, milliseconds, ratio
from tensorview.analysis.correlation import pearson


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure row 10: 64 maps over 16 samples of 224 x 224 positions."""
    side = 16 if quick else 224
    maps = torch.relu(torch.randn(16, 64, side, side, generator=torch.Generator().manual_seed(0)))
    maps += 0.3 * maps.mean(1, keepdim=True)  # so that filters have something in common
    # numpy gets its rows ready to use: channels first, in one piece.
    rows = maps.transpose(0, 1).reshape(64, -1).numpy().copy()
    found = {}

    def ours():
        found["ours"] = pearson(maps)

    def theirs():
        found["numpy"] = np.corrcoef(rows)

    def one_pass():
        found["sum"] = float(maps.sum())

    seconds, numpy_seconds, pass_seconds = alternate(
        ours, theirs, one_pass, rounds=2 if quick else 9
    )
    difference = float(np.abs(found["ours"] - found["numpy"]).max())
    yield Row(
        number="10",
        work=f"Pearson of 64 maps over 16 x {side} x {side} positions: numpy.corrcoef / ours",
        value=ratio(numpy_seconds, seconds),
        unit="x",
        target=5.0,
        at_least=True,
        figures={
            "ours [ms]": milliseconds(seconds),
            "numpy [ms]": milliseconds(numpy_seconds),
        },
        floor=f"one pass over the maps: {milliseconds(pass_seconds):.1f} ms",
    )
    yield Row(
        number="10, digits",
        work="the same: largest difference of any r",
        value=difference,
        unit="",
        target=1e-5,
    )


if __name__ == "__main__":
    main(measure)
