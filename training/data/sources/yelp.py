"""The Yelp Open Dataset: `yelp_academic_dataset_review.json`, `…_business.json`, `…_user.json`.

Items are businesses: name, categories, city, state, latitude, longitude. `stars` of a business is the mean over all
its reviews, those of the test period included; it is kept for display and is no modality. Of users only the year in
which they joined is read: their other fields are counts over all times.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ....configuration.schema import DataSchema, ItemSchema, ModalitySchema, UserSchema
from .files import json_keys, read_json_records, require_file, require_folder, scan_json_lines
from .raw import RawData, RawTable, ReadOptions

_PREFIX = "yelp_academic_dataset_"
_BUSINESS = ("business_id", "name", "categories", "city", "state", "latitude", "longitude", "stars")


def read_yelp(path: Path, options: ReadOptions) -> RawData:
    """Read a Yelp folder, or the review file inside it.

    Raises:
        FileNotFoundError: if the folder holds no review file or no business file.
    """
    folder = path.parent if path.is_file() else require_folder(path, "a folder with the Yelp JSON files")
    reviews_path = path if path.is_file() else _find(folder, "review", "the reviews")
    reviews = scan_json_lines(reviews_path, ["user_id", "business_id", "stars", "date"])
    keys = json_keys(reviews_path)
    missing = [key for key in ("user_id", "business_id", "stars", "date") if key not in keys]
    if missing:
        raise ValueError(
            f"{reviews_path}: no field {missing[0]!r}; fields: {', '.join(keys)}. Expected Yelp reviews (user_id, "
            "business_id, stars, date)."
        )
    business_path = options.items or _find(folder, "business", "the businesses")
    business = read_json_records(require_file(business_path, "the businesses"), _BUSINESS)
    modalities = {
        "title": ModalitySchema("text"),
        "categories": ModalitySchema("categorical", ","),
        "city": ModalitySchema("categorical"),
        "state": ModalitySchema("categorical"),
        "latitude": ModalitySchema("numerical"),
        "longitude": ModalitySchema("numerical"),
    }
    items = ItemSchema(business_path.name, "item_id", "title", modalities, display=["stars"])
    renamed = business.rename(
        {
            "item_id": "business_id",
            "title": "name",
            **{name: name for name in [*modalities, "stars"] if name != "title"},
        }
    )
    stars = pl.col("stars").cast(pl.Float64, strict=False)
    data = RawData(
        interactions=reviews.rename(
            {"user_id": "user_id", "item_id": "business_id", "rating": "stars", "timestamp": "date"}
        ),
        items=RawTable(renamed.frame.with_columns(stars), renamed.file, renamed.places, renamed.names),
        schema=DataSchema(items=items, source="yelp"),
    )
    users_path = next((p for p in _candidates(folder, "user") if p.is_file()), None)
    if users_path is not None:
        users = scan_json_lines(users_path, ["user_id", "yelping_since"]).rename(
            {"user_id": "user_id", "joined": "yelping_since"}
        )
        frame = users.frame.with_columns(pl.col("joined").str.slice(0, 4))
        data.users = RawTable(frame, users.file, users.places, users.names)
        data.schema.users = UserSchema(users_path.name, "user_id", ["joined"])
    return data


def _candidates(folder: Path, table: str) -> list[Path]:
    names = [f"{prefix}{table}.{end}" for prefix in (_PREFIX, "") for end in ("json", "json.gz", "jsonl", "jsonl.gz")]
    return [folder / name for name in names]


def _find(folder: Path, table: str, what: str) -> Path:
    found = next((p for p in _candidates(folder, table) if p.is_file()), None)
    return found or require_file(folder / f"{_PREFIX}{table}.json", what)
