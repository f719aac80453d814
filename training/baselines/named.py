"""The baselines by the names they have in tables: what `llm4rec evaluate` and the benchmarks fit."""

from __future__ import annotations

from collections.abc import Callable

from .baseline import Baseline
from .ease import EASE
from .item_knn import ItemKNN
from .popularity import Popularity
from .recent_popularity import RecentPopularity
from .transitions import Transitions

RECENCY = 0.7
"""Decay of an event's weight per newer event."""

BASELINES: dict[str, Callable[[], Baseline]] = {
    "popularity": Popularity,
    "recent-popularity": RecentPopularity,
    "itemknn": ItemKNN,
    "itemknn-recency": lambda: ItemKNN(recency=RECENCY),
    "ease": EASE,
    "ease-recency": lambda: EASE(recency=RECENCY),
    "transitions": lambda: Transitions(recency=RECENCY),
}
CHEAP = ("popularity", "itemknn", "transitions")
"""Fitted in seconds on any catalog."""
SMALL_CATALOG = 4_000
"""Items up to which EASE takes seconds as well."""


def default_baselines(num_items: int) -> tuple[str, ...]:
    """Names of the baselines that cost seconds on a catalog of this size."""
    return (*CHEAP, "ease-recency") if num_items <= SMALL_CATALOG else CHEAP


def make_baseline(name: str) -> Baseline:
    """A baseline that is not fitted yet.

    Raises:
        ValueError: if no baseline has this name.
    """
    if name not in BASELINES:
        raise ValueError(f"No baseline is named {name!r}; there are {', '.join(BASELINES)}.")
    return BASELINES[name]()
