"""`llm4rec recommend`: the best items for a history."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Console, JsonOption, plain, quiet_libraries

NAME = "recommend"
TITLE_WIDTH = 60


def command(
    model: Annotated[str, typer.Argument(help="Model folder or Hub id.")],
    history: Annotated[
        list[str] | None,
        typer.Option(help="Item ids in time order, separated by commas; repeatable."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Take the history of this user of `--data`.")] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared data set of `--user`.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also items of the history.")] = False,
    allow: Annotated[list[str] | None, typer.Option(help="Only these item ids, comma-separated; repeatable.")] = None,
    deny: Annotated[list[str] | None, typer.Option(help="Never these item ids, comma-separated; repeatable.")] = None,
    retrieval: Annotated[
        bool, typer.Option("--retrieval/--no-retrieval", help="Load and ask the model's memory, if it has one.")
    ] = True,
    popularity: Annotated[
        float | None,
        typer.Option(help="γ′, weight of popularity: 0 takes it out, more puts it in. Default: the model's."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend items for a history of item ids (may be empty: a new user), or for a user of a prepared data set."""
    if (user is None) != (data is None):
        raise typer.BadParameter("--user and --data go together: the history is read from the prepared data set.")
    if user is not None and history:
        raise typer.BadParameter("Give either --history or --user, not both.")
    console = Console(as_json)
    quiet_libraries()
    from ..load import load_recommender

    recommender, processor = load_recommender(model, retrieval)
    catalog = processor.catalog
    events: dict[str, list[Any]] = {"histories": _ids(history, catalog)}
    if user is not None:
        events = _events_of(user, data)
    batch = processor(**{name: [values] for name, values in events.items()}, return_tensors="pt")
    out = recommender.recommend(
        **batch,
        k=k,
        filter_seen=not include_seen,
        allow=processor.item_mask(_ids(allow, catalog)) if allow else None,
        deny=processor.item_mask(_ids(deny, catalog)) if deny else None,
        popularity=popularity,
    )
    items = processor.decode_items(out)[0]
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
    else:
        console.say("No item is left to recommend: all are in the history, denied or not allowed.")
    console.result({"history": events["histories"], "recommendations": items})


def _ids(values: list[str] | None, catalog: Any) -> list[str]:
    ids = []
    for value in values or []:
        # An id may hold a comma itself.
        ids += [value] if value in catalog else [part.strip() for part in value.split(",") if part.strip()]
    return ids


def _events_of(user: str, folder: Path | None) -> dict[str, list[Any]]:
    import numpy as np

    from ..data.prepared import PreparedData

    data = PreparedData.load(folder)
    rows = np.flatnonzero((data.users["user_id"] == user).to_numpy())
    if not len(rows):
        near = difflib.get_close_matches(user, data.users["user_id"].to_list()[:50_000], n=3, cutoff=0.0)
        raise ValueError(f"{folder} has no user {user!r}. Nearest known: {', '.join(near)}.")
    events = slice(*data.interactions.offsets[rows[0] : rows[0] + 2])
    found: dict[str, list[Any]] = {
        "histories": data.items["item_id"].gather(data.interactions.items[events]).to_list()
    }
    if data.interactions.ratings is not None:
        found["ratings"] = data.interactions.ratings[events].tolist()
    if data.interactions.timestamps is not None:
        found["timestamps"] = data.interactions.timestamps[events].tolist()
    return found
