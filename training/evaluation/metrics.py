r"""Ranking metrics with one relevant item per case.

The evaluator turns scores into ranks and hands them here; each function returns one value per case, whose mean is the
metric. Ranks are 0-based: rank 0 is the top of the full-catalog ranking.
"""

from __future__ import annotations

import numpy as np


def hit_rate(ranks: np.ndarray, k: int) -> np.ndarray:
    r"""Whether the target is among the first k.

    .. math:: \mathrm{HR@}k = [\mathrm{rank} < k]

    With one target per case this equals recall@k (Deshpande and Karypis, *Item-based top-N recommendation algorithms*,
    ACM TOIS 2004).

    Shape:
        - ranks: (cases,) integers
        - returns: (cases,) float64, 0 or 1
    """
    return (np.asarray(ranks) < k).astype(np.float64)


def recall(ranks: np.ndarray, k: int) -> np.ndarray:
    r"""Share of the relevant items among the first k.

    .. math:: \mathrm{recall@}k = \frac{\lvert L_k \cap R \rvert}{\lvert R \rvert}, \quad \lvert R \rvert = 1

    (Manning, Raghavan and Schütze, *Introduction to information retrieval*, 2008, chapter 8.) The one target is all
    that is relevant, so this is the hit rate under its other name.

    Shape:
        - ranks: (cases,) integers
        - returns: (cases,) float64, 0 or 1
    """
    return hit_rate(ranks, k)


def precision(ranks: np.ndarray, k: int) -> np.ndarray:
    r"""Share of the first k that is relevant.

    .. math:: \mathrm{precision@}k = \frac{\lvert L_k \cap R \rvert}{k} = \frac{[\mathrm{rank} < k]}{k}

    (Manning et al., 2008, chapter 8.) At most 1 / k with one target; k counts even where a list is shorter, as in
    trec_eval.

    Shape:
        - ranks: (cases,) integers
        - returns: (cases,) float64 in [0, 1 / k]
    """
    return hit_rate(ranks, k) / k


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    r"""Normalised discounted cumulative gain.

    .. math:: \mathrm{NDCG@}k = \frac{[\mathrm{rank} < k]}{\log_2(\mathrm{rank} + 2)}

    the measure of Järvelin and Kekäläinen (ACM TOIS 2002) with gain 1 for the target and 0 elsewhere; the ideal DCG is
    then 1.

    Shape:
        - ranks: (cases,) integers
        - returns: (cases,) float64 in [0, 1]
    """
    ranks = np.asarray(ranks)
    return np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0)


def mrr(ranks: np.ndarray, k: int) -> np.ndarray:
    r"""Reciprocal rank, 0 beyond the first k.

    .. math:: \mathrm{MRR@}k = \frac{[\mathrm{rank} < k]}{\mathrm{rank} + 1}

    following Voorhees, *The TREC-8 question answering track report*, 1999.

    Shape:
        - ranks: (cases,) integers
        - returns: (cases,) float64 in [0, 1]
    """
    ranks = np.asarray(ranks)
    return np.where(ranks < k, 1 / (ranks + 1.0), 0.0)


def average_precision(ranks: np.ndarray, k: int) -> np.ndarray:
    r"""Precision at the places of the relevant items among the first k, over their number; its mean is MAP@k.

    .. math:: \mathrm{AP@}k = \frac{1}{\lvert R \rvert} \sum_{j \le k} [L_j \in R] \, \mathrm{precision@}j
        = \frac{[\mathrm{rank} < k]}{\mathrm{rank} + 1}

    (Manning et al., 2008, chapter 8.) With one target this is the reciprocal rank.

    Shape:
        - ranks: (cases,) integers
        - returns: (cases,) float64 in [0, 1]
    """
    return mrr(ranks, k)


def coverage(recommended: np.ndarray, num_items: int) -> float:
    r"""Share of the catalog that is recommended to someone.

    .. math:: \mathrm{coverage@}k = \frac{\lvert \bigcup_u L_k(u) \rvert}{\lvert I \rvert}

    the catalog coverage of Ge, Delgado-Battenfeld and Jannach, *Beyond accuracy*, RecSys 2010.

    Shape:
        - recommended: (cases, k) item indices, negative where a list is shorter than k
        - returns: a number in [0, 1]
    """
    recommended = np.asarray(recommended)
    return len(np.unique(recommended[recommended >= 0])) / num_items


RANK_METRICS = {
    "hr": hit_rate,
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
}
"""Metrics of ranks by the names they have in results and rows."""
