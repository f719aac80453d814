"""Why not this item: where it stands, what speaks for and against it, and what would have to change.

Every number is measured by scoring again: without a reason, with one more item in the history, with another γ′.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..modeling_llm4rec.recommendation import exclude, exclude_seen
from ..training.snapshot import Snapshot
from .recommending import Wish, model_inputs

TRIED_ITEMS = 24
"""Items most like it that are tried as one more choice."""

TRIED_POPULARITY = (-1.0, 0.0, 0.5, 1.0, 2.0)
MOST_CHANGES = 3


@dataclass
class Change:
    """Something that would move the item: what, and the place that it would then have."""

    kind: str
    name: str
    rank: int


@dataclass
class Answer:
    """Why an item stands where it does.

    Attributes:
        record: of its explanation.
        text: the same in words.
        wanted: the place up to which items are shown.
        threshold: score of the item at that place.
        changes: that would bring it up, the strongest of each kind first.
    """

    record: dict[str, Any]
    text: str
    wanted: int
    threshold: float | None
    changes: list[Change] = field(default_factory=list)

    @property
    def shown(self) -> bool:
        """Whether the item is on the list already."""
        return self.record["excluded"] is None and self.record["rank"] <= self.wanted


@torch.no_grad()
def why_not(snapshot: Snapshot, history: list[str], hidden: list[str], item_id: str, wish: Wish) -> Answer:
    """Ask about one item.

    Args:
        hidden: items that are not recommended.
        wish: of the list that it is missed in.

    Raises:
        ValueError: for an unknown item.
    """
    model, processor = snapshot.model, snapshot.processor
    item = processor.catalog.index(item_id)
    batch, options = model_inputs(snapshot, history, hidden, wish)
    best = model.recommend(**batch, k=wish.k, **options)
    explained = model.explain(**batch, items=torch.tensor([[item]]), **options)
    records = processor.decode_explanations(explained)
    last = best.scores[0][~best.scores[0].isneginf()]
    answer = Answer(
        record=records[0][0],
        text=processor.render_explanations(records, "detailed", wish.language)[0][0],
        wanted=wish.k,
        threshold=float(last[-1]) if len(last) else None,
    )
    if answer.record["excluded"] is None:
        rank = answer.record["rank"]
        found = [
            *_without_reasons(answer.record),
            *_with_one_more(snapshot, history, item, options),
            *_with_other_popularity(snapshot, history, item, options, wish),
        ]
        answer.changes = [change for change in found if change.rank < rank]
    return answer


def _without_reasons(record: dict[str, Any]) -> list[Change]:
    """Items of the history without which it would stand higher."""
    changes = [
        Change("without", piece["title"], piece["rank_without"])
        for piece in record["evidence"]
        if piece["kind"] == "history"
    ]
    return sorted(changes, key=lambda change: change.rank)[:MOST_CHANGES]


def _with_one_more(snapshot: Snapshot, history: list[str], item: int, options: dict[str, Any]) -> list[Change]:
    """Items most like it, each as one more choice: the place that it would then have."""
    table = torch.nn.functional.normalize(snapshot.model.model.item_table().float(), dim=-1)
    likeness = table @ table[item]
    catalog = snapshot.processor.catalog
    likeness[[item, *catalog.indices(history)]] = -torch.inf
    near = likeness.topk(min(TRIED_ITEMS, len(likeness))).indices
    ids = [catalog.item_ids[index] for index in near[likeness[near] > -torch.inf].tolist()]
    if not ids:
        return []
    ranks = _ranks(snapshot, [[*history, other] for other in ids], item, options)
    changes = [
        Change("with", catalog.title(catalog.index(other)), rank) for other, rank in zip(ids, ranks, strict=True)
    ]
    return sorted(changes, key=lambda change: change.rank)[:MOST_CHANGES]


def _with_other_popularity(
    snapshot: Snapshot, history: list[str], item: int, options: dict[str, Any], wish: Wish
) -> list[Change]:
    """The γ′, of a few that are tried, at which it would stand highest."""
    if not snapshot.has_popularity:
        return []
    tried = [value for value in TRIED_POPULARITY if value != wish.popularity]
    ranks = _ranks(snapshot, [history] * len(tried), item, options | {"popularity": torch.tensor(tried)})
    rank, value = min(zip(ranks, tried, strict=True))
    return [Change("popularity", f"{value:g}", rank)]


def _ranks(snapshot: Snapshot, histories: list[list[str]], item: int, options: dict[str, Any]) -> list[int]:
    """Place of an item among those that may be recommended, for each history."""
    batch = snapshot.processor(histories=histories, return_tensors="pt")
    told = {name: value for name, value in options.items() if name == "popularity"}
    scores = exclude(snapshot.model.score_items(**batch, **told), None, options["deny"])
    own = scores[:, item].clone()
    scores = exclude_seen(scores, snapshot.model._seen(batch["input_ids"], batch.get("seen_items")))
    return ((scores > own.unsqueeze(1)).sum(1) + 1).tolist()
