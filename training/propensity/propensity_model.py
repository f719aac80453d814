"""What every propensity model is: fitted on observed events, then the probability that a pair was observed.

:func:`~llm4rec.training.propensity.inverse_weights.inverse_propensity_weights` makes weights of what `predict` gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from sklearn.exceptions import NotFittedError
from typing_extensions import Self

from ..data.prepared import Interactions
from .inverse_weights import check_propensities


class PropensityModel(ABC):
    """A model of what is observed, with `fit` and `predict`.

    Attributes:
        relative: whether only ratios of its propensities mean something. They are then scaled so that the largest is
            at most 1. Self-normalised estimates and weights of mean 1 do not notice a common factor.
    """

    relative: bool = False
    num_users: int | None = None
    num_items: int | None = None

    def fit(self, interactions: Interactions) -> Self:
        """Learn from observed events; returns itself.

        Args:
            interactions: train events, with their ratings where the model needs them.
        """
        self._fit(interactions)
        self.num_users, self.num_items = interactions.num_users, interactions.num_items
        return self

    def predict(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray | None = None) -> np.ndarray:
        """Propensity of each pair.

        Args:
            users: (n,) user indices.
            items: (n,) item indices.
            ratings: (n,) of the pairs, for models in which the rating decides; others ignore it.

        Shape:
            - returns: (n,) float64 in (0, 1]

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: if the arrays differ in length, an index is unknown, or a propensity is not in (0, 1].
        """
        name = type(self).__name__
        if self.num_users is None or self.num_items is None:
            raise NotFittedError(
                f"{name} has learned nothing yet. Call {name}(…).fit(interactions) before predict(users, items)."
            )
        users, items = np.asarray(users), np.asarray(items)
        ratings = None if ratings is None else np.asarray(ratings, dtype=np.float64)
        shapes = {array.shape for array in (users, items, ratings) if array is not None}
        if len(shapes) > 1 or users.ndim != 1:
            raise ValueError(
                f"{name}.predict got users of shape {users.shape}, items {items.shape}, ratings "
                f"{None if ratings is None else ratings.shape}: expected arrays (n,) of one length."
            )
        for role, indices, count in (("user", users, self.num_users), ("item", items, self.num_items)):
            unknown = np.flatnonzero((indices < 0) | (indices >= count))
            if len(unknown):
                raise ValueError(
                    f"{name} was not fitted on the {role} of {len(unknown):,} rows; the first, row {unknown[0]}, has "
                    f"{role} {indices[unknown[0]]}, expected an index from 0 to {count - 1}. Fit it on the present "
                    "data."
                )
        if not len(users):
            return np.empty(0)
        return check_propensities(self._predict(users, items, ratings), users, items)

    @abstractmethod
    def _fit(self, interactions: Interactions) -> None: ...

    @abstractmethod
    def _predict(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray | None) -> np.ndarray: ...


def pair_counts(interactions: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """The distinct pairs of user and item, and how often each was observed.

    Shape:
        - returns: (pairs,) int64 codes `user * num_items + item`, ascending; (pairs,) int64 counts
    """
    users = np.repeat(np.arange(interactions.num_users, dtype=np.int64), interactions.lengths)
    return np.unique(users * interactions.num_items + interactions.items, return_counts=True)
