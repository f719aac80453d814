"""Serendipity: useful recommendations that the most popular items would not have given."""

from __future__ import annotations

import numpy as np

from .metrics import hit_rate


def serendipity(ranks: np.ndarray, popularity_ranks: np.ndarray, k: int) -> np.ndarray:
    r"""Whether the target is among the first k, but not among the k most popular.

    .. math:: \mathrm{serendipity@}k = [\mathrm{rank} < k] \, [\mathrm{rank}_{\mathrm{pop}} \ge k]

    The useful part of the unexpected items of Ge, Delgado-Battenfeld and Jannach, *Beyond accuracy*, RecSys 2010, with
    popularity as the primitive recommender of Murakami et al., *Metrics for evaluating the serendipity of
    recommendation lists*, 2008. They divide by k; with one target the plain number reads as a share of the hit rate.

    Shape:
        - ranks: (cases,) 0-based ranks of the targets
        - popularity_ranks: (cases,) the same in the ranking by train counts, under the same protocol
        - returns: (cases,) float64, 0 or 1
    """
    return hit_rate(ranks, k) * (1 - hit_rate(popularity_ranks, k))
