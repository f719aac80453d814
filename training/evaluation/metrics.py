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
