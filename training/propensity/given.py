"""Given propensities: what the policy that showed the items logged about itself, looked up by user and item.

The only ones that are not estimated; a policy that draws at random knows with which probability it did.
"""

from __future__ import annotations

import numpy as np

from ..data.prepared import Interactions
from .inverse_weights import NAMED_ROWS, check_propensities
from .propensity_model import PropensityModel, pair_counts


class GivenPropensities(PropensityModel):
    r"""Propensities of logged events, by pair.

    A policy may change between two events of one pair. The pair then gets the harmonic mean of its events'
    propensities: its weight 1/p is the mean of theirs, and the pair counts as much as its events did.

    Args:
        users: (events,) user indices.
        items: (events,) item indices.
        propensities: (events,) in (0, 1].

    Raises:
        ValueError: if lengths differ or a propensity is not in (0, 1]; from `fit` and `predict`, if a pair has none.
    """

    def __init__(self, users: np.ndarray, items: np.ndarray, propensities: np.ndarray) -> None:
        self.users, self.items = np.asarray(users, dtype=np.int64), np.asarray(items, dtype=np.int64)
        if not self.users.shape == self.items.shape == np.shape(propensities):
            raise ValueError(
                f"users of shape {self.users.shape}, items {self.items.shape}, propensities "
                f"{np.shape(propensities)}: expected one of each per event."
            )
        self.propensities = check_propensities(propensities, users, items)

    def _fit(self, interactions: Interactions) -> None:
        # Sorted by user, then item; a code of both would need the number of items to be the same in both logs.
        self._width = max(interactions.num_items, int(self.items.max()) + 1)
        self._pairs, place = np.unique(self.users * self._width + self.items, return_inverse=True)
        self._propensities = np.bincount(place) / np.bincount(place, 1 / self.propensities)
        codes, _ = pair_counts(interactions)
        if len(codes):
            self._predict(*np.divmod(codes, interactions.num_items), None)

    def _predict(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray | None) -> np.ndarray:
        codes = users.astype(np.int64) * self._width + items
        place = np.minimum(np.searchsorted(self._pairs, codes), len(self._pairs) - 1)
        absent = np.flatnonzero(self._pairs[place] != codes)
        if len(absent):
            names = "; ".join(f"user {users[row]}, item {items[row]}" for row in absent[:NAMED_ROWS])
            raise ValueError(
                f"{len(absent):,} of {len(codes):,} pairs have no given propensity: {names}"
                f"{'; …' if len(absent) > NAMED_ROWS else ''}. Log them for all events, or use a model that estimates "
                "them."
            )
        return self._propensities[place]
