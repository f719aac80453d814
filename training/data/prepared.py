"""A prepared data set on disk: the one form that training, evaluation and the simulator share.

Sources (`training/data/sources`) and the simulator write it through :func:`write_prepared`; everything after reads it
through :class:`PreparedData`. The folder holds

| file | columns |
| --- | --- |
| `interactions.parquet` | `user_id` str, `item_id` str, `position` int32 (0-based place in the user's history), `timestamp` int64 unix seconds (null: unknown), `rating` float32 (null: unknown), `propensity` float64; the last three only where the data has them; rows in the order of `users.parquet`, then `position` |
| `items.parquet` | `item_id` str, `title` str where there is one, a column per modality: text str, categorical list[str], numerical float64, vector list[float32]; null: missing; columns only for display as they came |
| `users.parquet` | `user_id` str, a str column per user attribute |
| `schema.yaml` | :class:`~llm4rec.configuration.schema.DataSchema` of the above |
| `stats.json` | counts: what was read, dropped and why, what remains |
"""  # noqa: E501

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...configuration.schema import DataSchema

FILES = ("interactions.parquet", "items.parquet", "users.parquet", "schema.yaml", "stats.json")


@dataclass
class Interactions:
    """Histories of all users, concatenated in time order.

    Shape:
        - offsets: (users + 1,) int64; user `u` owns events `offsets[u]:offsets[u + 1]`
        - items: (events,) int32, rows of the catalog
        - ratings: (events,) float32, NaN where unknown; `None` if the data has no ratings
        - timestamps: (events,) int64 unix seconds, -1 where unknown; `None` if the data has no times
        - propensities: (events,) float64 logged probability of being shown, NaN where unknown; `None` if the data has
          none
    """

    offsets: np.ndarray
    items: np.ndarray
    num_items: int
    ratings: np.ndarray | None = None
    timestamps: np.ndarray | None = None
    propensities: np.ndarray | None = None

    @property
    def num_users(self) -> int:
        """Number of users, those without events included."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(users,) events per user."""
        return np.diff(self.offsets)

    def history(self, user: int) -> np.ndarray:
        """(events of the user,) item indices in time order."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def item_counts(self) -> np.ndarray:
        """(items,) int64: in how many events each item occurs."""
        return np.bincount(self.items, minlength=self.num_items)

    def rows(self, start: int, stop: int) -> Interactions:
        """Users `start:stop`, without copying their events (numpy views)."""
        first, last = self.offsets[start], self.offsets[stop]
        return self._events(self.offsets[start : stop + 1] - first, slice(first, last))

    def take(self, users: np.ndarray, first: np.ndarray | None = None) -> Interactions:
        """The histories of some users, in the order given; a user may occur twice.

        Args:
            users: (n,) user indices.
            first: (n,) how many of each user's events to keep, counted from the oldest; all if not given.
        """
        users = np.asarray(users, dtype=np.int64)
        lengths = self.lengths[users] if first is None else np.asarray(first, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return self._events(offsets, np.repeat(self.offsets[users] - offsets[:-1], lengths) + np.arange(offsets[-1]))

    def keep(self, mask: np.ndarray) -> Interactions:
        """The same users with only the events where `mask` (events,) is true."""
        kept = np.concatenate([[0], np.cumsum(mask)])
        return self._events(kept[self.offsets], mask)

    def _events(self, offsets: np.ndarray, selection: np.ndarray | slice) -> Interactions:
        return Interactions(
            offsets=offsets,
            items=self.items[selection],
            num_items=self.num_items,
            ratings=None if self.ratings is None else self.ratings[selection],
            timestamps=None if self.timestamps is None else self.timestamps[selection],
            propensities=None if self.propensities is None else self.propensities[selection],
        )


@dataclass
class PreparedData:
    """A prepared data set in memory.

    Attributes:
        folder: where it was read from.
        schema: roles of the columns.
        items: the catalog, one row an item; row number = item index everywhere in training.
        users: one row a user; row number = user index.
        interactions: all histories.
        stats: what `prepare` counted.
    """

    folder: Path
    schema: DataSchema
    items: pl.DataFrame
    users: pl.DataFrame
    interactions: Interactions
    stats: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> PreparedData:
        """Read a prepared folder.

        Raises:
            FileNotFoundError: if the folder or one of its files is missing.
            ValueError: if a file is damaged, or an interaction names an unknown user or item.
        """
        folder = Path(folder)
        stats, schema = read_stats(folder), DataSchema.load(folder / "schema.yaml")
        items = _read(folder / "items.parquet", "item_id")
        users = _read(folder / "users.parquet", "user_id")
        events = _read(folder / "interactions.parquet", "user_id", "item_id", "position")
        interactions = _index(events, users["user_id"], items["item_id"], folder)
        return cls(folder, schema, items, users, interactions, stats)


def read_stats(folder: str | Path) -> dict[str, Any]:
    """What `prepare` counted, from `stats.json`.

    Raises:
        FileNotFoundError: if `folder` is not a prepared data set.
        ValueError: if the file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "not found"
        raise FileNotFoundError(f"{folder} {what}: expected a prepared data set, a folder from `llm4rec prepare`.")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} is not a prepared data set: it lacks {', '.join(missing)}. Make one with `llm4rec prepare`."
        )
    try:
        stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
        if not isinstance(stats, dict):
            raise ValueError(f"it holds a {type(stats).__name__}")
    except ValueError as error:
        raise ValueError(f"{folder / 'stats.json'} is damaged ({error}). Run `llm4rec prepare` again.") from error
    return stats


def _read(path: Path, *columns: str) -> pl.DataFrame:
    """A table of a prepared data set, with the columns that it must have."""
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} cannot be read ({reason}). Run `llm4rec prepare` again.") from error
    for column in columns:
        if column not in table.columns:
            raise ValueError(
                f"{path} has no column {column!r} (it has {', '.join(table.columns)}). Run `llm4rec prepare` again."
            )
    return table


def _index(events: pl.DataFrame, user_ids: pl.Series, item_ids: pl.Series, folder: Path) -> Interactions:
    """Replace ids by row numbers of users.parquet and items.parquet, ordered by user and position."""
    for role, ids in (("user_id", user_ids), ("item_id", item_ids)):
        rows = pl.DataFrame({role: ids, f"{role}_row": np.arange(len(ids), dtype=np.int32)})
        events = events.join(rows, on=role, how="left", maintain_order="left")
        unknown = events.filter(pl.col(f"{role}_row").is_null())
        if len(unknown):
            raise ValueError(
                f"{folder / 'interactions.parquet'}: {len(unknown)} rows name a {role} that is not in its table, "
                f"the first is {unknown[role][0]!r}. Run `llm4rec prepare` again."
            )
    events = events.sort(["user_id_row", "position"], maintain_order=True)
    counts = np.bincount(events["user_id_row"].to_numpy(), minlength=len(user_ids))
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=events["item_id_row"].to_numpy(),
        num_items=len(item_ids),
        ratings=events["rating"].fill_null(np.nan).to_numpy() if "rating" in events.columns else None,
        timestamps=events["timestamp"].fill_null(-1).to_numpy() if "timestamp" in events.columns else None,
        propensities=events["propensity"].fill_null(np.nan).to_numpy() if "propensity" in events.columns else None,
    )


def check_writable(folder: Path) -> None:
    """Find out before the work whether its result can be written to `folder`, which need not exist yet.

    Raises:
        NotADirectoryError: if the folder, or one that it lies in, is a file.
        PermissionError: if it may not be written.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        what = (
            "is a file, expected the name of a folder" if nearest == folder else f"cannot be made: {nearest} is a file"
        )
        raise NotADirectoryError(f"{folder} {what}.")
    if not os.access(nearest, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


@contextmanager
def new_folder(folder: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty sibling folder that takes the name `folder` only when the block ends without an error.

    A killed process therefore leaves a hidden `.name.XXXX.partial` folder, never a half-written one that looks whole.

    Raises:
        FileExistsError: if `folder` exists and `overwrite` is false.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise FileExistsError(f"{folder} exists already. Pass --overwrite to replace it, or choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if folder.exists():
            old = partial.with_suffix(".old")
            os.replace(folder, old)
            os.replace(partial, folder)
            shutil.rmtree(old)
        else:
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_prepared(
    folder: str | Path,
    interactions: pl.DataFrame | pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    schema: DataSchema,
    stats: dict[str, Any],
    overwrite: bool = False,
) -> Path:
    """Write a prepared data set, all of it or nothing.

    Args:
        interactions: columns as in the module's table, already in user and time order.
        schema: its `path`s are set to the files written here.

    Raises:
        FileExistsError: if `folder` exists and `overwrite` is false.
    """
    with new_folder(folder, overwrite) as partial:
        interactions.lazy().sink_parquet(partial / "interactions.parquet")
        items.write_parquet(partial / "items.parquet")
        users.write_parquet(partial / "users.parquet")
        schema.interactions.path, schema.items.path, schema.users.path = FILES[0], FILES[1], FILES[2]
        schema.save(partial / "schema.yaml")
        (partial / "stats.json").write_text(json.dumps(stats, indent=2) + "\n", encoding="utf-8")
    return Path(folder)
