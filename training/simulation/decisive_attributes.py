r"""A built-in world in which one attribute value decides what a user chooses: the truth that explanations are held to.

Explanations of recommendations are measured on a model that learned this world's log: the reason that they give first
ought to be the value that decides for the user, which the world knows (`decisive_attribute` and `decisive_value` of
:attr:`DecisiveAttributeWorld.users`, and of `users.parquet`) and the model never reads.

The generative model. For each column a of :data:`ATTRIBUTES` that the shop has, an item i holds a set of values
:math:`A_a(i)` of size 1 … `most` of the column, all sizes alike. Its first value is dealt out like cards, so that
every value is the first of as many items as any other, up to one; the further ones are drawn uniformly from the other
values, without repetition. Columns are independent of each other, and so are price and title (a brand, a series and
a number) of all columns: neither tells an attribute.

A user u has one decisive pair: a column :math:`a_u`, uniform among the columns, and a value :math:`v_u`, uniform
among the column's values. With :math:`T_{ut}` the items that the user has taken before event t, the next one is i
with probability

.. math:: p_t(i \mid u) = \varphi \frac{[v_u \in A_{a_u}(i),\ i \notin T_{ut}]}
                                       {|\{j \notin T_{ut} : v_u \in A_{a_u}(j)\}|}
                          + (1 - \varphi) \frac{[i \notin T_{ut}]}{|\{j \notin T_{ut}\}|}

where φ is `faithfulness`: with probability φ any item that has the value, else any item at all, each uniformly and
nothing twice. Hence nothing else about an item matters, not even which of the items with the value were taken before.
At the last event φ is 1 if `decisive_last`. The number of a user's events is uniform in `min_events` … `max_events`,
their times are uniform in the log, and neither depends on anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from ...configuration.schema import DataSchema, InteractionSchema, ItemSchema, ModalitySchema, UserSchema
from ..data.prepared import Interactions, PreparedData, write_prepared
from . import item_texts
from .checks import check_ranges, events_about_to_happen
from .world import START


class Attribute(NamedTuple):
    """A categorical column of the catalog.

    Attributes:
        values: what may stand in it.
        most: values that an item has at most.
    """

    values: tuple[str, ...]
    most: int


ATTRIBUTES = {
    "category": Attribute(tuple(item_texts.CATEGORIES), 1),
    "style": Attribute(tuple(item_texts.STYLES), 1),
    "use": Attribute(tuple(item_texts.USES), 2),
    "material": Attribute(item_texts.MATERIALS, 2),
}
"""Columns that may decide, single-valued ones first."""

DECISIVE_COLUMNS = ("decisive_attribute", "decisive_value")
"""Columns of `users.parquet` that hold the truth. `schema.yaml` gives them no role, so nothing learns from them."""


@dataclass(frozen=True)
class DecisiveAttributeConfig:
    """What the world is made of. The same configuration gives the same world, byte for byte.

    Args:
        users: number of users, at least 1.
        items: number of items. Every value of every column must be shared by more items than a user may take, so at
            least (`max_events` + 1) × the number of values of the column that has most.
        attributes: columns of :data:`ATTRIBUTES` that items have and that may decide, at least one.
        min_events: events of a user at least, 3 or more: a history, a validation and a test event.
        max_events: events of a user at most.
        faithfulness: φ in [0, 1], how often the decisive value decides; 0: users choose blindly.
        decisive_last: whether it always decides at a user's last event, which the leave-one-out split tests on.
        days: length of the log, at least 1.
        seed: of everything random, at least 0.

    Raises:
        ValueError: if a value is outside its range, or a value of a column is shared by too few items.
    """

    users: int = 2_000
    items: int = 600
    attributes: tuple[str, ...] = tuple(ATTRIBUTES)
    min_events: int = 8
    max_events: int = 20
    faithfulness: float = 0.95
    decisive_last: bool = False
    days: int = 365
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "users": (1, np.inf), "items": (1, np.inf), "min_events": (3, self.max_events),
            "max_events": (3, np.inf), "faithfulness": (0, 1), "days": (1, np.inf), "seed": (0, np.inf),
        }  # fmt: skip
        check_ranges(self, ranges)
        unknown = [name for name in self.attributes if name not in ATTRIBUTES]
        if unknown or not self.attributes or len(set(self.attributes)) < len(self.attributes):
            raise ValueError(
                f"DecisiveAttributeConfig.attributes is {self.attributes}, expected some of {', '.join(ATTRIBUTES)}, "
                "once each."
            )
        column = max(self.attributes, key=lambda name: len(ATTRIBUTES[name].values))
        values = len(ATTRIBUTES[column].values)
        if self.items // values <= self.max_events:
            raise ValueError(
                f"{self.items} items share {values} values of {column!r}, {self.items // values} items a value at "
                f"least, and a user may take {self.max_events}: that exhausts it. Take items >= "
                f"{values * (self.max_events + 1)}, max_events < {self.items // values}, or attributes with fewer "
                "values."
            )


class DecisiveAttributeWorld:
    """Items, users with one decisive value each, and what they chose, made when the object is.

    Time grows with items × events, memory with users × items (nine bytes each while it is made).

    Args:
        config: what to make; the defaults give about 28,000 interactions.

    Attributes:
        items: the catalog: `item_id title`, a list of values in every column of `config.attributes`, and `price`.
        users: `user_id decisive_attribute decisive_value`.
        interactions: what users chose, the log that a recommender learns from.
        has_decisive_value: (users, items) bool, whether the item has the user's decisive value.
    """

    def __init__(self, config: DecisiveAttributeConfig | None = None) -> None:
        self.config = config = config or DecisiveAttributeConfig()
        for_items, for_users, for_log = np.random.default_rng(config.seed).spawn(3)
        carriers = self._make_items(for_items)
        self._make_users(for_users, carriers)
        self._make_log(for_log)

    def probabilities(self, users: np.ndarray | int, events: np.ndarray | int | None = None) -> np.ndarray:
        """p: probability that the user chooses each item, at one moment of its history.

        Args:
            users: (n,) user indices, or one.
            events: (n,) which interaction (0-based) is about to happen; as many as the user has, or `None`: one more,
                at the end of the log.

        Shape:
            - returns: (n, items) float64, rows sum to 1; (items,) for one user

        Raises:
            IndexError: if a user has fewer interactions than asked for.
        """
        rows, events = events_about_to_happen(self.interactions, users, events)
        taken = np.zeros((len(rows), self.config.items), dtype=bool)
        before = self.interactions.take(rows, first=events)
        taken[np.repeat(np.arange(len(rows)), before.lengths), before.items] = True
        law = self._law(rows, taken, events == self.interactions.lengths[rows] - 1)
        return law if np.ndim(users) else law[0]

    def prepared(self, folder: str | Path, overwrite: bool = False) -> PreparedData:
        """Write the log as a prepared data set and load it.

        Row numbers of the catalog and of the users are the world's indices. The truth is in the
        :data:`DECISIVE_COLUMNS` of the users, which have no role in the schema.

        Raises:
            FileExistsError: if `folder` exists and `overwrite` is false.
        """
        log = self.interactions
        users = np.repeat(np.arange(log.num_users), log.lengths)
        interactions = pl.DataFrame(
            {
                "user_id": self.users["user_id"].gather(users),
                "item_id": self.items["item_id"].gather(log.items),
                "position": (np.arange(len(users)) - log.offsets[users]).astype(np.int32),
                "timestamp": log.timestamps,
            }
        )
        kinds = {"title": "text", **dict.fromkeys(self.config.attributes, "categorical"), "price": "numerical"}
        schema = DataSchema(
            interactions=InteractionSchema(time="timestamp"),
            items=ItemSchema(title="title", modalities={name: ModalitySchema(kind) for name, kind in kinds.items()}),
            users=UserSchema(path="users.parquet"),
            source="simulation of decisive attributes",
        )
        stats = {
            "source": schema.source,
            "seed": self.config.seed,
            "faithfulness": self.config.faithfulness,
            "users": log.num_users,
            "items": log.num_items,
            "interactions": len(users),
        }
        write_prepared(folder, interactions, self.items, self.users, schema, stats, overwrite)
        return PreparedData.load(folder)

    def _make_items(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the catalog; returns which items have each value, (values, items) bool for every column."""
        n = self.config.items
        carriers = {name: _deal(ATTRIBUTES[name], n, generator) for name in self.config.attributes}
        brand = generator.integers(len(item_texts.BRANDS), size=n)
        series = generator.integers(len(item_texts.SERIES), size=n)
        number = generator.integers(1, 10, size=n)
        price = np.round(60 * np.exp(generator.normal(0, 0.7, size=n)), 2)
        self.items = pl.DataFrame(
            {
                "item_id": _ids("item", n),
                "title": [
                    f"{item_texts.BRANDS[brand[i]]} {item_texts.SERIES[series[i]]} {number[i]}" for i in range(n)
                ],
                **{
                    name: [[ATTRIBUTES[name].values[value] for value in np.flatnonzero(has)] for has in of_value.T]
                    for name, of_value in carriers.items()
                },
                "price": price,
            }
        )
        return carriers

    def _make_users(self, generator: np.random.Generator, carriers: dict[str, np.ndarray]) -> None:
        n = self.config.users
        names = [self.config.attributes[a] for a in generator.integers(len(self.config.attributes), size=n)]
        values = generator.integers([len(ATTRIBUTES[name].values) for name in names])
        self.users = pl.DataFrame(
            {
                "user_id": _ids("user", n),
                DECISIVE_COLUMNS[0]: names,
                DECISIVE_COLUMNS[1]: [ATTRIBUTES[name].values[v] for name, v in zip(names, values, strict=True)],
            }
        )
        self.has_decisive_value = np.stack([carriers[name][v] for name, v in zip(names, values, strict=True)])

    def _make_log(self, generator: np.random.Generator) -> None:
        """Let all users who have a t-th event choose at once, for t = 0, 1, …"""
        config = self.config
        lengths = generator.integers(config.min_events, config.max_events + 1, size=config.users)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        chosen = np.empty(offsets[-1], dtype=np.int32)
        taken = np.zeros((config.users, config.items), dtype=bool)
        for event in range(config.max_events):
            users = np.flatnonzero(lengths > event)
            law = self._law(users, taken[users], lengths[users] == event + 1)
            # The first to arrive of independent exponential times is i with probability rate_i / Σ rates.
            with np.errstate(divide="ignore"):
                items = (generator.exponential(size=law.shape) / law).argmin(axis=1)
            chosen[offsets[users] + event] = items
            taken[users, items] = True
        users = np.repeat(np.arange(config.users), lengths)
        times = START + (generator.random(len(users)) * (config.days * 86_400 - 1)).astype(np.int64)
        self.interactions = Interactions(
            offsets=offsets, items=chosen, num_items=config.items, timestamps=times[np.lexsort((times, users))]
        )

    def _law(self, users: np.ndarray, taken: np.ndarray, is_last: np.ndarray) -> np.ndarray:
        """p (n, items) of users (n,) who have taken the items `taken` (n, items) bool, at their last event or not."""
        free = ~taken
        decided = self.has_decisive_value[users] & free
        phi = np.where(is_last & self.config.decisive_last, 1.0, self.config.faithfulness)[:, None]
        any_with_it, any_at_all = (among / among.sum(axis=1, keepdims=True) for among in (decided, free))
        return phi * any_with_it + (1 - phi) * any_at_all


def _deal(attribute: Attribute, items: int, generator: np.random.Generator) -> np.ndarray:
    """(values, items) bool: the first value of each item dealt out evenly, the further ones drawn from the others."""
    values = len(attribute.values)
    first = generator.permutation(np.arange(items) % values)
    sizes = generator.integers(1, attribute.most + 1, size=items)
    order = generator.random((values, items))
    order[first, np.arange(items)] = -1.0
    return order.argsort(axis=0).argsort(axis=0) < sizes


def _ids(kind: str, count: int) -> list[str]:
    return [f"{kind}-{index:0{max(4, len(str(count - 1)))}d}" for index in range(count)]
