"""Which views stand together: the tabs of the ParaView window, and the pictures of a run.

One tab a question, rather than one crowded page.
"""

from __future__ import annotations

TABS = {
    "overview": ("weights", "trajectory", "distribution", "maps"),
    "weights": ("weights",),
    "trajectory": ("trajectory",),
    "activations": ("distribution", "maps", "correlation"),
    "health": ("scalars",),
}
"""Views by tab, in reading order."""
