r"""Faithfulness: do explanations name what really moved the score?

The judge never looks at how an effect was measured: it takes the order in which an explanation ranks the items of the
history, makes the shortened histories anew with the processor, times and ratings included, and asks the model for
their scores. Asked of each user's best recommendation i, with :math:`\ln p` among the items that may be recommended:

- **deletion**: items of the history are taken away, the most supporting first; :math:`\ln p(i)` should fall faster
  than in a random order.
- **insertion**: items are put into an empty history, the most supporting first, in their places in time; it should
  rise faster than in a random order.

The area between the curves is a mean over shares 0, 1/10, …, 1 of the history (the deletion and insertion games of
Petsiuk et al., *RISE*, BMVC 2018, against a random control).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ....modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ...data.prepared import Interactions
from ..intervals import Interval, bootstrap_interval

SHARES = np.linspace(0, 1, 11)
"""Shares of a history at which the curves are read."""

FEW = 3
"""Items that sufficiency keeps and necessity takes away."""

LEAST_HISTORY = 5
"""Distinct items of a history below which a user says nothing about the choice among them."""


@dataclass
class Faithfulness:
    """What was measured, a row a user whose history holds at least `LEAST_HISTORY` distinct items.

    Attributes:
        users: (n,) rows of the interactions.
        deletion, insertion, random_deletion, random_insertion: (n, 11) log-probability of the recommended item at each
            of `SHARES`; the random ones are means over several orders.
        cited_drop, random_drop: (n,) fall of the log-probability without the first item of the explanation, and
            without a random other one.
        cited_score_drop, random_score_drop: (n,) the same of the raw score.
        necessity, random_necessity: (n,) fall without the first three; sufficiency, random_sufficiency: (n,) fall when
            only they are left.
        supported: (n,) bool, whether the explanation names an item of the history in support at all.
    """

    users: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    random_deletion: np.ndarray
    random_insertion: np.ndarray
    cited_drop: np.ndarray
    random_drop: np.ndarray
    cited_score_drop: np.ndarray
    random_score_drop: np.ndarray
    necessity: np.ndarray
    random_necessity: np.ndarray
    sufficiency: np.ndarray
    random_sufficiency: np.ndarray
    supported: np.ndarray
    explanations: list[Any] = field(default_factory=list, repr=False)

    @property
    def deletion_area(self) -> np.ndarray:
        """(n,) by how much deletion in the explanation's order lies below the random control, in nats."""
        return (self.random_deletion - self.deletion).mean(1)

    @property
    def insertion_area(self) -> np.ndarray:
        """(n,) by how much insertion in the explanation's order lies above the random control, in nats."""
        return (self.insertion - self.random_insertion).mean(1)

    def intervals(self, seed: int = 0) -> dict[str, Interval]:
        """Means over users, with 95 % bootstrap intervals.

        `deletion_wins`: share of users whose cited item costs more than a random other one; `deletion_wins_score`: by
        raw score; areas, necessity and sufficiency in nats (necessity: larger is better; sufficiency: smaller).
        """
        values = {
            "deletion_wins": self.cited_drop > self.random_drop,
            "deletion_wins_score": self.cited_score_drop > self.random_score_drop,
            "deletion_area": self.deletion_area,
            "insertion_area": self.insertion_area,
            "cited_drop": self.cited_drop,
            "random_drop": self.random_drop,
            "necessity": self.necessity,
            "random_necessity": self.random_necessity,
            "sufficiency": self.sufficiency,
            "random_sufficiency": self.random_sufficiency,
            "cites_history": self.supported,
        }
        return {name: bootstrap_interval(np.asarray(v, dtype=np.float64), seed=seed) for name, v in values.items()}


def faithfulness(
    model: LLM4RecForCausalLM,
    processor: LLM4RecProcessor,
    histories: Interactions,
    *,
    random_orders: int = 2,
    max_removals: int = 50,
    seed: int = 0,
    users_at_once: int = 16,
    progress: bool = False,
) -> Faithfulness:
    """Judge the explanation of each user's best recommendation.

    Args:
        histories: of the users, in the item indices of the model's catalog; the latest `max_history` events count.
        random_orders: that the control is a mean of.
        max_removals: as of `explain`; items of the history that an explanation does not rank come last.
        seed: of the random orders.
        users_at_once: users whose shortened histories are scored together.

    Raises:
        ValueError: if no user has a history of `LEAST_HISTORY` distinct items.
    """
    generator = np.random.default_rng(seed)
    parts: list[dict[str, np.ndarray]] = []
    users, explanations = [], []
    starts = range(0, histories.num_users, users_at_once)
    for start in tqdm(starts, desc="Judging explanations", disable=not progress):
        chosen, events = [], []
        for user in range(start, min(start + users_at_once, histories.num_users)):
            part = histories.take(np.array([user]))
            keep = slice(max(0, len(part.items) - processor.max_history), None)
            if len(np.unique(part.items[keep])) >= LEAST_HISTORY:
                chosen.append(user)
                events.append(_Events.of(part, keep))
        if chosen:
            rows, made = _judge(model, processor, events, random_orders, max_removals, generator)
            parts.append(rows)
            users += chosen
            explanations += made
    if not users:
        raise ValueError(f"No user has a history of at least {LEAST_HISTORY} distinct items.")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Faithfulness(users=np.array(users), explanations=explanations, **columns)


@dataclass
class _Events:
    """One user's events."""

    items: np.ndarray
    ratings: np.ndarray | None
    timestamps: np.ndarray | None

    @classmethod
    def of(cls, part: Interactions, keep: slice) -> _Events:
        return cls(
            part.items[keep],
            None if part.ratings is None else part.ratings[keep],
            None if part.timestamps is None else part.timestamps[keep],
        )

    def row(self, processor: LLM4RecProcessor, kept: np.ndarray) -> dict[str, list[int]]:
        """The model's input with only the items `kept`."""
        mask = np.isin(self.items, kept)
        return processor.encode_history(
            self.items[mask],
            None if self.ratings is None else self.ratings[mask],
            None if self.timestamps is None else self.timestamps[mask],
        )


def _judge(
    model: LLM4RecForCausalLM,
    processor: LLM4RecProcessor,
    events: Sequence[_Events],
    random_orders: int,
    max_removals: int,
    generator: np.random.Generator,
) -> tuple[dict[str, np.ndarray], list[Any]]:
    distinct = [np.unique(one.items) for one in events]
    batch = processor._pad([one.row(processor, items) for one, items in zip(events, distinct, strict=True)], "pt")
    best = model.recommend(**batch, k=1).items
    made = [user[0] for user in model.explain(**batch, items=best, max_removals=max_removals)]
    targets = best[:, 0].numpy()
    rows, owners, kept_sets = [], [], []
    plans = []
    for user, (one, items, why) in enumerate(zip(events, distinct, made, strict=True)):
        ranked = [piece for piece in why.evidence if piece.kind == "history"]
        named = np.array([piece.item for piece in ranked], dtype=np.int64)
        order = np.concatenate([named, np.setdiff1d(items, named)])
        orders = [order, *(generator.permutation(items) for _ in range(random_orders))]
        counts = np.round(SHARES * len(items)).astype(int)
        other = generator.choice(order[1:])
        random_few = generator.permutation(items)[:FEW]
        kept = [each[count:] for each in orders for count in counts]  # deletion
        kept += [each[:count] for each in orders for count in counts]  # insertion
        kept += [order[1:], np.setdiff1d(items, [other])]
        kept += [np.setdiff1d(items, order[:FEW]), np.setdiff1d(items, random_few), order[:FEW], random_few]
        plans.append((len(orders), len(kept), bool(ranked) and ranked[0].effect > 0))
        rows += [one.row(processor, some) for some in kept]
        owners += [user] * len(kept)
        kept_sets += kept
    logs, scores = _score(model, processor, rows, np.array(owners), targets, distinct)
    columns: dict[str, list] = {}
    position = 0
    for orders, count, supported in plans:
        mine, raw = logs[position : position + count], scores[position : position + count]
        position += count
        curves = mine[: 2 * orders * len(SHARES)].reshape(2, orders, len(SHARES))
        full, full_score = curves[0, 0, 0], raw[0]
        last = mine[-6:]
        row = {
            "deletion": curves[0, 0],
            "random_deletion": curves[0, 1:].mean(0),
            "insertion": curves[1, 0],
            "random_insertion": curves[1, 1:].mean(0),
            "cited_drop": full - last[0],
            "random_drop": full - last[1],
            "cited_score_drop": full_score - raw[-6],
            "random_score_drop": full_score - raw[-5],
            "necessity": full - last[2],
            "random_necessity": full - last[3],
            "sufficiency": full - last[4],
            "random_sufficiency": full - last[5],
            "supported": supported,
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in columns.items()}, made


def _score(
    model: LLM4RecForCausalLM,
    processor: LLM4RecProcessor,
    rows: list[dict[str, list[int]]],
    owners: np.ndarray,
    targets: np.ndarray,
    seen: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and raw score of each row's target among the items that its user has not seen."""
    logs, raw = np.empty(len(rows)), np.empty(len(rows))
    for part in _by_length(rows):
        batch = processor._pad([rows[row] for row in part], "pt")
        with torch.no_grad():
            scores = model.score_items(**batch).double()
        for place, row in enumerate(part):
            scores[place, torch.from_numpy(np.asarray(seen[owners[row]], dtype=np.int64))] = -torch.inf
        own = scores[torch.arange(len(part)), torch.from_numpy(targets[owners[part]])]
        logs[part], raw[part] = (own - scores.logsumexp(-1)).numpy(), own.numpy()
    return logs, raw


def _by_length(rows: list[dict[str, list[int]]], tokens: int = 2**15) -> Iterator[np.ndarray]:
    """Rows in batches of similar length and a bounded number of tokens."""
    lengths = np.array([len(row["input_ids"]) for row in rows])
    order = lengths.argsort(kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= tokens:
            stop += 1
        yield order[start:stop]
        start = stop


def stability(first: Sequence[Any], second: Sequence[Any]) -> dict[str, float]:
    """Whether two explanations of the same recommendations agree.

    Args:
        first, second: [`Explanation`]s of the same items for the same users.

    Returns:
        `same_top`: share whose strongest evidence is the same; `largest_change`: of any effect, in nats.
    """
    same, change = [], 0.0
    for one, other in zip(first, second, strict=True):
        keys = [{_key(piece): piece.effect for piece in each.evidence} for each in (one, other)]
        same.append(bool(one.evidence) and _key(one.evidence[0]) == _key(other.evidence[0]))
        change = max([change, *(abs(keys[0].get(k, 0.0) - keys[1].get(k, 0.0)) for k in keys[0] | keys[1])])
    return {"same_top": float(np.mean(same)), "largest_change": change}


def _key(piece: Any) -> tuple:
    return piece.kind, piece.item, piece.modality, piece.value, piece.source


__all__ = ["Faithfulness", "faithfulness", "stability"]
