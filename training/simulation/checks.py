"""What the built-in worlds ask of their settings, and of questions about a moment in a user's history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.prepared import Interactions


def check_ranges(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise a `ValueError` that names the first field of a configuration that is a NaN or outside its range."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise ValueError(f"{type(config).__name__}.{name} is {value}, expected a number between {low} and {high}.")


def events_about_to_happen(
    log: Interactions, users: np.ndarray | int, events: np.ndarray | int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Users (n,), and which interaction (n,) of each is asked about; `None`: one more, at the end of the log.

    Raises:
        IndexError: if a user has fewer interactions than asked for.
    """
    rows = np.atleast_1d(np.asarray(users, dtype=np.int64))
    lengths = log.lengths[rows]
    events = lengths if events is None else np.broadcast_to(np.asarray(events, dtype=np.int64), rows.shape)
    wrong = np.flatnonzero((events < 0) | (events > lengths))
    if len(wrong):
        bad = wrong[0]
        raise IndexError(
            f"User {rows[bad]} has {lengths[bad]} interactions; asked for the moment before number {events[bad]}, "
            f"expected 0 to {lengths[bad]}."
        )
    return rows, events
