"""Transitions: items that soon followed what the user had last, in other people's histories."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ..data.prepared import Interactions
from .baseline import Baseline, history_matrix


class Transitions(Baseline):
    r"""Scores an item by how often it came shortly after the items of the history.

    With :math:`n_i` the number of users who have item i in train,

    .. math:: s_{ui} = \sum_{j \in h_u} \rho^{a_{uj}} M_{ji}, \quad
        M_{ji} = \frac{1}{\sqrt{n_j n_i}} \sum_v \sum_{\substack{p < q \le p + w \\ h_{vp} = j,\ h_{vq} = i}}
        \frac{1}{q - p}

    where :math:`a_{uj}` counts the user's events after the latest one with item j. A first-order Markov chain widened
    to w steps with a weight of 1/distance: the sequential rules of Kamehkhosh, Jannach and Ludewig, *A comparison of
    frequent pattern techniques and a deep learning method for session-based recommendation*, RecSys 2017 (temporal
    workshop), with the cosine normalisation of ItemKNN and a decay of the history.

    Keeps M sparse: at most `window` entries per train event. Dense memory is that of the scores alone.

    Args:
        window: longest distance w in events that counts as a transition, at least 1.
        recency: decay :math:`\rho` of an event's weight per newer event, in (0, 1].

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(self, window: int = 5, recency: float = 0.7) -> None:
        if window < 1:
            raise ValueError(f"window is {window}, expected at least 1 step.")
        if not 0 < recency <= 1:
            raise ValueError(f"recency is {recency}, expected a decay in (0, 1].")
        self.window = window
        self.recency = recency

    def _fit(self, train: Interactions) -> None:
        users = np.repeat(np.arange(train.num_users), train.lengths)
        shape = (train.num_items, train.num_items)
        total = sparse.csr_array(shape, dtype=np.float32)
        for distance in range(1, min(self.window, len(users) - 1) + 1):
            same_user = users[:-distance] == users[distance:]
            pairs = (train.items[:-distance][same_user], train.items[distance:][same_user])
            weights = np.full(len(pairs[0]), 1 / distance, dtype=np.float32)
            total = total + sparse.csr_array((weights, pairs), shape=shape)
        owners = np.bincount(history_matrix(train).indices, minlength=train.num_items)
        scale = sparse.dia_array((1 / np.sqrt(np.maximum(owners, 1))[None], [0]), shape=shape)
        self.matrix = sparse.csr_array(scale @ total @ scale).astype(np.float32)

    def _score(self, histories: Interactions) -> np.ndarray:
        return (history_matrix(histories, self.recency) @ self.matrix).toarray()
