"""Groups of filters whose feature maps correlate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorview.errors import ConfigurationError
from tensorview.snapshot import GROUP_DEAD, GROUP_NONE

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINKAGES = ("complete", "transitive")


def group(
    pcc: NDArray[Any],
    dead: NDArray[np.bool_],
    *,
    threshold: float = 0.9,
    linkage: str = "complete",
) -> NDArray[np.int32]:
    """Put filters whose maps correlate at or above *threshold* into groups.

    Args:
        pcc: shape ``(C, C)``, symmetric, NaN for what has no correlation. *threshold* is compared
            in its dtype.
        dead: shape ``(C,)``, bool.
        threshold: from -1 to 1.
        linkage: ``"complete"``: every pair of a group is at or above the threshold;
            ``"transitive"``: connected components, so that a chain of similar filters is one group
            whose ends may have nothing in common.

    Returns:
        Shape ``(C,)``, int32: groups numbered from 0 by their smallest member, `GROUP_NONE` for a
        filter alone, `GROUP_DEAD` for a dead one. NaN is never grouped.

    Raises:
        ConfigurationError: *threshold* or *linkage* cannot be used.
    """
    if not -1.0 <= threshold <= 1.0:
        raise ConfigurationError(
            f"threshold={threshold!r} cannot be used: expected a Pearson r from -1 to 1."
        )
    if linkage not in LINKAGES:
        raise ConfigurationError(
            f"linkage={linkage!r} cannot be used: expected 'complete' or 'transitive'."
        )
    above = pcc >= np.asarray(threshold, pcc.dtype)  # never where NaN is
    above[dead] = above[:, dead] = False
    np.fill_diagonal(above, val=False)
    groups = np.full(len(pcc), GROUP_NONE, np.int32)
    groups[dead] = GROUP_DEAD
    similar = np.flatnonzero(above.any(axis=1))  # few, mostly
    if not len(similar):
        return groups
    inside = np.ix_(similar, similar)
    pcc, above = pcc[inside], above[inside]
    labels = _complete(pcc, above) if linkage == "complete" else _components(above)
    _, first, inverse, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    for label in np.argsort(first):
        if sizes[label] > 1:
            groups[similar[inverse == label]] = groups.max() + 1
    return groups


# scipy has both, for 8 MiB and half a second in every training that is watched.
def _complete(pcc: NDArray[Any], above: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Join the two groups that are closest, by their farthest pair, while all of it is *above*.

    By chains of nearest neighbours, which join the same in another order.

    Source: Müllner, "Modern hierarchical, agglomerative clustering algorithms", 2011, figure 3.
    """
    distance = np.where(above, 1.0 - pcc.astype(np.float64), np.inf)
    labels = np.arange(len(pcc))
    for start in labels.copy():
        chain = [int(start)]
        while chain:
            last = chain[-1]
            nearest = int(distance[last].argmin())
            if distance[last, nearest] == np.inf:
                chain.pop()
            elif len(chain) < 2 or distance[last, nearest] < distance[last, chain[-2]]:
                chain.append(nearest)
            else:  # each is the other's nearest
                gone, left = sorted(chain[-2:])
                del chain[-2:]
                joined = np.maximum(distance[gone], distance[left])
                distance[left], distance[:, left] = joined, joined
                distance[gone], distance[:, gone] = np.inf, np.inf
                labels[labels == gone] = left
    return labels


def _components(above: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the parts that are connected."""
    labels = np.full(len(above), -1)
    for start in range(len(above)):
        reached = np.array([start] if labels[start] < 0 else [], np.int64)
        while len(reached):
            labels[reached] = start
            reached = np.flatnonzero(above[reached].any(axis=0) & (labels < 0))
    return labels
