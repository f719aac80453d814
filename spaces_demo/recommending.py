"""Recommending: from a visitor's history and sliders to a list with its evidence.

Called by `service.py`; the numbers come from the model, the words from the processor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..modeling_llm4rec.diversity import diversify
from ..training.snapshot import Snapshot

CANDIDATES_PER_ITEM = 5
"""Candidates among which a diverse list is chosen, for each of its items."""

FOUND = 5
"""Items of each source of the memory that are shown."""


@dataclass(frozen=True)
class Wish:
    """How a list shall be.

    Attributes:
        k: items.
        popularity: γ′; `None`: the model's own.
        diversity: λ of maximal marginal relevance, 0 to 1.
        style, language: of explanations.
    """

    k: int = 10
    popularity: float | None = None
    diversity: float = 0.0
    style: str = "short"
    language: str = "en"


@dataclass
class RecommendedList:
    """A list and why.

    Attributes:
        records: of the explanations, in the order of the list.
        texts: a sentence each.
        rows: what the catalog says of each item.
        retrieved: per item what each source of the memory found for it: `{source: {similarity, relevance, …}}`.
        found: per source the titles that it found for the visitor, with their relevance.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    retrieved: list[dict[str, dict[str, float]]] = field(default_factory=list)
    found: dict[str, list[tuple[str, float]]] = field(default_factory=dict)


def model_inputs(snapshot: Snapshot, history: list[str], hidden: list[str], wish: Wish) -> tuple[Any, dict[str, Any]]:
    """The batch of one history, and what `recommend` and `explain` are told beside it."""
    processor = snapshot.processor
    batch = processor(histories=[history], return_tensors="pt")
    known = [item for item in hidden if item in processor.catalog]
    options: dict[str, Any] = {"deny": processor.item_mask(known) if known else None}
    if snapshot.has_popularity:
        options["popularity"] = wish.popularity
    return batch, options


def recommend(snapshot: Snapshot, history: list[str], hidden: list[str], wish: Wish) -> RecommendedList:
    """The best items for a history, each with its measured reasons.

    Args:
        hidden: items that are not recommended.

    Raises:
        ValueError: for an unknown item, or a wish that the model cannot fulfil.
    """
    model, processor = snapshot.model, snapshot.processor
    batch, options = model_inputs(snapshot, history, hidden, wish)
    diverse = wish.diversity > 0
    k = wish.k * (CANDIDATES_PER_ITEM if diverse else 1)
    out = model.recommend(**batch, k=k, explain=not diverse, **options)
    context = out.retrieved
    if diverse:
        out = diversify(out, model.model.item_table().detach(), wish.k, wish.diversity)
        out.explanations = model.explain(**batch, items=out.items, **options)
    if not (out.items >= 0).any():
        return RecommendedList()
    records = processor.decode_explanations(out)
    items = [item for item in out.items[0].tolist() if item >= 0]
    return RecommendedList(
        records=records[0],
        texts=processor.render_explanations(records, wish.style, wish.language)[0],
        rows=[processor.catalog.row(item) for item in items],
        retrieved=[_retrieved_for(context, item) for item in items],
        found=_found(context, processor.catalog),
    )


def _retrieved_for(context: Any, item: int) -> dict[str, dict[str, float]]:
    if context is None:
        return {}
    parts = {}
    for place, source in enumerate(context.sources):
        at = (context.items[0, place] == item).nonzero().flatten().tolist()
        if at:
            parts[source] = {
                name: float(getattr(context, name)[0, place, at[0]])
                for name in ("similarity", "decay", "credibility", "relevance")
            }
    return parts


def _found(context: Any, catalog: Any) -> dict[str, list[tuple[str, float]]]:
    if context is None:
        return {}
    return {
        source: [
            (catalog.title(item), relevance)
            for item, relevance in zip(
                context.items[0, place, :FOUND].tolist(), context.relevance[0, place, :FOUND].tolist(), strict=True
            )
            if item >= 0
        ]
        for place, source in enumerate(context.sources)
    }
