"""Items that came after the model was trained: rows that a version carries, in the order of their indices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor

FILE = "items.json"

_READERS = {
    ".csv": pl.read_csv,
    ".parquet": pl.read_parquet,
    ".jsonl": pl.read_ndjson,
    ".ndjson": pl.read_ndjson,
}

Row = dict[str, Any]


def read_items(path: str | Path) -> list[Row]:
    """Rows of a table of items, with a column `item_id`.

    Args:
        path: CSV, Parquet or JSON Lines. Lists, such as several categories of an item, need one of the latter two.

    Raises:
        ValueError: if it is another kind of file, cannot be read, or has no column `item_id`.
        FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path} is no table of items: expected {', '.join(_READERS)}.")
    try:
        table = reader(path)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from error
    if "item_id" not in table.columns:
        raise ValueError(f"{path} has no column 'item_id'; it has {', '.join(table.columns)}.")
    return table.with_columns(pl.col("item_id").cast(pl.String)).to_dicts()


def items_of(version: Path) -> list[Row]:
    """The rows that a version carries; none where it has no such file."""
    path = version / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def save_items(version: Path, rows: list[Row]) -> None:
    """Write them into a version's folder."""
    if rows:
        (version / FILE).write_text(json.dumps(rows, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def add_items(model: LLM4RecForCausalLM, processor: LLM4RecProcessor, rows: list[Row]) -> None:
    """Append items to a model and its processor, or after an error to neither.

    Raises:
        ValueError: if an id is known already, or an item has nothing that the model can read.
    """
    if rows:
        known = [row["item_id"] for row in rows if row["item_id"] in processor.catalog]
        if known:
            raise ValueError(f"Item {known[0]!r} is in the catalog already; new items need new ids.")
        model.add_items(processor.item_features(rows))
        processor.add_items(rows)


__all__ = ["add_items", "items_of", "read_items", "save_items"]
