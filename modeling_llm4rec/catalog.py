"""Catalog: the human side of the items — ids, titles, raw fields — in the order of the model's item indices.

Held by the processor and saved as `catalog.parquet`, which needs pyarrow to be written and, for columns of strings,
numbers and lists of them, nothing but numpy to be read (`parquet_tables.py`). The model's side of the items is its
feature buffers.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .parquet_tables import read_table, write_table

ID_COLUMN = "item_id"
TITLE_COLUMN = "title"


def columns_of(table: Any) -> dict[str, list]:
    """Columns of an item table as plain lists.

    Args:
        table: a polars, pandas or pyarrow table, a `datasets.Dataset`, a dict of columns, or a list of row dicts.

    Raises:
        TypeError: for anything else.
        ValueError: if the columns differ in length.
    """
    if isinstance(table, Mapping):
        columns = {str(name): list(values) for name, values in table.items()}
    elif isinstance(table, (list, tuple)) and all(isinstance(row, Mapping) for row in table):
        names = list(dict.fromkeys(name for row in table for name in row))
        columns = {name: [row.get(name) for row in table] for name in names}
    elif hasattr(table, "to_pydict"):
        columns = table.to_pydict()
    elif type(table).__module__.startswith("polars"):
        columns = table.to_dict(as_series=False)
    elif type(table).__module__.startswith("pandas"):
        # pandas writes a missing string as NaN; everywhere else it is None.
        columns = table.astype(object).where(table.notna(), None).to_dict("list")
    elif hasattr(table, "to_dict"):
        columns = table.to_dict()
    else:
        raise TypeError(
            f"Expected a table of items (polars, pandas, pyarrow, datasets, dict of columns, list of rows), got "
            f"{type(table).__name__}."
        )
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Columns of an item table must have one length, got {lengths}.")
    return columns


class Catalog:
    """Items by index, with lookup by id.

    Args:
        table: see `columns_of`; the column `item_id` is required, `title` is shown to people.

    Raises:
        ValueError: if `item_id` is missing, empty or repeats.
    """

    def __init__(self, table: Any):
        self.columns = columns_of(table)
        if ID_COLUMN not in self.columns:
            raise ValueError(f"An item table needs the column {ID_COLUMN!r}, got {sorted(self.columns)}.")
        self.columns[ID_COLUMN] = [_id(value) for value in self.columns[ID_COLUMN]]
        self._index: dict[str, int] = {}
        self._add_to_index(self.columns[ID_COLUMN])

    def _add_to_index(self, ids: list[str]) -> None:
        for item_id in ids:
            if not item_id:
                raise ValueError(f"Item {len(self._index)} has an empty {ID_COLUMN}.")
            if item_id in self._index:
                raise ValueError(f"The {ID_COLUMN} {item_id!r} occurs twice; ids must be unique.")
            self._index[item_id] = len(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, item_id: object) -> bool:
        return str(item_id) in self._index

    @property
    def item_ids(self) -> list[str]:
        """Ids in the order of item indices."""
        return self.columns[ID_COLUMN]

    def title(self, index: int) -> str:
        """Title of an item, its id where it has none."""
        titles = self.columns.get(TITLE_COLUMN)
        return (titles[index] if titles else None) or self.item_ids[index]

    def row(self, index: int) -> dict[str, Any]:
        """All fields of an item."""
        return {name: values[index] for name, values in self.columns.items()}

    def index(self, item_id: Any) -> int:
        """Index of an id. Raises `ValueError` that names the nearest known ids."""
        found = self._index.get(_id(item_id))
        if found is None:
            raise ValueError(f"Unknown item id {_id(item_id)!r}. Nearest known: {', '.join(self.nearest(item_id))}.")
        return found

    def indices(self, item_ids: Iterable[Any]) -> list[int]:
        """Indices of several ids."""
        return [self.index(item_id) for item_id in item_ids]

    def nearest(self, item_id: Any, n: int = 3) -> list[str]:
        """The n known ids that look most like `item_id`."""
        wanted = _id(item_id)
        # Comparing with a million ids takes seconds; those of a similar length and start are the likely ones.
        pool = self.item_ids
        if len(pool) > 50_000:
            pool = [known for known in pool if known[:2] == wanted[:2]][:50_000] or pool[:50_000]
        return difflib.get_close_matches(wanted, pool, n=n, cutoff=0.0)

    def append(self, table: Any) -> None:
        """Add items at the end; nothing changes if one of them is refused.

        Raises:
            ValueError: if an id is missing, empty, or known already.
        """
        new = Catalog(table)
        for item_id in new.item_ids:
            if item_id in self._index:
                raise ValueError(f"Item {item_id!r} is in the catalog already; new items need new ids.")
        for name in self.columns.keys() | new.columns.keys():
            old = self.columns.get(name, [None] * len(self))
            self.columns[name] = old + new.columns.get(name, [None] * len(new))
        self._add_to_index(new.item_ids)

    def save(self, path: str | Path) -> None:
        """Write the catalog as Parquet. Raises `ImportError` without pyarrow."""
        write_table(self.columns, path)

    @classmethod
    def load(cls, path: str | Path) -> Catalog:
        """Read a catalog from Parquet.

        Raises:
            ImportError: without pyarrow, if it holds what only pyarrow can read.
            ValueError: if the file is damaged.
        """
        return cls(read_table(path))


def _id(value: Any) -> str:
    return "" if value is None else str(value).strip()
