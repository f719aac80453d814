"""`llm4rec explain`: why an item is recommended, or why it is not."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .console import Console, JsonOption, plain, quiet_libraries
from .histories import (
    DataOption,
    HistoryOption,
    LanguageOption,
    PopularityOption,
    RetrievalOption,
    RevisionOption,
    StyleOption,
    UserOption,
    asked_model,
    check_whose,
    ids_of,
)

NAME = "explain"
SHOWN = 8
NAME_WIDTH = 60


def command(
    model: Annotated[str, typer.Argument(help="Model folder or Hub id.")],
    item: Annotated[
        list[str] | None,
        typer.Option(help="Items to explain, by id or title; repeatable. Default: what would be recommended."),
    ] = None,
    history: HistoryOption = None,
    user: UserOption = None,
    data: DataOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Without --item: how many recommendations to explain.")] = 3,
    retrieval: RetrievalOption = True,
    popularity: PopularityOption = None,
    style: StyleOption = "detailed",
    language: LanguageOption = "en",
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain the place of items for a history: each reason was taken away and the item scored again.

    An item that is not recommended is set against the best one that is: why not this, but that.
    """
    check_whose(history, user, data)
    console = Console(as_json)
    quiet_libraries()
    import torch

    from ...modeling_llm4rec.explanation_text import next_best, render_text

    recommender, processor, events, batch, titles = asked_model(model, retrieval, history, user, data, revision)
    catalog = processor.catalog
    wanted = ids_of(item, titles)
    best = recommender.recommend(**batch, k=k, popularity=popularity, explain=not wanted)
    against = None
    if wanted:
        rival = [one for one in best.items[0].tolist()[:1] if one >= 0]
        items = torch.tensor([catalog.indices(wanted) + rival])
        records = processor.decode_explanations(recommender.explain(**batch, items=items, popularity=popularity))[0]
        against = records.pop() if rival else None
    else:
        records = processor.decode_explanations(best)[0]
    explained = []
    for place, record in enumerate(records):
        other = next_best(records, place) if against is None else against
        if other is not None and other["item_id"] == record["item_id"]:
            other = None  # the best item, asked for by name
        text = render_text(record, style, language, other)
        why_not = ""
        if wanted and other is not None and not record["excluded"]:
            why_not = render_text(other, "contrastive", language, record)
        explained.append({"text": text, "why_not": why_not or None, **record})
        console.say(text)
        if why_not and style != "contrastive":
            console.say(why_not)
        _show(record, language, console)
        console.say()
    if not explained:
        console.say("No item is left to recommend: all are in the history.")
    console.result({"history": events["histories"], "explanations": explained})


def _show(record: dict[str, Any], language: str, console: Console) -> None:
    """The strongest evidence as a table."""
    from ...modeling_llm4rec.explanation_text import evidence_name

    pieces = sorted(record["evidence"], key=lambda piece: -abs(piece["effect"]))[:SHOWN]
    rows = [
        [
            plain(evidence_name(piece, language), NAME_WIDTH),
            piece["effect"],
            f"{piece['factor']:.2f}",
            f"{record['rank']:,} → {piece['rank_without']:,}",
            "" if piece.get("alpha") is None else f"{piece['alpha']:.2f}",
        ]
        for piece in pieces
    ]
    if rows:
        console.table(["reason", "effect", "times as likely", "place with → without", "α"], rows)
