"""EASE: the best linear item-to-item model that may not copy, in closed form."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from ..data.prepared import Interactions
from .baseline import Baseline, history_matrix


class EASE(Baseline):
    r"""Scores items by a ridge regression of every item on all others.

    With the binary train matrix X (users by items),

    .. math:: s_{ui} = \sum_{j \in h_u} w_{uj} B_{ji}, \quad P = (X^\top X + \lambda I)^{-1}, \quad
        B_{ji} = -\frac{P_{ji}}{P_{ii}} \; (j \ne i), \quad B_{ii} = 0

    EASE^R of Steck, *Embarrassingly shallow autoencoders for sparse data*, WWW 2019. :math:`w_{uj}` is 1, or with
    `recency` :math:`\rho` it is :math:`\rho^a` for an item that was last seen a events before the end of the history;
    the regression itself knows no order.

    Fitting takes time in the cube of the catalog and two dense float32 matrices of items by items; B stays in memory.

    Args:
        l2: weight :math:`\lambda` of the ridge, in users, above 0.
        recency: decay of an event's weight per newer event, in (0, 1]; `None` weighs the whole history alike.
        max_gigabytes: refuse catalogs whose two dense matrices would take more (10^9 bytes); the default holds
            22,360 items.

    Raises:
        ValueError: if an argument is outside its range.
        MemoryError: from `fit`, if the catalog is too large.
    """

    def __init__(self, l2: float = 500.0, recency: float | None = None, max_gigabytes: float = 4.0) -> None:
        if not l2 > 0:
            raise ValueError(f"l2 is {l2}, expected a number above 0: without it the Gram matrix has no inverse.")
        if recency is not None and not 0 < recency <= 1:
            raise ValueError(f"recency is {recency}, expected a decay in (0, 1], or None for no decay.")
        self.l2 = l2
        self.recency = recency
        self.max_gigabytes = max_gigabytes

    def _fit(self, train: Interactions) -> None:
        needed = 2 * 4 * train.num_items**2 / 1e9
        if needed > self.max_gigabytes:
            raise MemoryError(
                f"EASE needs two dense matrices of {train.num_items:,} x {train.num_items:,} items, {needed:.1f} GB; "
                f"max_gigabytes is {self.max_gigabytes:g}. Raise it if this machine has the memory, or use "
                "Transitions or ItemKNN, which stay sparse."
            )
        owned = history_matrix(train)
        gram = (owned.T @ owned).toarray(order="F")
        gram[np.diag_indices(train.num_items)] += np.float32(self.l2)
        factor, info = linalg.lapack.spotrf(gram, overwrite_a=True)
        if info == 0:
            factor, info = linalg.lapack.spotri(factor, overwrite_c=True)
        if info != 0:
            raise ValueError(
                f"The Gram matrix with l2={self.l2:g} is not positive definite in single precision. Raise l2."
            )
        for row in range(1, train.num_items):  # LAPACK fills the upper half only.
            factor[row, :row] = factor[:row, row]
        factor /= -np.diag(factor).copy()
        np.fill_diagonal(factor, 0)
        self.weights = np.ascontiguousarray(factor)

    def _score(self, histories: Interactions) -> np.ndarray:
        return history_matrix(histories, self.recency) @ self.weights
