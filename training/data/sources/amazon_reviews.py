"""Amazon Reviews of the McAuley lab: 2014 and 2018 (5-core or full JSON), 2023 (JSON Lines or rating-only CSV).

The year is recognised by the fields of the review file. Metadata is the file `meta_*` of the same category beside it,
or named by the caller; items: title, brand, categories, price, description and, in 2023, features.

Not read, because they are counted over all times and so tell about test events: `average_rating`, `rating_number`,
sales ranks and the also-bought lists.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from ....configuration.schema import DataSchema, ItemSchema, ModalitySchema
from .files import (
    CSV_ENDINGS,
    JSON_ENDINGS,
    ending,
    json_keys,
    open_text,
    read_json_records,
    require_file,
    require_folder,
    scan_csv,
    scan_headless,
    scan_json_lines,
    stem,
)
from .raw import RawData, RawTable, ReadOptions

# Fields of a review and of its item by year: user, item, rating, time.
_REVIEWS_2014_2018 = ("reviewerID", "asin", "overall", "unixReviewTime")
_REVIEWS_2023 = ("user_id", "parent_asin", "rating", "timestamp")
_ROLES = ("user_id", "item_id", "rating", "timestamp")

_META_FIELDS = (
    "asin", "parent_asin", "title", "brand", "store", "category", "categories", "main_category", "main_cat", "price",
    "description", "features",
)  # fmt: skip


def read_amazon_reviews(path: Path, options: ReadOptions) -> RawData:
    """Read a review file, or a folder with one.

    Raises:
        FileNotFoundError: if there is no review file, or several to choose from.
        ValueError: if its fields are those of no known year.
    """
    file = path if path.is_file() else _only_review_file(path)
    notes: list[str] = []
    interactions = _read_reviews(file, notes)
    data = RawData(interactions, DataSchema(source="amazon-reviews"), notes=notes)
    meta = require_file(options.items, "the metadata file") if options.items is not None else _find_metadata(file)
    if meta is None:
        data.notes.append(
            f"No metadata beside {file.name} (meta_{_category(file)}.json.gz or .jsonl.gz): items have only their ids."
        )
        return data
    data.items = _read_metadata(meta)
    modalities = {
        "title": ModalitySchema("text"),
        "brand": ModalitySchema("categorical"),
        "categories": ModalitySchema("categorical"),
        "price": ModalitySchema("numerical"),
        "description": ModalitySchema("text"),
        "features": ModalitySchema("text"),
    }
    present = data.items.columns
    modalities = {name: modality for name, modality in modalities.items() if name in present}
    data.schema.items = ItemSchema(path=meta.name, item="item_id", title="title", modalities=modalities)
    return data


def _is_metadata(path: Path) -> bool:
    return path.name.lower().startswith("meta")


def _only_review_file(folder: Path) -> Path:
    require_folder(folder, "an Amazon review file or a folder with one")
    found = sorted(p for p in folder.iterdir() if ending(p) in (".csv", *JSON_ENDINGS) and not _is_metadata(p))
    # The same reviews are often there twice, packed and unpacked, or with and without their texts.
    best: dict[str, Path] = {}
    for candidate in found:
        current = best.get(_category(candidate))
        if current is None or ending(current) == ".csv":
            best[_category(candidate)] = candidate
    if len(best) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise FileNotFoundError(
            f"{folder}: expected one review file (.json, .jsonl, .csv), found {names}. Name the file."
        )
    return next(iter(best.values()))


def _category(path: Path) -> str:
    """`Beauty` for `reviews_Beauty_5.json.gz`, `Beauty_5.json`, `meta_Beauty.jsonl`, `ratings_Beauty.csv`."""
    name = re.sub(r"^(reviews|ratings|meta)_", "", stem(path), flags=re.IGNORECASE)
    return re.sub(r"_5$", "", name)


def _find_metadata(reviews: Path) -> Path | None:
    candidates = sorted(p for p in reviews.parent.iterdir() if _is_metadata(p) and ending(p) in JSON_ENDINGS)
    same = [p for p in candidates if _category(p).lower() == _category(reviews).lower()]
    return next(iter(same), None)


def _read_reviews(file: Path, notes: list[str]) -> RawTable:
    if ending(file) in CSV_ENDINGS:
        return _read_ratings_csv(file, notes)
    keys = json_keys(file)
    for fields in (_REVIEWS_2014_2018, _REVIEWS_2023):
        if set(fields) <= set(keys):
            return scan_json_lines(file, fields).rename(dict(zip(_ROLES, fields, strict=True)))
    raise ValueError(
        f"{file}: its records have the fields {', '.join(keys[:12])}, expected {', '.join(_REVIEWS_2014_2018)} (2014, "
        f"2018) or {', '.join(_REVIEWS_2023)} (2023). For another layout use the source `table`."
    )


def _read_ratings_csv(file: Path, notes: list[str]) -> RawTable:
    """2023 with a header; 2014 and 2018 without, and with user and item in opposite orders."""
    with open_text(file) as lines:
        first = lines.readline().strip().split(",")
    if set(_REVIEWS_2023) <= set(first):
        return scan_csv(file).rename(dict(zip(_ROLES, _REVIEWS_2023, strict=True)))
    if len(first) != 4 or not re.fullmatch(r"\d+(\.\d+)?", first[2]):
        raise ValueError(
            f"{file}, line 1: holds {','.join(first)!r}, expected the header {','.join(_REVIEWS_2023)} (2023) or four "
            "fields without a header (2014: user,item,rating,time; 2018: item,user,rating,time)."
        )
    # ASINs have ten characters; the ids of reviewers have more.
    user_first = len(first[0]) > len(first[1])
    order = ("user_id", "item_id") if user_first else ("item_id", "user_id")
    notes.append(f"{file.name} has no header: read as {order[0]}, {order[1]}, rating, timestamp.")
    return scan_headless(file, [*order, "rating", "timestamp"], ",")


def _read_metadata(file: Path) -> RawTable:
    keys = json_keys(file)
    key = next((name for name in ("parent_asin", "asin") if name in keys), None)
    if key is None or "title" not in keys:
        raise ValueError(
            f"{file}: its records have the fields {', '.join(keys[:12])}, expected `title` and "
            "`asin` or `parent_asin`."
        )
    raw = read_json_records(file, [field for field in _META_FIELDS if field in keys])
    there = set(raw.columns)

    def first_filled(*fields: str) -> pl.Expr:
        return pl.coalesce(*[pl.when(pl.col(f) != "").then(pl.col(f)) for f in fields if f in there], pl.lit(None))

    columns = {"item_id": pl.col(key), "title": pl.col("title")}
    if there & {"brand", "store"}:
        columns["brand"] = first_filled("brand", "store")
    if there & {"category", "categories", "main_category", "main_cat"}:
        lists = [
            pl.when(~pl.col(f).is_in(["", "[]"])).then(pl.col(f)) for f in ("category", "categories") if f in there
        ]
        columns["categories"] = pl.coalesce(*lists, first_filled("main_category", "main_cat"))
    if "price" in there:
        # "$1,299.99" is a price; what is none (page fragments in 2018, "None" in 2023) is missing.
        amount = pl.col("price").str.extract(r"^\s*\$?\s*(\d[\d,]*(?:\.\d+)?)\s*$", 1)
        columns["price"] = amount.str.replace_all(",", "")
    columns.update({prose: pl.col(prose) for prose in ("description", "features") if prose in there})
    frame = raw.frame.with_columns(**columns)
    names = {"item_id": key}
    return RawTable(frame, raw.file, raw.places, names).rename({name: name for name in columns})
