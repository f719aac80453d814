"""How popular each item was at each time: what the popularity prior of the model reads.

Counted from train events, and for a moment only from those before it: what an event adds to its own popularity would
be a hint at the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..data.prepared import Interactions

DAY = 86_400.0


@dataclass
class ItemPopularity:
    """Log popularity of all items, relative to the average item, by period.

    Shape:
        - log_popularity: (1 + periods, items) float32; row 0 is the whole log, for requests of unknown time
        - unseen: (1 + periods,) float32, of an item without events
        - period_starts: (periods,) int64 unix seconds, ascending
    """

    log_popularity: np.ndarray
    unseen: np.ndarray
    period_starts: np.ndarray

    @classmethod
    def count(
        cls, interactions: Interactions, periods: int = 12, half_life_days: float | None = None
    ) -> ItemPopularity:
        r"""Popularity as the log tells it.

        .. math:: \log p_i(t) = \log(1 + n_i(t)) - \log\big(1 + \bar n(t)\big), \qquad
                  n_i(t) = \sum_{e: \, i_e = i, \, t_e < t} 2^{-(t - t_e) / h}

        at the start t of each period; every period holds the same number of events.

        Args:
            periods: at most; 0, or data without times: one popularity for all.
            half_life_days: h; `None`: all earlier events count alike.
        """
        whole, unseen = _relative(interactions.item_counts().astype(np.float64))
        rows, floors, starts = [whole], [unseen], np.zeros(0, dtype=np.int64)
        times = interactions.timestamps
        if periods and times is not None and (times >= 0).any():
            known = times >= 0
            starts = np.unique(np.quantile(times[known], np.arange(periods) / periods, method="lower"))
            for start in starts:
                earlier = known & (times < start)
                age = (start - times[earlier]) / DAY
                weights = None if half_life_days is None else 2.0 ** (-age / half_life_days)
                counts = np.bincount(interactions.items[earlier], weights, interactions.num_items)
                row, floor = _relative(counts.astype(np.float64))
                rows.append(row)
                floors.append(floor)
        return cls(np.stack(rows), np.array(floors, dtype=np.float32), starts.astype(np.int64))

    @classmethod
    def given(cls, popularity: np.ndarray, period_starts: np.ndarray) -> ItemPopularity:
        """Popularity that is known better than by counting, such as what a shop ranks its shelves by.

        Args:
            popularity: (periods, items) above 0, on any scale.
            period_starts: (periods,) unix seconds, ascending.

        Raises:
            ValueError: if a popularity is not above 0, or shapes do not fit.
        """
        popularity = np.asarray(popularity, dtype=np.float64)
        if popularity.ndim != 2 or len(popularity) != len(period_starts):
            raise ValueError(
                f"popularity has shape {popularity.shape} for {len(period_starts)} periods, expected (periods, items)."
            )
        bad = ~(np.isfinite(popularity) & (popularity > 0))
        if bad.any():
            period, item = np.argwhere(bad)[0]
            raise ValueError(
                f"popularity holds {bad.sum()} numbers that are not above 0; the first is {popularity[period, item]} "
                f"of item {item} in period {period}."
            )
        popularity = np.concatenate([popularity.mean(axis=0, keepdims=True), popularity])
        relative = np.log(popularity) - np.log(popularity.mean(axis=1, keepdims=True))
        starts = np.asarray(period_starts, dtype=np.int64)
        return cls(relative.astype(np.float32), relative.min(axis=1).astype(np.float32), starts)

    def periods_of(self, timestamps: np.ndarray | None, count: int) -> np.ndarray:
        """(count,) int16 row of each event; 0 where its time is unknown."""
        if timestamps is None:
            return np.zeros(count, dtype=np.int16)
        return np.searchsorted(self.period_starts, timestamps, side="right").astype(np.int16)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The arguments of `model.add_popularity_prior`."""
        return {
            "log_popularity": torch.from_numpy(self.log_popularity),
            "unseen": torch.from_numpy(self.unseen),
            "period_starts": torch.from_numpy(self.period_starts),
        }


def _relative(counts: np.ndarray) -> tuple[np.ndarray, float]:
    """Log counts over that of the average, and what an item without events has."""
    average = np.log1p(counts.mean())
    return (np.log1p(counts) - average).astype(np.float32), -average
