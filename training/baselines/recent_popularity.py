"""Recent popularity: the same list for everyone, what was interacted with most in the last part of the log."""

from __future__ import annotations

import numpy as np

from ..data.prepared import Interactions
from .baseline import Baseline

DAY = 86_400


class RecentPopularity(Baseline):
    r"""Scores an item by its number of train events in the last part of the log.

    Where events have times, with T the time of the newest train event,

    .. math:: s_{ui} = \lvert \{ e \in \mathrm{train} : \mathrm{item}(e) = i,\ T - t(e) < \mathrm{days} \} \rvert

    elsewhere the last `last_events` train events of every user count. Events whose time is unknown are left out as
    soon as one event's time is known. Ji et al., *A re-visit of the popularity baseline in recommender systems*,
    SIGIR 2020, show how much stronger this is than popularity over the whole log when the protocol respects time.

    Args:
        days: length of the window in days, above 0.
        last_events: events per user that count where the data has no times, at least 1.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(self, days: float = 30.0, last_events: int = 3) -> None:
        if not days > 0 or last_events < 1:
            raise ValueError(f"days={days}, last_events={last_events}: expected days above 0 and at least one event.")
        self.days = days
        self.last_events = last_events

    def _fit(self, train: Interactions) -> None:
        times = train.timestamps
        if times is not None and (times >= 0).any():
            recent = (times >= 0) & (times.max() - times < self.days * DAY)
        else:
            age = np.repeat(train.offsets[1:], train.lengths) - np.arange(len(train.items))
            recent = age <= self.last_events
        self.counts = np.bincount(train.items[recent], minlength=train.num_items).astype(np.float32)

    def _score(self, histories: Interactions) -> np.ndarray:
        return np.tile(self.counts, (histories.num_users, 1))
