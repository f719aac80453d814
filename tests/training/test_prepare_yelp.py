"""`prepare yelp`: the files of the Yelp Open Dataset."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from llm4rec.training.data.prepare import prepare
from llm4rec.training.data.prepared import PreparedData

REVIEWS = [
    {
        "review_id": "r1",
        "user_id": "u1",
        "business_id": "b1",
        "stars": 3.0,
        "text": "ok",
        "date": "2018-07-07 22:09:11",
    },
    {
        "review_id": "r2",
        "user_id": "u1",
        "business_id": "b2",
        "stars": 5.0,
        "text": "!",
        "date": "2012-01-03 15:28:18",
    },
]
BUSINESSES = [
    {
        "business_id": "b1", "name": "Turning Point", "city": "North Wales", "state": "PA", "latitude": 40.21,
        "longitude": -75.22, "stars": 3.0, "categories": "Restaurants, Breakfast & Brunch, Food", "hours": None,
    },
    {
        "business_id": "b2", "name": "Body Cycle", "city": "Philadelphia", "state": "PA", "latitude": 39.95,
        "longitude": -75.17, "stars": 5.0, "categories": None,
    },
]  # fmt: skip
USERS = [{"user_id": "u1", "name": "Daniel", "yelping_since": "2009-11-02 15:18:42", "average_stars": 3.7}]


def write(folder: Path, **tables: list[dict]) -> Path:
    for name, records in tables.items():
        content = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"yelp_academic_dataset_{name}.json").write_text(content)
    return folder


def test_businesses_become_items_and_dates_become_times(tmp_path: Path) -> None:
    prepare("yelp", write(tmp_path, review=REVIEWS, business=BUSINESSES, user=USERS), tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "interactions.parquet").rows() == [
        ("u1", "b2", 0, 1325604498, 5.0),
        ("u1", "b1", 1, 1531001351, 3.0),
    ]
    assert data.items.to_dicts()[0] == {
        "item_id": "b1",
        "title": "Turning Point",
        "categories": ["Restaurants", "Breakfast & Brunch", "Food"],
        "city": ["North Wales"],
        "state": ["PA"],
        "latitude": 40.21,
        "longitude": -75.22,
        "stars": 3.0,
    }
    assert data.users.to_dicts() == [{"user_id": "u1", "joined": "2009"}]


def test_the_mean_over_all_reviews_is_no_modality(tmp_path: Path) -> None:
    report = prepare("yelp", write(tmp_path, review=REVIEWS, business=BUSINESSES), tmp_path / "out")
    assert "stars" not in report.schema.items.modalities
    assert report.schema.items.display == ["stars"]


def test_a_missing_business_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"yelp_academic_dataset_business\.json not found: expected the businesses"
    ):
        prepare("yelp", write(tmp_path, review=REVIEWS), tmp_path / "out")
