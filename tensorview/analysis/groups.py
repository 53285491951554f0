"""Groups of filters whose feature maps correlate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as agglomerate
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

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
    if linkage == "complete":
        labels = _complete(pcc, above)
    else:
        labels = connected_components(csr_array(above), directed=False)[1]
    _, first, inverse, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    for label in np.argsort(first):
        if sizes[label] > 1:
            groups[similar[inverse == label]] = groups.max() + 1
    return groups


def _complete(pcc: NDArray[Any], above: NDArray[np.bool_]) -> NDArray[np.int64]:
    # 1 - r is 2 at most; 4 keeps a rounded tie from passing for a pair above the threshold.
    distance = np.where(above, 1.0 - pcc.astype(np.float64), 4.0)
    pairs = distance[np.triu_indices(len(pcc), 1)]
    labels: NDArray[np.int64] = fcluster(
        agglomerate(pairs, method="complete"), t=3.0, criterion="distance"
    )
    return labels
