"""`llm4rec recommend`: the best items for a history."""

from __future__ import annotations

from typing import Annotated

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

NAME = "recommend"
TITLE_WIDTH = 60


def command(
    model: Annotated[str, typer.Argument(help="Model folder or Hub id.")],
    history: HistoryOption = None,
    user: UserOption = None,
    data: DataOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also items of the history.")] = False,
    allow: Annotated[list[str] | None, typer.Option(help="Only these items, by id or title; repeatable.")] = None,
    deny: Annotated[list[str] | None, typer.Option(help="Never these items; repeatable.")] = None,
    retrieval: RetrievalOption = True,
    popularity: PopularityOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why, by what measurably moved each score.")] = False,
    style: StyleOption = "short",
    language: LanguageOption = "en",
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend for a history of item ids or titles (may be empty: a new user), or for a user of prepared data."""
    check_whose(history, user, data)
    console = Console(as_json)
    quiet_libraries()
    recommender, processor, events, batch, titles = asked_model(model, retrieval, history, user, data, revision)
    catalog = processor.catalog
    out = recommender.recommend(
        **batch,
        k=k,
        filter_seen=not include_seen,
        allow=processor.item_mask(ids_of(allow, titles)) if allow else None,
        deny=processor.item_mask(ids_of(deny, titles)) if deny else None,
        popularity=popularity,
        explain=explain,
    )
    items = processor.decode_items(out)[0]
    reasons: list[str] = []
    if explain:
        records = processor.decode_explanations(out)
        reasons = processor.render_explanations(records, style, language)[0]
        for item, record, reason in zip(items, records[0], reasons, strict=True):
            item["explanation"] = {"text": reason, **record}
    shown = [plain(catalog.title(index), TITLE_WIDTH) for index in catalog.indices(events["histories"])[-5:]]
    earlier = "… " if len(events["histories"]) > len(shown) else ""
    console.say(f"History: {earlier}{'; '.join(shown) or 'none, so this is for a user of whom nothing is known'}")
    if items:
        console.table(
            ["", "item", "title", "score"],
            [
                [place, item["item_id"], plain(item["title"], TITLE_WIDTH), item["score"]]
                for place, item in enumerate(items, 1)
            ],
        )
        for place, reason in enumerate(reasons, 1):
            console.say(f"{place}. {reason}")
    else:
        console.say("No item is left to recommend: all are in the history, denied or not allowed.")
    console.result({"history": events["histories"], "recommendations": items})
