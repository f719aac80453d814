r"""Faithfulness: do explanations name what really moved the score?

The judge never looks at how an effect was measured: it takes the order in which an explanation ranks the items of the
history, makes the shortened histories anew from the events, times and ratings included, and asks the model for
their scores. Asked of each user's best recommendation i, with :math:`\ln p` among the items that may be recommended:

- **deletion**: items of the history are taken away, the most supporting first; :math:`\ln p(i)` should fall faster
  than in a random order.
- **insertion**: items are put into an empty history, the most supporting first, in their places in time; it should
  rise faster than in a random order.

The area between the curves is a mean over shares 0, 1/10, …, 1 of the history (the deletion and insertion games of
Petsiuk et al., *RISE*, BMVC 2018, against a random control).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from ....modeling_llm4rec import Evidence, Explanation, LLM4RecForCausalLM, LLM4RecProcessor
from ....modeling_llm4rec.recommendation import MAX_SCORES_AT_ONCE
from ...data.prepared import Interactions
from ...data.sequences import history_batch, request_times
from ...trainer import ModelScorer
from ..intervals import Interval, bootstrap_interval

SHARES = np.linspace(0, 1, 11)
"""Shares of a history at which the curves are read."""

FEW = 3
"""Items that sufficiency keeps and necessity takes away."""

LEAST_HISTORY = 5
"""Distinct items of a history below which a user says nothing about the choice among them."""


USERS_AT_ONCE = 16
"""Users whose shortened histories are scored together."""


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
    seed: int = 0,
    progress: bool = False,
) -> Faithfulness:
    """Judge the explanation of each user's best recommendation.

    Args:
        histories: of the users, in the item indices of the model's catalog; the latest `max_history` events count, and
            items that an explanation does not rank come last.
        random_orders: that the control is a mean of.
        seed: of the random orders.
        progress: show a bar.

    Raises:
        ValueError: if no user has a history of `LEAST_HISTORY` distinct items.
    """
    generator = np.random.default_rng(seed)
    from_the_end = np.repeat(histories.offsets[1:], histories.lengths) - np.arange(len(histories.items))
    histories = histories.keep(from_the_end <= processor.max_history)
    users = np.array([u for u in range(histories.num_users) if len(np.unique(histories.history(u))) >= LEAST_HISTORY])
    if not len(users):
        raise ValueError(f"No user has a history of at least {LEAST_HISTORY} distinct items.")
    scorer = ModelScorer(model, processor)
    parts: list[dict[str, np.ndarray]] = []
    for some in tqdm(
        np.array_split(users, -(-len(users) // USERS_AT_ONCE)), desc="Judging explanations", disable=not progress
    ):
        parts.append(_judge(scorer, histories.take(some), random_orders, generator))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Faithfulness(users=users, **columns)


def _judge(
    scorer: ModelScorer, histories: Interactions, random_orders: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """The columns of :class:`Faithfulness` for some users."""
    best, explanations = explain_best(scorer, histories)
    plans, owners, kept = [], [], []
    for user, why in enumerate(explanations):
        items = np.unique(histories.history(user))
        ranked = [piece for piece in why.evidence if piece.kind == "history"]
        named = np.array([piece.item for piece in ranked], dtype=np.int64)
        order = np.concatenate([named, np.setdiff1d(items, named)])
        orders = [order, *(generator.permutation(items) for _ in range(random_orders))]
        counts = np.round(SHARES * len(items)).astype(int)
        other, few = generator.choice(order[1:]), generator.permutation(items)[:FEW]
        sets = [each[count:] for each in orders for count in counts]  # deletion
        sets += [each[:count] for each in orders for count in counts]  # insertion
        sets += [order[1:], np.setdiff1d(items, [other])]
        sets += [np.setdiff1d(items, order[:FEW]), np.setdiff1d(items, few), order[:FEW], few]
        plans.append(bool(ranked) and ranked[0].effect > 0)
        owners += [user] * len(sets)
        kept += sets
    logs, scores = _score(scorer, histories, np.array(owners), kept, best)
    shape, curves = (len(plans), -1), 2 * (1 + random_orders) * len(SHARES)
    logs, scores = logs.reshape(shape), scores.reshape(shape)
    deletion, insertion = logs[:, :curves].reshape(len(plans), 2, 1 + random_orders, len(SHARES)).swapaxes(0, 1)
    falls, score_falls = logs[:, :1] - logs[:, curves:], scores[:, :1] - scores[:, curves:]
    return {
        "deletion": deletion[:, 0],
        "random_deletion": deletion[:, 1:].mean(1),
        "insertion": insertion[:, 0],
        "random_insertion": insertion[:, 1:].mean(1),
        "cited_drop": falls[:, 0],
        "random_drop": falls[:, 1],
        "cited_score_drop": score_falls[:, 0],
        "random_score_drop": score_falls[:, 1],
        "necessity": falls[:, 2],
        "random_necessity": falls[:, 3],
        "sufficiency": falls[:, 4],
        "random_sufficiency": falls[:, 5],
        "supported": np.array(plans),
    }


def explain_best(scorer: ModelScorer, histories: Interactions) -> tuple[np.ndarray, list[Explanation]]:
    """(users,) the best recommendation for each history, and why."""
    model = scorer.model
    batch = {name: v.to(model.device) for name, v in history_batch(histories, scorer.processor).items()}
    out = model.recommend(**batch, k=1, request_time=request_times(histories), explain=True)
    return out.items[:, 0].cpu().numpy(), [user[0] for user in out.explanations]


def _score(
    scorer: ModelScorer, histories: Interactions, owners: np.ndarray, kept: list[np.ndarray], targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and raw score of each user's target among unseen items, with only some items of the history.

    Shape:
        - owners: (rows,) which history each shortened one is made from; kept: (rows,) the items that are left in it
        - targets: (histories,); returns: both (rows,)
    """
    shortened = histories.take(owners)
    left = [np.isin(histories.history(owner), items) for owner, items in zip(owners, kept, strict=True)]
    shortened = shortened.keep(np.concatenate(left))
    times = request_times(histories)
    logs, raw = np.empty(len(owners)), np.empty(len(owners))
    for start in range(0, len(owners), max(1, MAX_SCORES_AT_ONCE // histories.num_items)):
        rows = slice(start, min(len(owners), start + max(1, MAX_SCORES_AT_ONCE // histories.num_items)))
        whose = owners[rows]
        scores = scorer(shortened.rows(rows.start, rows.stop), None if times is None else times[whose]).double().cpu()
        for place, owner in enumerate(whose):
            scores[place, torch.from_numpy(histories.history(owner).astype(np.int64))] = -torch.inf
        own = scores[torch.arange(len(whose)), torch.from_numpy(targets[whose])]
        logs[rows], raw[rows] = (own - scores.logsumexp(-1)).numpy(), own.numpy()
    return logs, raw


def stability(first: Sequence[Explanation], second: Sequence[Explanation]) -> dict[str, float]:
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


def _key(piece: Evidence) -> tuple:
    return piece.kind, piece.item, piece.modality, piece.value, piece.source


__all__ = ["Faithfulness", "explain_best", "faithfulness", "stability"]
