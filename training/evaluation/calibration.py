"""Calibration: do recommendations keep the proportions of a user's interests?"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ..data.prepared import Interactions


def miscalibration(
    lists: np.ndarray, histories: Interactions, categories: sparse.csr_array, alpha: float = 0.01
) -> np.ndarray:
    r"""Divergence of the categories of a list from those of the history; 0 is perfectly calibrated.

    .. math:: \mathrm{KL}(p \| \tilde q) = \sum_c p(c|u) \log \frac{p(c|u)}{\tilde q(c|u)}, \quad
        \tilde q = (1 - \alpha)\, q + \alpha\, p

    of Steck, *Calibrated recommendations*, RecSys 2018. :math:`p(c|u)` is the mean of :math:`p(c|i)` over the events
    of the history, :math:`q(c|u)` over the items of the list; an item spreads its weight evenly over its categories,
    and items without a category are left out.

    Args:
        alpha: share of p mixed into q, in (0, 1), which keeps the divergence finite.

    Shape:
        - lists: (cases, k) item indices, negative: no item
        - histories: of the same cases
        - categories: (items, categories), 0 or 1
        - returns: (cases,) float64 nats in [0, -log alpha]; NaN where the history or the list has no category
    """
    cases, k = lists.shape
    rows = np.repeat(np.arange(histories.num_users), histories.lengths)
    profile = _distribution(rows, histories.items, cases, categories)
    present = lists.ravel() >= 0
    listed = _distribution(np.repeat(np.arange(cases), k)[present], lists.ravel()[present], cases, categories)

    wanted = sparse.coo_array(profile)
    users, columns = wanted.coords
    p = wanted.data
    q = np.asarray(listed[users, columns]).ravel() if len(p) else p
    divergence = np.bincount(users, p * np.log(p / ((1 - alpha) * q + alpha * p)), minlength=cases)
    defined = (np.diff(profile.indptr) > 0) & (np.diff(listed.indptr) > 0)
    return np.where(defined, np.maximum(divergence, 0), np.nan)


def _distribution(rows: np.ndarray, items: np.ndarray, cases: int, categories: sparse.csr_array) -> sparse.csr_array:
    """(cases, categories) sparse rows that sum to 1, or are empty: mean category distribution of the items."""
    sizes = np.diff(categories.indptr)
    known = sizes[items] > 0
    rows, items = rows[known], items[known]
    weights = 1 / np.maximum(np.bincount(rows, minlength=cases), 1)[rows] / sizes[items]
    return sparse.csr_array((weights, (rows, items)), shape=(cases, categories.shape[0])) @ categories.astype(float)
