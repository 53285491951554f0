"""Hypothesis strategies for the views' tests: every layer kind, shape and form, small."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.snapshots import make_layer, make_snapshot

KINDS = {
    "Conv2d": {"kernel": (3, 2), "map_size": (4, 3)},
    "Conv1d": {"kernel": (1, 5), "map_size": (1, 9)},
    "Conv3d": {"kernel": (4, 2), "map_size": (6, 2)},
    "ConvTranspose2d": {"kernel": (2, 2), "map_size": (5, 5)},
    "Linear": {"kernel": (1, 1), "map_size": (1, 1)},
}


@st.composite
def layers(draw, *, name="layer"):
    """One layer of any kind, with special values or without, perhaps grouped, pruned, or empty."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    conv_groups = draw(st.sampled_from([1, 2, 3])) if kind != "Linear" else 1
    return make_layer(
        np.random.default_rng(draw(st.integers(0, 2**16))),
        name=name,
        kind=kind,
        filters=conv_groups * draw(st.integers(0, 4)),
        in_channels=draw(st.integers(1, 5)),
        conv_groups=conv_groups,
        captures=4,
        subspaces=draw(st.integers(0, 3)),
        samples=draw(st.integers(0, 2)),
        dtype=draw(st.sampled_from([np.float32, np.float64])),
        special=draw(st.booleans()),
        removed=draw(st.integers(0, 2)),
        **KINDS[kind],
    )


@st.composite
def snapshots(draw, *, forms=("auto", "cells", "atlas")):
    """A snapshot of up to four layers."""
    count = draw(st.integers(0, 4))
    return make_snapshot(
        np.random.default_rng(0),
        layers=[draw(layers(name=f"layer{index}")) for index in range(count)],
        form=draw(st.sampled_from(forms)),
    )
