"""`prepare amazon-reviews`: the files of 2014, 2018 and 2023."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from llm4rec.training.data.prepare import prepare
from llm4rec.training.data.prepared import PreparedData


def lines(*records: dict | str) -> bytes:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records).encode()


def review(user: str, asin: str, rating: float, time: int) -> dict:
    return {
        "reviewerID": user, "asin": asin, "overall": rating, "unixReviewTime": time, "reviewText": 'He said "no"',
        "helpful": [0, 1],
    }  # fmt: skip


def histories(folder: Path) -> list[tuple]:
    return pl.read_parquet(folder / "interactions.parquet").select("user_id", "item_id", "timestamp", "rating").rows()


META_2014 = (
    "{'asin': 'B000000001', 'title': 'Oils &amp; Balms', 'price': 12.5, 'brand': 'Anna', 'salesRank': {'Beauty': 3}, "
    "'related': {'also_bought': ['B000000002']}, 'categories': [['Beauty', 'Nails'], ['Beauty', \"Kids' Care\"]], "
    "'description': 'It\\'s good.'}"
)


def test_2014_metadata_in_python_literals_is_read_without_running_it(tmp_path: Path) -> None:
    raw, trap = tmp_path / "raw", tmp_path / "ran"
    raw.mkdir()
    (raw / "reviews_Beauty_5.json").write_bytes(
        lines(review("A1", "B000000001", 5.0, 1400000100), review("A1", "B000000002", 3.0, 1400000000))
    )
    attack = f"{{'asin': 'B000000002', 'title': __import__('os').mkdir({str(trap)!r})}}"
    (raw / "meta_Beauty.json.gz").write_bytes(gzip.compress(lines(META_2014, attack)))
    report = prepare("amazon-reviews", raw, tmp_path / "out")
    assert not trap.exists()
    assert histories(tmp_path / "out") == [
        ("A1", "B000000002", 1400000000, 3.0),
        ("A1", "B000000001", 1400000100, 5.0),
    ]
    assert PreparedData.load(tmp_path / "out").items.to_dicts() == [
        {
            "item_id": "B000000001", "title": "Oils & Balms", "brand": ["Anna"],
            "categories": ["Beauty", "Nails", "Kids' Care"], "price": 12.5, "description": "It's good.",
        },
        {
            "item_id": "B000000002", "title": None, "brand": None, "categories": None, "price": None,
            "description": None,
        },
    ]  # fmt: skip
    assert (report.stats["items_without_id"], report.stats["unknown_items"]) == (1, 1)


def test_2018_prices_that_are_page_fragments_are_missing(tmp_path: Path) -> None:
    (tmp_path / "Office_5.json.gz").write_bytes(
        gzip.compress(lines(review("A1", "B1", 5.0, 1514764800), review("A1", "B2", 4.0, 1514764801)))
    )
    common = {
        "category": ["Office", "Pens"],
        "brand": "",
        "description": ["One.", "Two."],
        "main_cat": "Office Products",
    }
    (tmp_path / "meta_Office.json.gz").write_bytes(
        gzip.compress(
            lines(
                {"asin": "B1", "title": "Pen", "price": "$1,299.99", **common},
                {
                    "asin": "B2",
                    "title": "Ink",
                    "price": ".a-box-inner{background-color:#fff}",
                    **common,
                    "category": [],
                },
            )
        )
    )
    report = prepare("amazon-reviews", tmp_path / "Office_5.json.gz", tmp_path / "out", strict=True)
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items.to_dicts() == [
        {
            "item_id": "B1", "title": "Pen", "brand": None, "categories": ["Office", "Pens"], "price": 1299.99,
            "description": "One. Two.",
        },
        {
            "item_id": "B2", "title": "Ink", "brand": None, "categories": ["Office Products"], "price": None,
            "description": "One. Two.",
        },
    ]  # fmt: skip
    assert report.stats["item_values_unreadable"] == 0


def test_2023_times_are_milliseconds_and_stores_are_brands(tmp_path: Path) -> None:
    (tmp_path / "All_Beauty.jsonl").write_bytes(
        lines(
            {
                "user_id": "U1",
                "parent_asin": "P1",
                "asin": "X",
                "rating": 5.0,
                "timestamp": 1588687728923,
                "text": "é",
            },
            {"user_id": "U1", "parent_asin": "P2", "asin": "Y", "rating": 1.0, "timestamp": 1588687700000, "text": ""},
        )
    )
    (tmp_path / "meta_All_Beauty.jsonl").write_bytes(
        lines(
            {
                "parent_asin": "P1", "title": "Gel", "main_category": "All Beauty", "categories": [], "price": 7.98,
                "store": "Howard", "description": [], "features": ["Soft.", "Small."], "average_rating": 4.8,
            },
            {
                "parent_asin": "P2", "title": "Bow", "main_category": None, "categories": ["A", "B"], "price": "None",
                "store": None, "description": ["Nice."], "features": [],
            },
        )
    )  # fmt: skip
    prepare("amazon-reviews", tmp_path, tmp_path / "out")
    assert histories(tmp_path / "out") == [("U1", "P2", 1588687700, 1.0), ("U1", "P1", 1588687728, 5.0)]
    assert pl.read_parquet(tmp_path / "out" / "items.parquet").to_dicts() == [
        {
            "item_id": "P1", "title": "Gel", "brand": ["Howard"], "categories": ["All Beauty"], "price": 7.98,
            "description": None, "features": "Soft. Small.",
        },
        {
            "item_id": "P2", "title": "Bow", "brand": None, "categories": ["A", "B"], "price": None,
            "description": "Nice.", "features": None,
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        "user_id,parent_asin,rating,timestamp,history\nAUSER0000000001,B000000001,5.0,1588687728923,B1 B2\n",
        "AUSER0000000001,B000000001,5.0,1588687728\n",
        "B000000001,AUSER0000000001,5.0,1588687728\n",
    ],
)
def test_rating_only_files_are_read_with_and_without_a_header(content: str, tmp_path: Path) -> None:
    (tmp_path / "Toys.csv").write_text(content)
    report = prepare("amazon-reviews", tmp_path, tmp_path / "out")
    assert histories(tmp_path / "out") == [("AUSER0000000001", "B000000001", 1588687728, 5.0)]
    assert any("items have only their ids" in note for note in report.notes)


def test_a_broken_json_line_is_skipped_and_shown(tmp_path: Path) -> None:
    (tmp_path / "Toys_5.json").write_bytes(
        lines(
            review("A1", "B1", 5.0, 1400000000),
            '{"reviewerID": "A2", "asin"',
            "",
            review("A3", "", 1.0, 1400000000),
            {**review("A4", "B1", 1.0, 1400000000), "asin": None},
            review("A5", "B1", float("nan"), 1400000000),
        )
    )
    report = prepare("amazon-reviews", tmp_path, tmp_path / "out")
    assert report.stats["rows_unparsable_by_column"] == {"malformed": 2, "asin": 2}
    assert report.stats["unparsable_examples"] == [
        """Toys_5.json, line 2: '{"reviewerID": "A2", "asin"' is no JSON object, expected one a line (no NaN).""",
        "Toys_5.json, line 4: column 'asin' is empty, expected an item id.",
        "Toys_5.json, line 5: column 'asin' is empty, expected an item id.",
        """Toys_5.json, line 6: '{"reviewerID": "A5", "asin": "B1", "overall": NaN, "unixRevi' """
        "is no JSON object, expected one a line (no NaN).",
    ]


def test_metadata_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "Toys_5.json").write_bytes(lines(review("A1", "B1", 5.0, 1400000000)))
    (tmp_path / "toys.json").write_bytes(lines({"asin": "B1", "title": "Ball"}))
    prepare("amazon-reviews", tmp_path / "raw", tmp_path / "out", items=tmp_path / "toys.json")
    assert pl.read_parquet(tmp_path / "out" / "items.parquet").rows() == [("B1", "Ball")]


def test_a_folder_of_two_categories_asks_which(tmp_path: Path) -> None:
    for name in ("Toys_5.json", "Beauty_5.json"):
        (tmp_path / name).write_bytes(lines(review("A1", "B1", 5.0, 1400000000)))
    with pytest.raises(FileNotFoundError, match=r"found Beauty_5\.json, Toys_5\.json\. Name the file"):
        prepare("amazon-reviews", tmp_path, tmp_path / "out")


def test_a_foreign_file_is_refused_by_its_fields(tmp_path: Path) -> None:
    (tmp_path / "Toys.jsonl").write_bytes(lines({"user": 1, "item": 2}))
    with pytest.raises(ValueError, match=r"have the fields user, item, expected reviewerID, asin"):
        prepare("amazon-reviews", tmp_path, tmp_path / "out")
