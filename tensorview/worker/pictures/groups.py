"""Legends of groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.snapshot import GROUP_DEAD, GROUP_NONE
from tensorview.worker.pictures.colours import GROUPS, group_colour
from tensorview.worker.pictures.legend import Key

if TYPE_CHECKING:
    from numpy.typing import NDArray


def group_keys(groups: NDArray[Any], *, mark: str = "box", dead: str = "dead") -> list[Key]:
    """Return a line of legend for every colour among *groups*.

    Args:
        groups: group numbers of all layers.
        mark: of a `Key`.
        dead: what to call `GROUP_DEAD`.
    """
    present = {int(group) for group in np.unique(groups)}
    keys = []
    for number in range(len(GROUPS)):
        same = sorted(group for group in present if group >= 0 and group % len(GROUPS) == number)
        if same:
            name = "group" if len(same) == 1 else "groups"
            more = ", ..." if len(same) > 3 else ""
            keys.append(
                Key(group_colour(number), f"{name} {', '.join(map(str, same[:3]))}{more}", mark)
            )
    if GROUP_NONE in present:
        keys.append(Key(group_colour(GROUP_NONE), "in no group", mark))
    if GROUP_DEAD in present:
        keys.append(Key(group_colour(GROUP_DEAD), dead, mark))
    return keys
