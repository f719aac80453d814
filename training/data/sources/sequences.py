"""The text format of S3-Rec and most sequential recommenders: `user item item …` a line, items in time order.

There are no times and no ratings. The items' table (CSV, Parquet or JSON Lines) lies beside it as `items.*` or is
named by the caller; without a schema its key and modalities are recognised by their content.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import polars as pl

from ....configuration.schema import DataSchema
from .files import TABLE_ENDINGS, collect, require_columns, require_file, require_folder, scan_table
from .inference import find_key, find_table, infer_items
from .raw import ROW, RawData, RawTable, ReadOptions


def read_sequences(path: Path, options: ReadOptions) -> RawData:
    """Read a sequence file, or the only `.txt` file of a folder.

    Raises:
        FileNotFoundError: if there is no such file, or several to choose from.
    """
    file = path if path.is_file() else _only_text_file(path)
    interactions = _scan_lines_of_items(file)
    given = options.schema
    data = RawData(interactions, given or DataSchema())
    data.schema.source = "sequences"
    items_path = options.items
    if items_path is None and given is not None and given.items.path:
        items_path = next(
            (folder / given.items.path for folder in (file.parent, options.schema_folder or file.parent)
             if (folder / given.items.path).is_file()),
            file.parent / given.items.path,
        )  # fmt: skip
    items_path = items_path or find_table(file.parent, ["items"], TABLE_ENDINGS)
    if items_path is None:
        data.notes.append(f"No item table beside {file.name}: items have nothing but their ids.")
        return data
    table = scan_table(require_file(items_path, "the item table"))
    if given is None:
        data.schema.items, data.notes = infer_items(table, find_key(table, _first_ids(interactions), "sequences"))
    items = data.schema.items
    shown = [c for c in [items.title, *items.modalities, *items.display] if c]
    require_columns(table, {"items.item": items.item, **{f"items column {name}": name for name in shown}})
    data.items = table.rename({"item_id": items.item, **{name: name for name in dict.fromkeys(shown)}})
    return data


def _only_text_file(folder: Path) -> Path:
    require_folder(folder, "a sequence file (`user item item …` a line) or a folder with one")
    if (folder / "sequences.txt").is_file():
        return folder / "sequences.txt"
    found = sorted(p for p in folder.iterdir() if p.name.lower().endswith((".txt", ".txt.gz")))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise FileNotFoundError(f"{folder}: expected sequences.txt or one .txt file, found {names}. Name the file.")
    return found[0]


def _scan_lines_of_items(file: Path) -> RawTable:
    words = pl.col("line").str.replace_all(r"\s+", " ").str.strip_chars().str.split(" ")
    frame = pl.scan_lines(file, name="line", row_index_name="at").filter(pl.col("line").str.strip_chars() != "")
    frame = frame.select("at", words.list.first().alias("user_id"), words.list.slice(1).alias("item_id"))
    frame = frame.explode("item_id", empty_as_null=True, keep_nulls=True)
    frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias("event"))
    lines = collect(frame.select("at", "event", "user_id", "item_id"), file)
    ats = lines["at"]
    table = lines.select(pl.col("event").alias(ROW), "user_id", "item_id").lazy()
    return RawTable(table, file, lambda rows: [f"line {ats[int(row)] + 1}" for row in rows])


def _first_ids(interactions: RawTable) -> list[str]:
    ids = interactions.frame.select("item_id").head(200_000).collect()["item_id"].drop_nulls()
    return list(islice(ids.unique(maintain_order=True), 50_000))
