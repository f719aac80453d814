"""`prepare sequences`: a line a user, items in time order."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from llm4rec.training.data.prepare import prepare
from llm4rec.training.data.prepared import PreparedData

ITEMS = (
    "row,s3rec_id,asin,title,category_paths_json,short_text_id,s3rec_attribute_ids\n"
    '101,1,B00A,"Oils &amp; Balms, red","[[""Beauty"", ""Nails""], [""Beauty"", ""Oils &amp; Balms""]]",oils,7 3\n'
    '102,2,B00B,Second one here,"[[""Beauty""]]",second,3\n'
    "103,3,B00C,Third one here,,third,4 3\n"
)


def make(folder: Path, lines: str, items: str | None = ITEMS) -> Path:
    folder.mkdir()
    (folder / "sequences.txt").write_text(lines)
    if items is not None:
        (folder / "items.csv").write_text(items)
    return folder


def test_events_keep_the_order_of_the_line_and_repetitions_are_kept(tmp_path: Path) -> None:
    report = prepare("sequences", make(tmp_path / "raw", "u1 3 1 3 1\nu2  2\t1\n\n"), tmp_path / "out")
    events = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    assert events.rows() == [
        ("u1", "3", 0), ("u1", "1", 1), ("u1", "3", 2), ("u1", "1", 3), ("u2", "2", 0), ("u2", "1", 1),
    ]  # fmt: skip
    assert (report.stats["repeats"], report.stats["duplicates"]) == (2, 0)


def test_key_and_modalities_of_the_item_table_are_recognised_and_said(tmp_path: Path) -> None:
    report = prepare("sequences", make(tmp_path / "raw", "u1 3 1 2\n"), tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    assert data.items.to_dicts()[0] == {
        "item_id": "1",
        "title": "Oils & Balms, red",
        "row": 101.0,
        "category_paths_json": ["Beauty", "Nails", "Oils & Balms"],
        "s3rec_attribute_ids": ["7", "3"],
        "asin": "B00A",
        "short_text_id": "oils",
    }
    assert {name: modality.kind for name, modality in data.schema.items.modalities.items()} == {
        "title": "text",
        "row": "numerical",
        "category_paths_json": "categorical",
        "s3rec_attribute_ids": "categorical",
    }
    assert data.schema.items.display == ["asin", "short_text_id"]
    assert any("key was taken to be s3rec_id" in note for note in report.notes)


def test_a_schema_says_which_columns_are_modalities(tmp_path: Path) -> None:
    raw = make(tmp_path / "raw", "u1 B00A B00C\n")
    (raw / "roles.yaml").write_text(
        "items: {path: items.csv, item: asin, title: title, modalities: {s3rec_attribute_ids: "
        "{kind: categorical, separator: ' '}}}\n"
    )
    prepare("sequences", raw, tmp_path / "out", schema=raw / "roles.yaml")
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items.columns == ["item_id", "title", "s3rec_attribute_ids"]
    assert items["item_id"].to_list() == ["B00A", "B00C"]


def test_items_may_lie_elsewhere_as_parquet(tmp_path: Path) -> None:
    raw = make(tmp_path / "raw", "u1 1 2\n", items=None)
    pl.DataFrame({"id": [1, 2], "title": ["one", "two"]}).write_parquet(tmp_path / "catalog.parquet")
    prepare("sequences", raw, tmp_path / "out", items=tmp_path / "catalog.parquet")
    assert pl.read_parquet(tmp_path / "out" / "items.parquet")["title"].to_list() == ["one", "two"]


def test_sequences_without_an_item_table_give_bare_ids(tmp_path: Path) -> None:
    report = prepare("sequences", make(tmp_path / "raw", "u1 b a\n", items=None), tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "items.parquet").to_dict(as_series=False) == {"item_id": ["b", "a"]}
    assert any("nothing but their ids" in note for note in report.notes)


def test_a_user_without_items_is_reported_with_its_line(tmp_path: Path) -> None:
    report = prepare("sequences", make(tmp_path / "raw", "u1 1 2\n\nu2\nu3 3\n"), tmp_path / "out")
    assert report.stats["rows_unparsable"] == 1
    assert report.stats["unparsable_examples"] == [
        "sequences.txt, line 3: column 'item_id' is empty, expected an item id."
    ]


def test_items_that_match_no_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"items\.csv: no column holds the ids of the sequences \(such as 'x'"):
        prepare("sequences", make(tmp_path / "raw", "u1 x y\n"), tmp_path / "out")


def test_a_folder_with_two_text_files_asks_which(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("u 1 2\n")
    with pytest.raises(FileNotFoundError, match=r"found a\.txt, b\.txt\. Name the file"):
        prepare("sequences", tmp_path, tmp_path / "out")
