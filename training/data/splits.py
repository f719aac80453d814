"""Train, validation and test splits of interaction histories.

The trainer learns from :attr:`Split.train`; the evaluator ranks the catalog for every case of an
:class:`EvaluationSet`. All splits keep the order of each user's history: nothing that a model may learn from or sees
as history comes after the target it is asked for in that user's history. Only :func:`global_time` also keeps one
user's future out of another user's past. :func:`cold_items` asks for items that nobody could learn about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .prepared import Interactions


@dataclass
class EvaluationSet:
    """Cases to rank: for each, a history and the item that came next.

    Attributes:
        users: (cases,) int64 user indices, ascending.
        targets: (cases,) int32 item indices.
        histories: the events before each target; row `i` belongs to `users[i]` and holds at least one event.
        target_timestamps: (cases,) int64 unix seconds at which each target happened, -1 where unknown; `None` if the
            data has no times. A recommender may know it: it is the time of the request.
        without_history: how many users had a target but no event before it, and so are not among the cases.
    """

    users: np.ndarray
    targets: np.ndarray
    histories: Interactions
    target_timestamps: np.ndarray | None = None
    without_history: int = 0

    def __len__(self) -> int:
        return len(self.targets)

    def sample(self, count: int | None, seed: int) -> EvaluationSet:
        """At most `count` of the cases, drawn by the seed, in their order; `None`: all."""
        if count is None or count >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False))
        return EvaluationSet(
            users=self.users[chosen],
            targets=self.targets[chosen],
            histories=self.histories.take(chosen),
            target_timestamps=None if self.target_timestamps is None else self.target_timestamps[chosen],
        )


@dataclass
class Split:
    """One way of dividing a data set.

    Attributes:
        name: `leave_one_out`, `global_time` or `cold_items`; it goes into every report.
        train: what may be learned from; all users of the data set in their order, those without events too.
        validation: cases for choosing hyper-parameters and for early stopping.
        test: cases for the numbers that are reported.
        cold: (n,) int64 items that are kept from training on purpose, ascending; `None` where none are.
    """

    name: str
    train: Interactions
    validation: EvaluationSet
    test: EvaluationSet
    cold: np.ndarray | None = None


def leave_one_out(interactions: Interactions, min_events: int = 3) -> Split:
    """Each user's last event is the test target, the one before it the validation target, the rest is for training.

    For a user with events `e_1 … e_n`, `n >= min_events`:

    | | history | target |
    | --- | --- | --- |
    | validation | `e_1 … e_{n-2}` | `e_{n-1}` |
    | test | `e_1 … e_{n-1}` | `e_n` |

    and `e_1 … e_{n-2}` are in `train`. All events of shorter users are in `train`; they are never a case.

    Args:
        min_events: events that a user needs to be a case, at least 3 (one to train on, one target each).

    Raises:
        ValueError: if `min_events < 3`, or if no user is long enough.
    """
    if min_events < 3:
        raise ValueError(f"min_events is {min_events}, expected at least 3: a history, a validation and a test event.")
    lengths = interactions.lengths
    users = np.flatnonzero(lengths >= min_events)
    if not len(users):
        raise ValueError(
            f"No user has {min_events} events (the longest history has {lengths.max(initial=0)}): nothing to "
            f"evaluate. Gather longer histories{', lower min_events' * (min_events > 3)}, or split by time "
            "(data.split=global_time)."
        )
    held_out = np.where(lengths >= min_events, 2, 0)
    before_end = np.repeat(interactions.offsets[1:], lengths) - np.arange(len(interactions.items))
    return Split(
        name="leave_one_out",
        train=interactions.keep(before_end > np.repeat(held_out, lengths)),
        validation=_cases(interactions, users, lengths[users] - 2),
        test=_cases(interactions, users, lengths[users] - 1),
    )


def global_time(interactions: Interactions, validation: float = 0.1, test: float = 0.1) -> Split:
    """Cut the data at two moments, the same for all users.

    Let `t_1 <= t_2` be the times below which lie a share `1 - validation - test` and `1 - test` of all events.

    - `train`: events before `t_1`.
    - `validation`: per user the first event in `[t_1, t_2)`; history: all events of the user before it.
    - `test`: per user the first event at `t_2` or later; history: all events of the user before it, those of the
      validation window included.

    A target with no event before it is dropped and counted in `without_history`. Events at exactly `t_1` or `t_2` fall
    into the later window, so train can be smaller than its share when many events carry one time. The time of an event
    is the largest known time up to it in its user's history: an event whose time is unknown goes where its predecessor
    goes (to `train` if it has none) and is never a target.

    Args:
        validation: share of all events in the validation window, in (0, 1).
        test: share of all events in the test window, in (0, 1); `validation + test < 1`.

    Raises:
        ValueError: if the data has no times, or if a share leaves a window empty.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ValueError(
            f"validation={validation} and test={test} are shares of all events: expected both above 0, sum below 1."
        )
    if interactions.timestamps is None or not (interactions.timestamps >= 0).any():
        raise ValueError(
            "global_time needs the time of events, but this data has none. Name a time column (`interactions.time` in "
            "schema.yaml) and prepare the data again, or evaluate with the leave_one_out split."
        )
    times = _known_times(interactions)
    in_order = np.sort(times[times >= 0])
    held_out = (round(len(in_order) * (validation + test)), round(len(in_order) * test))
    t_1, t_2 = (in_order[-max(count, 1)] for count in held_out)
    learned, before_test = times < t_1, times < t_2
    if not learned.any() or t_1 == t_2:
        raise ValueError(
            f"The shares validation={validation}, test={test} cut at unix times {t_1} and {t_2}, which leaves "
            f"{'train' if not learned.any() else 'the validation window'} without events (the data runs from "
            f"{in_order[0]} to {in_order[-1]}). Choose other shares, or the leave_one_out split."
        )
    train, until_test = interactions.keep(learned), interactions.keep(before_test)
    return Split(
        name="global_time",
        train=train,
        validation=_first_after(interactions, train.lengths, until_test.lengths),
        test=_first_after(interactions, until_test.lengths, interactions.lengths),
    )


def cold_items(interactions: Interactions, share: float = 0.05, seed: int = 0, min_events: int = 3) -> Split:
    """:func:`leave_one_out` for items that arrived after training: test targets are items that training never saw.

    A share of the items that have events is drawn by the seed and held out. They stay in the catalog, so every test
    case ranks them among all others.

    - `train`: as in leave-one-out, without the events of held-out items.
    - `validation`: the leave-one-out cases whose target is not held out; held-out items are taken out of the
      histories. What is chosen by it is chosen without knowing a held-out item.
    - `test`: the leave-one-out cases whose target is held out; held-out items are taken out of the histories, so that
      all models read the same evidence, those too that cannot read an item without training events. A user who had
      nothing else is counted in `without_history`.

    Args:
        share: of the items with events, in (0, 1); at least one is held out.
        seed: of the draw.
        min_events: as in :func:`leave_one_out`, counted before items are held out.

    Raises:
        ValueError: if an argument is outside its range, or there is nothing to train on, validate or test with.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}, expected a share of the items in (0, 1), such as 0.05.")
    whole = leave_one_out(interactions, min_events)
    known = np.flatnonzero(interactions.item_counts())
    count = max(1, round(share * len(known)))
    cold = np.sort(np.random.default_rng(seed).choice(known, count, replace=False))
    is_cold = np.zeros(interactions.num_items, dtype=bool)
    is_cold[cold] = True
    split = Split(
        name="cold_items",
        train=whole.train.keep(~is_cold[whole.train.items]),
        validation=_without_items(whole.validation, is_cold, asked=~is_cold),
        test=_without_items(whole.test, is_cold, asked=is_cold),
        cold=cold,
    )
    sizes = {"train": len(split.train.items), "validation": len(split.validation), "test": len(split.test)}
    for name, size in sizes.items():
        if not size:
            raise ValueError(
                f"Holding out {count} of {len(known)} items leaves {name} empty. Choose another share or seed, or "
                "gather more events."
            )
    return split


def new_and_known(interactions: Interactions, cold: np.ndarray, part: str, min_events: int = 3) -> list[EvaluationSet]:
    """The leave-one-out cases whose target is among `cold` items, and those whose target is not.

    `cold` items, such as those of :func:`cold_items`, are taken out of the histories of both.

    Args:
        part: `validation` or `test`.
        min_events: as in :func:`leave_one_out`.
    """
    is_cold = np.zeros(interactions.num_items, dtype=bool)
    is_cold[cold] = True
    cases = getattr(leave_one_out(interactions, min_events), part)
    return [_without_items(cases, is_cold, asked=asked) for asked in (is_cold, ~is_cold)]


def _without_items(cases: EvaluationSet, hidden: np.ndarray, asked: np.ndarray) -> EvaluationSet:
    """The cases whose target is `asked`, with the `hidden` items (each (items,) bool) out of the histories."""
    wanted = asked[cases.targets]
    histories = cases.histories.keep(~hidden[cases.histories.items])
    chosen = np.flatnonzero(wanted & (histories.lengths > 0))
    return EvaluationSet(
        users=cases.users[chosen],
        targets=cases.targets[chosen],
        histories=histories.take(chosen),
        target_timestamps=None if cases.target_timestamps is None else cases.target_timestamps[chosen],
        without_history=int(wanted.sum()) - len(chosen),
    )


def _known_times(interactions: Interactions) -> np.ndarray:
    """(events,) int64: per user, the running maximum of timestamps."""
    values, ranks = np.unique(interactions.timestamps, return_inverse=True)
    user_floor = np.repeat(np.arange(interactions.num_users), interactions.lengths) * len(values)
    return values[np.maximum.accumulate(ranks + user_floor) - user_floor]


def _first_after(interactions: Interactions, start: np.ndarray, stop: np.ndarray) -> EvaluationSet:
    """Cases from users' events `start:stop` (each (users,), counted within the user), which are a window in time."""
    has_target = stop > start
    users = np.flatnonzero(has_target & (start > 0))
    cases = _cases(interactions, users, start[users])
    cases.without_history = int((has_target & (start == 0)).sum())
    return cases


def _cases(interactions: Interactions, users: np.ndarray, place: np.ndarray) -> EvaluationSet:
    """Cases whose targets are the `place`-th events (0-based) of `users`."""
    events = interactions.offsets[users] + place
    return EvaluationSet(
        users=users.astype(np.int64),
        targets=interactions.items[events].astype(np.int32),
        histories=interactions.take(users, first=place),
        target_timestamps=None if interactions.timestamps is None else interactions.timestamps[events],
    )
