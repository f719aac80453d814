"""Events become histories: stable time order, no exact duplicates, and the k-core if asked for.

Second half of :mod:`.prepare`; everything here works on integer codes.
"""

from __future__ import annotations

import numpy as np
import polars as pl


def sort_histories(table: pl.DataFrame) -> pl.DataFrame:
    """Events by user, then `order` or `timestamp` where there is one; ties keep the order of the file."""
    by = next((column for column in ("order", "timestamp") if column in table.columns), None)
    return table.sort(["user", by] if by else ["user"], nulls_last=False, maintain_order=True)


def drop_duplicates(table: pl.DataFrame) -> pl.DataFrame:
    """Drop all but the first of the events of a sorted table with the same user, item and time.

    Without a time nothing tells a duplicate from a repetition, and nothing is dropped.
    """
    same = _same_moment(table)
    if not same.any():
        return table
    group = np.cumsum(~same)
    tied = same.copy()
    tied[:-1] |= same[1:]
    places = np.flatnonzero(tied)
    pairs = pl.DataFrame({"place": places, "group": group[places], "item": table["item"].to_numpy()[places]})
    first = pairs.unique(["group", "item"], keep="first", maintain_order=True)["place"].to_numpy()
    keep = ~tied
    keep[first] = True
    return table.filter(pl.Series(keep))


def count_ties(table: pl.DataFrame) -> int:
    """Events of a sorted table whose user did something else in the same second just before."""
    if "timestamp" not in table.columns:
        return 0
    known = table["timestamp"].is_not_null().to_numpy()[1:]
    same = (table["user"].to_numpy()[1:] == table["user"].to_numpy()[:-1]) & known
    times = table["timestamp"].fill_null(-1).to_numpy()
    return int((same & (times[1:] == times[:-1])).sum())


def count_repeats(table: pl.DataFrame) -> int:
    """Events with an item that the user has met before."""
    if table.is_empty():
        return 0
    items = int(table["item"].max()) + 1
    pairs = table["user"].to_numpy().astype(np.uint64) * np.uint64(items) + table["item"].to_numpy()
    pairs.sort()
    return int((pairs[1:] == pairs[:-1]).sum())


def find_k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Places of the events left when every user and every item has at least `k` events.

    Dropping an item may leave a user with too few and the other way round, so it repeats until nothing changes.

    Args:
        users: (events,) codes.
        items: (events,) codes.
    """
    kept = np.arange(len(users))
    while len(kept):
        enough = np.bincount(users)[users] >= k
        enough &= np.bincount(items)[items] >= k
        if enough.all():
            break
        kept, users, items = kept[enough], users[enough], items[enough]
    return kept


def _same_moment(table: pl.DataFrame) -> np.ndarray:
    """(events,) whether an event has the user, time and order of the event before it."""
    keys = [column for column in ("timestamp", "order") if column in table.columns]
    same = np.zeros(len(table), dtype=bool)
    if not keys or table.is_empty():
        return same
    same[1:] = table["user"].to_numpy()[1:] == table["user"].to_numpy()[:-1]
    for column in keys:
        equal = table[column].eq_missing(table[column].shift(1))
        same &= equal.to_numpy()
    return same
