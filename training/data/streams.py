"""Event streams: the end of a data set as it would have come in, one event after the other.

The experiments on online learning train a model on :attr:`EventStream.base`, then hand it the stream. Everything that
a learner may see of the stream at a moment is what came before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .prepared import Interactions
from .splits import EvaluationSet, Split, leave_one_out

StreamOrder = Literal["time", "user"]


@dataclass
class EventStream:
    """A data set cut into a base and the stream of events after it.

    Attributes:
        whole: all histories.
        base: the same users with what happened before the stream; new users have nothing.
        users: (events,) int64 user of each event of the stream, in the order in which they come.
        places: (events,) int64 place of each event in its user's whole history.
        held_out: (events,) bool: events that nobody learns from; they tell what a learner knows of their time.
    """

    whole: Interactions
    base: Interactions
    users: np.ndarray
    places: np.ndarray
    held_out: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @property
    def events(self) -> np.ndarray:
        """(events,) int64: where each event of the stream stands among all events."""
        return self.whole.offsets[self.users] + self.places

    @property
    def items(self) -> np.ndarray:
        """(events,) int64 items of the stream."""
        return self.whole.items[self.events].astype(np.int64)

    def base_split(self, min_events: int = 3) -> Split:
        """:func:`leave_one_out` of the base: what a model is trained, chosen and asked about before the stream."""
        return leave_one_out(self.base, min_events)

    def cases(self, chosen: np.ndarray) -> EvaluationSet:
        """What comes next, asked at some events of the stream, in the order given.

        Events of users who have no history yet are left out and counted in `without_history`.

        Args:
            chosen: (n,) numbers of events of the stream.
        """
        able = chosen[self.places[chosen] > 0]
        users, places = self.users[able], self.places[able]
        events = self.whole.offsets[users] + places
        times = self.whole.timestamps
        return EvaluationSet(
            users=users,
            targets=self.whole.items[events].astype(np.int32),
            histories=self.whole.take(users, first=places),
            target_timestamps=None if times is None else times[events],
            without_history=len(chosen) - len(able),
        )

    def blocks(self, count: int) -> list[np.ndarray]:
        """Numbers of the events of `count` blocks of almost equal size, one after the other.

        Raises:
            ValueError: if there are fewer events than blocks.
        """
        if not 1 <= count <= len(self):
            raise ValueError(f"A stream of {len(self)} events cannot be cut into {count} blocks.")
        return np.array_split(np.arange(len(self)), count)


def event_stream(
    interactions: Interactions,
    share: float = 0.2,
    order: StreamOrder = "time",
    held_out: float = 0.1,
    seed: int = 0,
    sitting: int = 8,
) -> EventStream:
    """The last events of a data set as a stream.

    Args:
        share: of all events that the stream holds, in (0, 1).
        order: `time`: the last events by their times, in that order. `user`: the last events of every user, for data
            whose times are not all known; users take turns, a sitting each, so that each is as far through his part
            of the stream as the others.
        held_out: share of the stream's events that are drawn, by the seed, for nobody to learn from, in [0, 1).
        seed: of that draw.
        sitting: events of a user that come one after the other with `order="user"`, as people rate or buy several
            things at a time.

    Raises:
        ValueError: if `sitting` is less than 1, a share is out of range or leaves a side empty, or an event has no
            time with `order="time"`.
    """
    if not (0 < share < 1 and 0 <= held_out < 1):
        raise ValueError(
            f"event_stream got share={share} and held_out={held_out}, expected numbers in (0, 1) and [0, 1)."
        )
    if sitting < 1:
        raise ValueError(f"sitting is {sitting}, expected 1 event or more.")
    lengths = interactions.lengths
    users = np.repeat(np.arange(interactions.num_users), lengths)
    places = np.arange(len(interactions.items)) - interactions.offsets[users]
    if order == "time":
        ranked = _by_time(interactions, users)
        first = len(ranked) - round(share * len(ranked))
    else:
        mine = np.round(share * lengths).astype(np.int64)[users]
        place = places - (lengths[users] - mine)  # in the user's part of the stream
        in_stream = place >= 0
        begin = place // sitting * sitting
        progress = (begin + 0.5) / np.maximum(mine, 1)
        ranked = np.lexsort((places, users, np.where(in_stream, progress, -1.0), in_stream))
        first = len(ranked) - int(in_stream.sum())
    if not 0 < first < len(ranked):
        raise ValueError(
            f"share={share} of {len(ranked)} events leaves {'the base' if first <= 0 else 'the stream'} empty."
        )
    chosen = ranked[first:]
    before = np.ones(len(ranked), dtype=bool)
    before[chosen] = False
    drawn = np.random.default_rng(seed).random(len(chosen)) < held_out
    return EventStream(interactions, interactions.keep(before), users[chosen], places[chosen], drawn)


def _by_time(interactions: Interactions, users: np.ndarray) -> np.ndarray:
    """Numbers of all events in the order of their times, every user's own order kept."""
    times = interactions.timestamps
    if times is None or (times < 0).any():
        raise ValueError(
            "A stream by time needs the time of every event, but "
            + ("this data has none" if times is None else f"{int((times < 0).sum()):,} have none")
            + ". Take order='user': the last events of every user."
        )
    # A user's history is in time order; where times are equal its order is kept by the stable sort.
    return np.lexsort((np.arange(len(times)), users, times))
