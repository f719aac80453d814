"""Content neighbours: items that read or look like what the user had last, whoever else had them."""

from __future__ import annotations

import numpy as np

from ..data.prepared import Interactions
from .baseline import Baseline, history_matrix


class ContentNeighbours(Baseline):
    r"""Scores an item by the cosine of its vector to the recency-weighted mean of the history's.

    .. math:: s_{ui} = \cos\Bigl(v_i, \sum_{j \in h_u} \rho^{a_{uj}} v_j\Bigr)

    with unit vectors :math:`v` of the items' content, such as a sentence encoder's of their titles, and
    :math:`a_{uj}` the user's events after the latest one with item j. It learns nothing from other users and knows an
    item without events as well as any other: what a model must beat on new items.

    Args:
        vectors: (items, d) float; a row of zeros: unknown, scored 0.
        recency: decay :math:`\rho` of an event's weight per newer event, in (0, 1]; `None` weighs all alike.
        centred: subtract the mean vector of the catalog first, which all texts of one shop have in common.

    Raises:
        ValueError: if `recency` is outside (0, 1], or, from `fit`, if there is no vector for every item.
    """

    def __init__(self, vectors: np.ndarray, recency: float | None = 0.7, centred: bool = False) -> None:
        if recency is not None and not 0 < recency <= 1:
            raise ValueError(f"recency is {recency}, expected a decay in (0, 1], or None for no decay.")
        self.vectors = np.asarray(vectors, dtype=np.float32)
        self.recency = recency
        self.centred = centred

    def _fit(self, train: Interactions) -> None:
        if len(self.vectors) != train.num_items:
            raise ValueError(
                f"vectors has {len(self.vectors)} rows, expected one for each of {train.num_items} items."
            )
        unit = _unit_rows(self.vectors)
        if self.centred:
            known = unit.any(axis=1)
            unit[known] = _unit_rows(unit[known] - unit[known].mean(axis=0))
        self.unit_vectors = unit

    def _score(self, histories: Interactions) -> np.ndarray:
        profiles = history_matrix(histories, self.recency) @ self.unit_vectors
        return _unit_rows(profiles) @ self.unit_vectors.T


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
