"""Roles of columns that nobody declared: recognised by name, then by content, and always said aloud.

Used by `sequences` and `table` when there is no schema. A guess becomes a note of the report, so that a wrong one can
be seen and put right in schema.yaml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ....configuration.schema import ItemSchema, ModalitySchema, UserSchema
from ..kinds import as_number, as_string
from .files import collect
from .raw import ROW, RawTable

USER_NAMES = ("user", "userid", "uid", "customer", "customerid", "reviewerid", "memberid", "visitorid", "client")
ITEM_NAMES = (
    "item", "itemid", "iid", "product", "productid", "sku", "parentasin", "asin", "movie", "movieid", "businessid",
    "articleid", "bookid", "isbn", "songid", "trackid", "placeid", "poiid", "venueid",
)  # fmt: skip
TIME_NAMES = (
    "timestamp", "time", "datetime", "date", "ts", "unixreviewtime", "timestampms", "eventtime", "createdat",
    "boughtat",
)  # fmt: skip
RATING_NAMES = ("rating", "ratings", "stars", "overall", "score", "rate")
TITLE_NAMES = ("title", "name", "label", "productname", "itemname", "movietitle", "headline")
SENSITIVE_NAMES = ("gender", "sex", "race", "ethnicity", "religion", "nationality", "orientation", "disability")

_PROSE_WORDS = 3
_VECTOR_LENGTH = 8
_SAMPLE = 5_000


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column whose name, without case and punctuation, comes first in `names`."""
    bare = {_bare(column): column for column in reversed(columns)}
    return next((bare[name] for name in names if name in bare), None)


def find_key(table: RawTable, ids: Collection[str], what: str) -> str:
    """The column whose values are the ids of the interactions.

    Raises:
        ValueError: if no column holds any of them.
    """
    known = pl.Series(list(ids), dtype=pl.String)
    frame = collect(table.frame.select(table.columns), table.file)
    best, best_score = None, (0.0, 0.0)
    for column in frame.columns:
        if isinstance(frame[column].dtype, (pl.List, pl.Array, pl.Struct)):
            continue
        values = as_string(frame[column]).str.strip_chars()
        covered = known.is_in(values.drop_nulls().unique().implode()).sum() / max(len(known), 1)
        score = (covered, values.n_unique() / max(len(values), 1))
        if covered > 0 and score > best_score:
            best, best_score = column, score
    if best is None:
        raise ValueError(
            f"{table.file}: no column holds the ids of the {what} (such as {', '.join(map(repr, known[:3]))}). "
            f"Columns: {', '.join(table.columns)}. Name the column in schema.yaml, or check that the files "
            "belong together."
        )
    return best


@dataclass
class _Guess:
    kind: str | None
    separator: str | None = None
    why: str = ""


def infer_items(table: RawTable, key: str) -> tuple[ItemSchema, list[str]]:
    """Item columns become modalities by what they hold; ids and links are carried along for display.

    Returns:
        the schema and one note that says what each column was taken for.
    """
    names = [c for c in table.columns if c != key]
    frame = collect(table.frame.select(ROW, *names), table.file)
    title = find_column(names, TITLE_NAMES)
    guesses = {name: _Guess("text", why="title") if name == title else _guess(frame[name]) for name in names}
    if title is None:
        title = next((name for name in names if guesses[name].kind == "text"), None)
    schema = ItemSchema(
        path=str(table.file),
        item=key,
        title=title,
        modalities={n: ModalitySchema(g.kind, g.separator) for n, g in guesses.items() if g.kind is not None},
        display=[n for n, g in guesses.items() if g.kind is None and g.why != "empty"],
    )
    said = [f"{name}: {guess.kind or 'display only'} ({guess.why})" for name, guess in guesses.items()]
    note = f"{table.file.name}: no schema, so the key was taken to be {key}; {'; '.join(said) or 'no other column'}."
    return schema, [note]


def infer_users(table: RawTable, key: str) -> tuple[UserSchema, list[str]]:
    """User columns with few distinct values become attributes; gender, religion and the like are sensitive."""
    names = [c for c in table.columns if c != key]
    frame = collect(table.frame.select(ROW, *names), table.file)
    plain = [n for n in names if not isinstance(frame[n].dtype, (pl.List, pl.Array, pl.Struct))]
    few = [n for n in plain if 1 < frame[n].n_unique() <= max(2, min(100, len(frame) // 2))]
    sensitive = [n for n in few if _bare(n) in SENSITIVE_NAMES]
    attributes = [n for n in few if n not in sensitive]
    note = (
        f"{table.file.name}: no schema, so the key was taken to be {key}, attributes "
        f"{', '.join(attributes) or 'none'}, sensitive {', '.join(sensitive) or 'none'}."
    )
    return UserSchema(path=str(table.file), user=key, attributes=attributes, sensitive=sensitive), [note]


def _guess(column: pl.Series) -> _Guess:
    name = column.name
    if isinstance(column.dtype, (pl.List, pl.Array)):
        return _guess_list(column.drop_nulls())
    if column.dtype in (pl.Boolean, pl.Categorical, pl.Enum):
        return _Guess("categorical", why="labels")
    if column.dtype.is_temporal():
        return _Guess("numerical", why="times")
    text = as_string(column).str.strip_chars()
    text = text.filter(text.is_not_null() & (text != ""))
    if text.is_empty():
        return _Guess(None, why="empty")
    distinct = text.n_unique() / len(text)
    text = text.head(_SAMPLE)
    if (guess := _guess_json(text)) is not None:
        return guess
    if re.search(r"(^|_)(id|asin|isbn|sku|uuid|key|url|link|path|image)$|[a-z](Id|ID|URL|Url)$", name, re.IGNORECASE):
        return _Guess(None, why="an identifier or a link by its name")
    if text.str.contains(r"^https?://").mean() > 0.5:
        return _Guess(None, why="links")
    numbers = as_number(text)[0].is_not_null().mean()
    if numbers < 1 and text.str.contains(r"^\d+( \d+)*$").mean() > 0.99:
        return _Guess("categorical", " ", why="numbers of labels separated by spaces")
    if numbers > 0.95:
        return _Guess("numerical", why="numbers")
    for separator in "|;":
        if text.str.contains(separator, literal=True).mean() > 0.2 and text.str.contains(r"https?://").mean() < 0.01:
            return _Guess("categorical", separator, why=f"labels separated by {separator!r}")
    words = text.str.count_matches(r"\S+").mean()
    if words >= _PROSE_WORDS and distinct > 0.3:
        return _Guess("text", why="prose")
    if distinct > 0.9 and len(text) > 20:
        return (
            _Guess(None, why="an identifier: a value of its own for nearly every item")
            if words < 1.5
            else _Guess("text", why="prose")
        )
    return _Guess("categorical", why="labels")


def _guess_list(lists: pl.Series) -> _Guess:
    lengths = lists.cast(pl.List(lists.dtype.inner)).list.len()
    if lists.dtype.inner.is_numeric() and lengths.n_unique() == 1 and lengths[0] >= _VECTOR_LENGTH:
        return _Guess("vector", why=f"{lengths[0]} numbers each")
    return _Guess("categorical", why="lists of labels")


def _guess_json(text: pl.Series) -> _Guess | None:
    if text.str.starts_with("[").mean() < 0.9:
        return None
    parsed = []
    for value in text.head(200):
        try:
            parsed.append(json.loads(value))
        except (ValueError, RecursionError):
            return None
    numeric = all(isinstance(v, list) and all(isinstance(x, (int, float)) for x in v) for v in parsed)
    if numeric and len({len(v) for v in parsed}) == 1 and len(parsed[0]) >= _VECTOR_LENGTH:
        return _Guess("vector", why=f"JSON lists of {len(parsed[0])} numbers")
    return _Guess("categorical", why="JSON lists of labels")


def find_table(folder: Path, names: Sequence[str], endings: Sequence[str]) -> Path | None:
    """The first file of `folder` called one of `names` with one of `endings`, plain or `.gz`."""
    for name in names:
        for end in endings:
            for candidate in (folder / f"{name}{end}", folder / f"{name}{end}.gz"):
                if candidate.is_file():
                    return candidate
    return None
