"""How far recommendations lean to what is popular anyway, and how unevenly they spread over the catalog."""

from __future__ import annotations

import numpy as np


def self_information(item_counts: np.ndarray) -> np.ndarray:
    r"""Surprise of meeting each item, in bits.

    .. math:: I_i = -\log_2 \frac{n_i + 1}{\sum_j (n_j + 1)}

    the self-information of Zhou et al., *Solving the apparent diversity-accuracy dilemma of recommender systems*,
    PNAS 2010, of an item's share of train events; adding 1 to every count keeps items without events finite.

    Shape:
        - item_counts: (items,) train events of every item
        - returns: (items,) float64
    """
    counts = np.asarray(item_counts, dtype=np.float64) + 1
    return np.log2(counts.sum()) - np.log2(counts)


def novelty(lists: np.ndarray, item_counts: np.ndarray) -> np.ndarray:
    """Mean self-information of each list's items (Zhou et al., PNAS 2010).

    Shape:
        - lists: (cases, k) item indices, negative: no item
        - returns: (cases,) float64 bits, NaN for an empty list
    """
    return mean_of_items(lists, self_information(item_counts))


def average_popularity(lists: np.ndarray, item_counts: np.ndarray) -> np.ndarray:
    """Mean train count of each list's items.

    Averaged over cases, the average recommendation popularity (ARP) of Yin et al., *Challenging the long tail
    recommendation*, PVLDB 2012.

    Shape:
        - lists: (cases, k) item indices, negative: no item
        - returns: (cases,) float64, NaN for an empty list
    """
    return mean_of_items(lists, np.asarray(item_counts, dtype=np.float64))


def popularity_lift(recommended: float, histories: float) -> float:
    r"""How much more popular the recommended items are than those of the histories.

    .. math:: \mathrm{PL} = \frac{\mathrm{GAP}_r - \mathrm{GAP}_p}{\mathrm{GAP}_p}

    of Abdollahpouri et al., *The connection between popularity bias, calibration, and fairness in recommendation*,
    RecSys 2020. 0: as popular as what people chose themselves.

    Args:
        recommended: GAP_r, the mean over users of :func:`average_popularity` of the list.
        histories: GAP_p, the same of the history's items, above 0.
    """
    return (recommended - histories) / histories


def gini(exposure: np.ndarray) -> float:
    r"""Inequality of how often items are recommended: 0 if all alike, near 1 if few get everything.

    .. math:: G = \frac{\sum_{j=1}^{n} (2 j - n - 1)\, x_{(j)}}{n \sum_j x_j}, \quad x_{(1)} \le \dots \le x_{(n)}

    over the whole catalog, as in Fleder and Hosanagar, *Blockbuster culture's next rise or fall*, Management Science
    2009. Its largest value is (n - 1) / n.

    Shape:
        - exposure: (items,) times each item was recommended, not all 0
    """
    ordered = np.sort(np.asarray(exposure, dtype=np.float64))
    count = len(ordered)
    return float((2 * np.arange(1, count + 1) - count - 1) @ ordered / (count * ordered.sum()))


def mean_of_items(lists: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of a value of items over each list.

    Shape:
        - lists: (cases, k) item indices, negative: no item
        - values: (items,) float
        - returns: (cases,) float64, NaN for an empty list
    """
    present = lists >= 0
    count = present.sum(axis=1)
    total = np.where(present, values[np.maximum(lists, 0)], 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(lists), np.nan), where=count > 0)
