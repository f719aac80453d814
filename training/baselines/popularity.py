"""Popularity: the same list for everyone, the most interacted items first."""

from __future__ import annotations

import numpy as np

from ..data.prepared import Interactions
from .baseline import Baseline


class Popularity(Baseline):
    r"""Scores an item by its number of train events.

    .. math:: s_{ui} = \lvert \{ e \in \mathrm{train} : \mathrm{item}(e) = i \} \rvert

    A model that does not beat this has learned nothing about users.
    """

    def _fit(self, train: Interactions) -> None:
        self.counts = train.item_counts().astype(np.float32)

    def _score(self, histories: Interactions) -> np.ndarray:
        return np.tile(self.counts, (histories.num_users, 1))
