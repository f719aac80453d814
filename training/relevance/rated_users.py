"""Ratings of users, padded into batches, and the random splits into history and targets that training draws.

Read by the trainer and by whoever scores pairs; made from the events of :class:`~..data.prepared.Interactions`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...modeling_llm4rec.event_embedding import rating_ids
from ..data.prepared import Interactions

SMALLEST_SHARE, LARGEST_SHARE = 0.5, 0.95
"""Range of the share of a user's ratings that stand in the history while training."""


class RatedUsers:
    """What users rated, and what is known about them.

    Args:
        interactions: events with ratings; NaN stands for a rating that is unknown, a history alone can use it.
        rating_levels: of the model.
        user_attributes: (users, attributes) value ids, 0 where unknown.
        weights: (events,) of the ratings as targets, such as inverse propensities; all alike by default.

    Raises:
        ValueError: if there are no ratings or lengths differ.
    """

    def __init__(
        self,
        interactions: Interactions,
        rating_levels: Sequence[float],
        user_attributes: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ):
        if interactions.ratings is None:
            raise ValueError("These interactions hold no ratings; a relevance model learns from ratings.")
        users, events = interactions.num_users, len(interactions.items)
        attributes = np.zeros((users, 0)) if user_attributes is None else np.asarray(user_attributes)
        weights = np.ones(events) if weights is None else np.asarray(weights)
        if len(attributes) != users or weights.shape != (events,):
            raise ValueError(
                f"user_attributes of shape {attributes.shape} and weights {weights.shape}, expected a row for each of "
                f"{users} users and a weight for each of {events} events."
            )
        self.offsets = torch.from_numpy(np.asarray(interactions.offsets, dtype=np.int64))
        self.items = torch.from_numpy(interactions.items.astype(np.int64))
        self.ratings = torch.from_numpy(rating_ids(interactions.ratings, list(rating_levels)))
        self.weights = torch.from_numpy(weights.astype(np.float32))
        self.attributes = torch.from_numpy(attributes.astype(np.int64))
        self.num_items = interactions.num_items

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def known(self, users: torch.Tensor) -> dict[str, torch.Tensor]:
        """Everything known about some users, as the model's `forward` reads it.

        Shape:
            - users: (n,)
            - returns: `history_items` (n, length) with -1 at padding, `history_ratings`, `user_attributes`
        """
        events, padding = self._events(users)
        return {
            "history_items": self.items[events].masked_fill(padding, -1),
            "history_ratings": self.ratings[events].masked_fill(padding, 0),
            "user_attributes": self.attributes[users],
        }

    def _events(self, users: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, length) event numbers of users, any number at padding; (n, length) bool, where padding is."""
        first, last = self.offsets[users], self.offsets[users + 1]
        places = torch.arange(max(1, int((last - first).max())))
        padding = places >= (last - first)[:, None]
        return (first[:, None] + places).masked_fill(padding, 0), padding


class RandomSplits:
    """Collator that splits every user's ratings anew: one part is the history, the other the targets.

    A share of 50 to 95 % goes to the history, drawn for each user. The targets of a step are then never in the
    history, and the histories are as mixed as the ratings; leaving out one rating at a time instead would tell the
    model the target by what is missing.

    Args:
        rated: the users.
        sampled: items drawn for every user, uniformly from the catalog, beside the targets; for the pairs that nobody
            observed.
    """

    def __init__(self, rated: RatedUsers, sampled: int = 0):
        self.rated, self.sampled = rated, sampled

    def __call__(self, users: Sequence[int]) -> dict[str, torch.Tensor]:
        """A batch: the inputs of the model's `forward`, with `sampled` (n, sampled) items where asked for.

        A sampled item that is in the history is -1.
        """
        rated, users = self.rated, torch.as_tensor(users)
        events, padding = rated._events(users)
        share = SMALLEST_SHARE + (LARGEST_SHARE - SMALLEST_SHARE) * torch.rand(len(users), 1)
        past = torch.rand(events.shape) < share
        batch = {
            "candidates": rated.items[events],
            "history_items": rated.items[events].masked_fill(padding | ~past, -1),
            "history_ratings": rated.ratings[events].masked_fill(padding | ~past, 0),
            "user_attributes": rated.attributes[users],
            "labels": rated.ratings[events].masked_fill(padding | past, 0),
            "loss_weights": rated.weights[events],
        }
        if self.sampled:
            drawn = torch.randint(rated.num_items, (len(users), self.sampled))
            in_history = (drawn[:, :, None] == batch["history_items"][:, None]).any(-1)
            batch["sampled"] = drawn.masked_fill(in_history, -1)
        return batch
