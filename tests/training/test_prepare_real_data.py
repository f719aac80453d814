"""Counts that are known for public data sets, checked where they lie on disk (`LLM4REC_DATA`)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from llm4rec.training.data.prepare import prepare
from llm4rec.training.data.prepared import PreparedData

pytestmark = pytest.mark.real_data


def raw(name: str) -> Path:
    root = os.environ.get("LLM4REC_DATA")
    if not root:
        pytest.skip("LLM4REC_DATA is not set: expected the folder that holds the real data sets")
    if not (Path(root) / name).is_dir():
        pytest.skip(f"{name} is not in LLM4REC_DATA")
    return Path(root) / name


@pytest.mark.parametrize(
    ("source", "name", "counts"),
    [
        ("movielens", "ml-latest-small", (610, 9724, 100_836)),
        ("movielens", "ml-1m", (6040, 3706, 1_000_209)),
        ("movielens", "ml-100k", (943, 1682, 100_000)),
        ("sequences", "amazon-beauty", (22_363, 12_101, 198_502)),
    ],
)
def test_counts_are_the_published_ones(source: str, name: str, counts: tuple, tmp_path: Path) -> None:
    report = prepare(source, raw(name), tmp_path / "out", strict=True)
    assert tuple(report.stats[key] for key in ("users", "items", "interactions")) == counts
    data = PreparedData.load(tmp_path / "out")
    assert (data.interactions.num_users, data.interactions.num_items, len(data.interactions.items)) == counts
    assert data.items["title"].null_count() <= counts[1] // 1000
    if data.interactions.timestamps is not None and name != "ml-1m":
        ends = data.interactions.offsets[1:-1] - 1
        assert (np.delete(np.diff(data.interactions.timestamps), ends) >= 0).all()


def test_movielens_1m_has_its_histogram_and_no_unplaced_row_but_at_the_beginning(tmp_path: Path) -> None:
    report = prepare("movielens", raw("ml-1m"), tmp_path / "out")
    assert report.stats["rating_histogram"] == {"1": 56174, "2": 107557, "3": 261197, "4": 348971, "5": 226310}
    times = pl.read_parquet(tmp_path / "out" / "interactions.parquet").drop_nulls("timestamp")
    assert times.select((pl.col("timestamp").diff().over("user_id") < 0).any()).item() is False


def test_amazon_beauty_keeps_the_lines_of_its_file(tmp_path: Path) -> None:
    prepare("sequences", raw("amazon-beauty"), tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    ids = data.items["item_id"].to_numpy()
    with open(raw("amazon-beauty") / "sequences.txt") as file:
        for user, line in zip(range(2000), file, strict=False):
            assert line.split() == [data.users["user_id"][user], *ids[data.interactions.history(user)]]
    assert {n: m.kind for n, m in data.schema.items.modalities.items()} == {
        "title": "text",
        "category_paths_json": "categorical",
        "s3rec_attribute_ids": "categorical",
    }
    assert data.items["title"].str.contains("&amp;").sum() == 0
