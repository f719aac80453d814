"""What every classical recommender here is: fitted on train, then a scorer of the catalog for batches of histories.

Its `score` is a scorer of :class:`~llm4rec.training.evaluation.ranking_evaluator.RankingEvaluator`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from scipy import sparse
from sklearn.exceptions import NotFittedError
from typing_extensions import Self

from ..data.prepared import Interactions


class Baseline(ABC):
    """A recommender with `fit` and `score`.

    Seen items keep their scores; the evaluator, or whoever recommends, takes them out.
    """

    num_items: int | None = None

    def fit(self, train: Interactions) -> Self:
        """Learn from all of `train`; returns itself."""
        self._fit(train)
        self.num_items = train.num_items
        return self

    def score(self, histories: Interactions) -> np.ndarray:
        """Score every item for every history.

        Shape:
            - returns: (histories, items) float32, higher is better

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: if the histories are of another catalog.
        """
        name = type(self).__name__
        if self.num_items is None:
            raise NotFittedError(f"{name} has learned nothing yet. Call {name}(…).fit(train) before score(histories).")
        if histories.num_items != self.num_items:
            raise ValueError(
                f"{name} was fitted on a catalog of {self.num_items} items, these histories are of one of "
                f"{histories.num_items}. Fit it again on the present catalog."
            )
        return self._score(histories)

    @abstractmethod
    def _fit(self, train: Interactions) -> None: ...

    @abstractmethod
    def _score(self, histories: Interactions) -> np.ndarray: ...


def history_matrix(histories: Interactions, recency: float | None = None) -> sparse.csr_array:
    r"""Users by items, sparse: who has which item in the history.

    Entry :math:`(u, i)` is 1, or with `recency` :math:`\rho` it is :math:`\rho^{a}`, where the age :math:`a` counts
    the user's events after the latest one with item i: 0 for the last event.

    Shape:
        - returns: (users, items) float32
    """
    users = np.repeat(np.arange(histories.num_users, dtype=np.int64), histories.lengths)
    age = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(histories.items))
    pairs, newest = np.unique((users * histories.num_items + histories.items)[::-1], return_index=True)
    rows, columns = np.divmod(pairs, histories.num_items)
    values = np.ones(len(pairs)) if recency is None else np.power(float(recency), age[::-1][newest])
    shape = (histories.num_users, histories.num_items)
    return sparse.csr_array((values.astype(np.float32), (rows, columns)), shape=shape)
