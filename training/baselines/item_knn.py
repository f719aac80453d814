"""ItemKNN: items that the same people had, by cosine of the items' user sets."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ..data.prepared import Interactions
from .baseline import Baseline, history_matrix


class ItemKNN(Baseline):
    r"""Scores an item by its similarity to all items of the history.

    With the binary train matrix X (users by items),

    .. math:: s_{ui} = \sum_{j \in h_u} w_{uj} S_{ji}, \quad
        S_{ji} = \frac{(X^\top X)_{ji}}{\sqrt{(X^\top X)_{jj} (X^\top X)_{ii}}} \; (j \ne i), \quad S_{ii} = 0

    the cosine item-based method of Sarwar et al., *Item-based collaborative filtering recommendation algorithms*,
    WWW 2001. With `neighbours`, row j of S keeps only its n largest entries. :math:`w_{uj}` is 1, or with `recency`
    :math:`\rho` it is :math:`\rho^a` for an item that was last seen a events before the end of the history.

    Keeps S in memory, with an entry for every pair of items that some user had both of: meant for catalogs of up to
    some ten thousand items.

    Args:
        recency: decay of an event's weight per newer event, in (0, 1]; `None` weighs the whole history alike.
        neighbours: most similar items that each item of the history speaks for, at least 1; `None` keeps all.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(self, recency: float | None = None, neighbours: int | None = None) -> None:
        if recency is not None and not 0 < recency <= 1:
            raise ValueError(f"recency is {recency}, expected a decay in (0, 1], or None for no decay.")
        if neighbours is not None and neighbours < 1:
            raise ValueError(f"neighbours is {neighbours}, expected at least 1, or None for all.")
        self.recency = recency
        self.neighbours = neighbours

    def _fit(self, train: Interactions) -> None:
        owned = history_matrix(train)
        together = sparse.coo_array(owned.T @ owned)
        norms = np.sqrt(np.bincount(owned.indices, minlength=train.num_items))
        rows, columns = together.coords
        others = rows != columns
        rows, columns = rows[others], columns[others]
        cosine = together.data[others] / (norms[rows] * norms[columns])
        if self.neighbours is not None:
            best_first = np.lexsort((-cosine, rows))
            starts = np.searchsorted(rows[best_first], np.arange(train.num_items))
            place = np.arange(len(rows)) - starts[rows[best_first]]
            kept = best_first[place < self.neighbours]
            rows, columns, cosine = rows[kept], columns[kept], cosine[kept]
        self.similarity = sparse.csr_array((cosine.astype(np.float32), (rows, columns)), shape=together.shape)

    def _score(self, histories: Interactions) -> np.ndarray:
        return (history_matrix(histories, self.recency) @ self.similarity).toarray()
