"""What every source hands to `prepare`: tables as they stand in the files, with the role of each column.

A source only finds files and names columns. Parsing, cleaning, filtering and sorting happen once, for all sources, in
:mod:`llm4rec.training.data.prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from ....configuration.schema import DataSchema

ROW = "_row"
"""Column with the number of the record in its file, 0-based, blank records counted."""

SURPLUS = "_surplus"
"""Column that holds the first field too many of a CSV record; null in a well-formed one."""

LINE_TEXT = "_line"
"""Column that holds the whole line of a JSON Lines file; lets a message say that it is not JSON."""


@dataclass
class RawTable:
    """A file as a lazy table.

    Args:
        frame: has the column :data:`ROW` and the columns of the file.
        file: where it comes from, for messages.
        places: record numbers to what a person calls them, `[0, 7] → ["line 2", "line 9"]`.
        names: column of `frame` to its name in the file, where the two differ.
    """

    frame: pl.LazyFrame
    file: Path
    places: Callable[[Sequence[int]], list[str]]
    names: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the file."""
        names = self.frame.collect_schema().names()
        return [name for name in names if name not in (ROW, SURPLUS, LINE_TEXT)]

    def name(self, column: str) -> str:
        """What the file calls `column`."""
        return self.names.get(column, column)

    def rename(self, columns: dict[str, str]) -> RawTable:
        """The same table with only the columns (new name → name in the file) asked for, and its bookkeeping ones."""
        kept = [c for c in self.frame.collect_schema().names() if c in (ROW, SURPLUS, LINE_TEXT)]
        frame = self.frame.select(*kept, *[pl.col(old).alias(new) for new, old in columns.items()])
        names = {new: self.name(old) for new, old in columns.items()}
        return RawTable(frame, self.file, self.places, names)


@dataclass
class RawData:
    """A data set before cleaning.

    Args:
        interactions: columns `user_id`, `item_id` and, where the data has them, `timestamp`, `rating`, `order`,
            `propensity`, of any type; a JSON list or a string is as welcome as a number.
        schema: roles of the columns of `items` and `users`; its interaction section is not read.
        items: column `item_id` and those that the schema names; `None` if items have nothing but their ids.
        users: column `user_id` and those that the schema names; `None` if users have nothing but their ids.
        notes: what was assumed about the files, one sentence each.
    """

    interactions: RawTable
    schema: DataSchema
    items: RawTable | None = None
    users: RawTable | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReadOptions:
    """What a caller may tell a source beside the path.

    Args:
        schema: roles of the columns (`sequences`, `table`).
        schema_folder: where the paths of the schema are looked up after the data folder.
        items: the item table, where it does not lie beside the interactions.
        tags: also read user-made tags (`movielens`).
    """

    schema: DataSchema | None = None
    schema_folder: Path | None = None
    items: Path | None = None
    tags: bool = False


Source = Callable[[Path, ReadOptions], RawData]
