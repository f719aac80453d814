"""Whose history a command speaks of: item ids on the command line, or a user of a prepared data set.

Used by the commands that ask a model about one user.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ...modeling_llm4rec import TitleSearch

HistoryOption = Annotated[
    list[str] | None, typer.Option(help="Item ids or titles in time order, separated by commas; repeatable.")
]
RevisionOption = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a model on the Hub. Default: main.")
]
UserOption = Annotated[str | None, typer.Option(help="Take the history of this user of `--data`.")]
DataOption = Annotated[Path | None, typer.Option(help="Prepared data set of `--user`.")]
StyleOption = Annotated[str, typer.Option(help="short, detailed, contrastive or sceptical.")]
LanguageOption = Annotated[str, typer.Option(help="Language of explanations: en or de.")]
RetrievalOption = Annotated[
    bool, typer.Option("--retrieval/--no-retrieval", help="Load and ask the model's memory, if it has one.")
]
PopularityOption = Annotated[
    float | None,
    typer.Option(help="γ′, weight of popularity: 0 takes it out, more puts it in. Default: the model's."),
]


def check_whose(history: list[str] | None, user: str | None, data: Path | None) -> None:
    """Raise `typer.BadParameter` where a user is named by halves, or beside a history."""
    if (user is None) != (data is None):
        raise typer.BadParameter("--user and --data go together: the history is read from the prepared data set.")
    if user is not None and history:
        raise typer.BadParameter("Give either --history or --user, not both.")


def asked_model(
    name: str,
    retrieval: bool,
    history: list[str] | None,
    user: str | None,
    data: Path | None,
    revision: str | None = None,
) -> tuple[Any, Any, dict[str, list[Any]], Any, TitleSearch]:
    """What a command about one user starts from.

    Returns:
        the model, its processor, the user's events, the model's inputs, and what finds further items.

    Raises:
        FileNotFoundError, ValueError: if the model cannot be loaded, or an item or the user is not known.
    """
    from ...modeling_llm4rec import TitleSearch
    from ..load import load_recommender
    from ..online.published import load_version

    if revision is None and Path(name).expanduser().is_dir():  # where feedback was learned, its current version
        found = load_version(Path(name).expanduser(), retrieval=retrieval)
        recommender, processor = found.model, found.processor
    else:
        recommender, processor = load_recommender(name, retrieval, revision)
    titles = TitleSearch(processor.catalog)
    events = events_of(history, user, data, titles)
    batch = processor(**{name: [values] for name, values in events.items()}, return_tensors="pt")
    return recommender, processor, events, batch, titles


def events_of(
    history: list[str] | None, user: str | None, data: Path | None, titles: TitleSearch
) -> dict[str, list[Any]]:
    """`histories`, and `ratings` and `timestamps` where they are known, of one user.

    Raises:
        ValueError: if the data set has no such user; names the nearest.
    """
    return {"histories": ids_of(history, titles)} if user is None else _events_of_user(user, data)


def ids_of(values: list[str] | None, titles: TitleSearch) -> list[str]:
    """Ids of items as given on the command line, by id or title, one by one or separated by commas.

    Raises:
        TitleNotFoundError: for what names no item, or several.
    """
    known, ids = titles.catalog.item_ids, []
    for value in values or []:
        # An id or a title may hold a comma itself.
        whole = titles.find(value)
        parts = [part for part in value.split(",") if part.strip()] if whole is None else []
        ids += [known[whole]] if whole is not None else [known[titles.resolve(part)] for part in parts]
    return ids


def _events_of_user(user: str, folder: Path | None) -> dict[str, list[Any]]:
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
