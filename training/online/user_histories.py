"""The latest events of every user, in bounded memory: what the learner asks about and learns from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from ..data.prepared import Interactions

Event = tuple[int, float, float]
"""Item index, rating (NaN: unknown), unix seconds (-1: unknown)."""


class UserHistories:
    """Histories by user id.

    Args:
        num_items: of the catalog.
        longest: events kept of each user, the latest.
    """

    def __init__(self, num_items: int, longest: int):
        self.num_items, self.longest = num_items, longest
        self._events: dict[str, deque[Event]] = {}

    def __len__(self) -> int:
        return len(self._events)

    def append(self, user: str, item: int, rating: float | None = None, time: float = -1) -> None:
        """Add a user's next event."""
        history = self._events.setdefault(user, deque(maxlen=self.longest))
        history.append((item, float("nan") if rating is None else rating, time))

    def users(self) -> list[str]:
        """Ids of all users that are known, the longest known first."""
        return list(self._events)

    def update(self, others: UserHistories) -> None:
        """Add the events of other histories after those that are there."""
        for user, events in others._events.items():
            for event in events:
                self.append(user, *event)

    def length(self, user: str) -> int:
        """How many events of the user are kept."""
        return len(self._events.get(user, ()))

    def items(self, user: str) -> list[int]:
        """Items of the user, oldest first."""
        return [event[0] for event in self._events.get(user, ())]

    def of(self, users: Iterable[str]) -> Interactions:
        """The histories of some users, in the order given."""
        chosen = [self._events.get(user, ()) for user in users]
        offsets = np.concatenate([[0], np.cumsum([len(history) for history in chosen])]).astype(np.int64)
        flat = [event for history in chosen for event in history]
        items, ratings, times = zip(*flat, strict=True) if flat else ((), (), ())
        return Interactions(
            offsets,
            np.array(items, dtype=np.int32),
            self.num_items,
            np.array(ratings, dtype=np.float32),
            np.array(times, dtype=np.int64),
        )

    def learn(self, user_ids: Iterable[str], interactions: Interactions) -> None:
        """Take in what is known of users beforehand."""
        for number, user in enumerate(user_ids):
            start, stop = interactions.offsets[number], interactions.offsets[number + 1]
            for event in range(max(start, stop - self.longest), stop):
                self.append(
                    user,
                    int(interactions.items[event]),
                    None if interactions.ratings is None else float(interactions.ratings[event]),
                    -1 if interactions.timestamps is None else int(interactions.timestamps[event]),
                )

    def save(self, path: str | Path) -> None:
        """Write all histories as Parquet."""
        columns = {"user_id": list(self._events)}
        for place, name in enumerate(("items", "ratings", "timestamps")):
            columns[name] = [[event[place] for event in history] for history in self._events.values()]
        kinds = {"items": pl.Int64, "ratings": pl.Float32, "timestamps": pl.Int64}
        frame = pl.DataFrame(columns, schema={"user_id": pl.String, **{n: pl.List(k) for n, k in kinds.items()}})
        frame.write_parquet(path)

    @classmethod
    def load(cls, path: str | Path, num_items: int, longest: int) -> UserHistories:
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is damaged.
        """
        histories = cls(num_items, longest)
        try:
            for user, *lists in pl.read_parquet(path).iter_rows():
                histories._events[user] = deque(zip(*lists, strict=True), maxlen=longest)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ValueError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from error
        return histories


__all__ = ["UserHistories"]
