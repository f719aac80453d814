"""`prepare`: raw files become a prepared data set that training, evaluation and the simulator read.

The one way in for every source: read → clean → (rating threshold) → sort → drop duplicates → (k-core) → write. What is
dropped is counted, what is wrong is shown with file and line, and nothing is written unless all of it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...configuration.schema import DataSchema, InteractionSchema
from .cleaning import EXAMPLES, Events, Findings, read_events
from .filtering import count_repeats, count_ties, drop_duplicates, find_k_core, sort_histories
from .item_table import Entities, build_items, build_users, read_entities
from .prepared import FILES, check_writable, write_prepared
from .sources import SOURCES, RawData, ReadOptions

_HISTOGRAM = 50


@dataclass
class PrepareReport:
    """What `prepare` did.

    Attributes:
        output: the prepared folder.
        stats: the content of its `stats.json`.
        warnings: what was wrong with the files, with examples and what to do; one text a finding.
        notes: what was assumed about the files.
        seconds: how long it took.
        schema: roles of the columns written.
    """

    output: Path
    stats: dict[str, Any]
    schema: DataSchema
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def prepare(
    source: str,
    path: str | Path,
    output: str | Path,
    *,
    schema: str | Path | DataSchema | None = None,
    items: str | Path | None = None,
    k_core: int = 0,
    min_rating: float | None = None,
    tags: bool = False,
    keep_items_without_interactions: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] | None = None,
) -> PrepareReport:
    """Prepare a data set.

    Args:
        source: a name in :data:`~llm4rec.training.data.sources.SOURCES`.
        path: folder or file of the raw data; for `table` also the id of a data set on the Hub.
        output: the folder to write.
        schema: roles of the columns, or the YAML file that says them (`table`, `sequences`).
        items: the item table or metadata file, where it is not found beside the interactions.
        k_core: keep users and items with at least this many events, repeated until stable; 0 keeps all.
        min_rating: drop events rated lower, or not rated.
        tags: read user-made tags as a modality (`movielens`); they tell about the future, see the source.
        keep_items_without_interactions: keep items that nobody met, as cold candidates.
        strict: stop at the first thing that is wrong with the files.
        overwrite: replace a prepared data set in `output`.
        report: called with one line a step.

    Raises:
        FileExistsError: if `output` exists and may not be replaced.
        FileNotFoundError: if raw files are missing.
        ValueError: if the files cannot be read, nothing is left after a step, or `strict` and something is wrong.
    """
    started = time.perf_counter()
    say = _Steps(report)
    path, output = Path(path).expanduser(), Path(output).expanduser()
    options = _read_options(source, schema, items, tags)
    _check_output(output, overwrite, path, options)
    findings = Findings(strict)
    data = SOURCES[source](path, options)
    for note in data.notes:
        say(note)
    events = read_events(data.interactions, findings)
    stats = _reading_stats(source, events)
    say(f"Read {data.interactions.file.name}: {events.rows_read:,} rows, {len(events.table):,} usable.", timed=True)
    if events.time_form is not None:
        data.notes.append(f"Time of {data.interactions.file.name} read as {events.time_form}.")
    _require_rows(events.table, "reading", f"{events.rows_read:,} rows", events.examples)

    catalog = read_entities(data.items, "item_id", None if keep_items_without_interactions else events.items)
    stats.update(_check_items(data, catalog, events, findings))
    people = read_entities(data.users, "user_id", events.users)
    say(f"Read items and users: {len(catalog.frame):,} and {len(people.frame):,} rows.", timed=True)

    table, filtered = _filter(events.table, min_rating, k_core, say)
    stats.update(filtered)
    user_ids, item_ids = _kept_ids(events, catalog, table, keep_items_without_interactions and data.items is not None)
    item_table, unreadable = build_items(catalog, item_ids, data.schema.items, findings)
    user_table = build_users(people, user_ids, data.schema.users)
    interactions = _with_ids(table, events)
    stats.update(_final_stats(table, item_table, user_table, catalog, people, unreadable))
    stats["warnings"] = findings.warnings
    data.schema.interactions = InteractionSchema(
        time="timestamp" if "timestamp" in table.columns else None,
        rating="rating" if "rating" in table.columns else None,
        order="position",
        propensity="propensity" if "propensity" in table.columns else None,
    )
    data.schema.source = source
    write_prepared(output, interactions, item_table, user_table, data.schema, stats, overwrite)
    say(f"Wrote {output}: {stats['users']:,} users, {stats['items']:,} items, {stats['interactions']:,} interactions.")
    seconds = time.perf_counter() - started
    return PrepareReport(output, stats, data.schema, findings.warnings, data.notes, seconds)


class _Steps:
    """One line a step; timed ones say how long the step took."""

    def __init__(self, report: Callable[[str], None] | None) -> None:
        self.report, self.last = report, time.perf_counter()

    def __call__(self, line: str, timed: bool = False) -> None:
        now = time.perf_counter()
        if self.report is not None:
            self.report(f"{line} ({now - self.last:.1f} s)" if timed else line)
        if timed:
            self.last = now


def _read_options(source: str, schema: Any, items: str | Path | None, tags: bool) -> ReadOptions:
    if source not in SOURCES:
        raise ValueError(f"Unknown source {source!r}. Sources are {', '.join(SOURCES)}.")
    for given, name, takers in (
        (schema is not None, "schema", ("table", "sequences")),
        (items is not None, "items", ("table", "sequences", "amazon-reviews", "yelp")),
        (tags, "tags", ("movielens",)),
    ):
        if given and source not in takers:
            raise ValueError(f"The source {source} takes no {name!r}; {', '.join(takers)} do.")
    folder = None
    if schema is not None and not isinstance(schema, DataSchema):
        folder = Path(schema).expanduser().absolute().parent
        schema = DataSchema.load(Path(schema).expanduser())
    return ReadOptions(deepcopy(schema), folder, None if items is None else Path(items).expanduser(), tags)


def _check_output(output: Path, overwrite: bool, path: Path, options: ReadOptions) -> None:
    """Refuse before the work what would be refused after it, and never replace anything but a prepared data set."""
    if not output.exists():
        check_writable(output)
        return
    if not overwrite:
        raise FileExistsError(f"{output} exists already. Pass --overwrite to replace it, or choose another folder.")
    here = output.resolve()
    for name in (path, options.items, options.schema_folder):
        if name is not None and name.exists() and (here == name.resolve() or here in name.resolve().parents):
            raise FileExistsError(f"{output} holds the raw data ({name}). Choose another folder for the output.")
    strangers = [output.name] if output.is_file() else sorted(p.name for p in output.iterdir() if p.name not in FILES)
    if strangers:
        raise FileExistsError(
            f"{output} is not only a prepared data set (it holds {', '.join(strangers[:3])}), so --overwrite leaves "
            "it alone. Choose another folder, or remove it yourself."
        )


def _require_rows(table: pl.DataFrame, step: str, before: str, examples: list[str] | tuple = ()) -> None:
    if table.is_empty():
        shown = f" For example: {examples[0]}" if examples else ""
        raise ValueError(f"No interaction is left after {step}; before it there were {before}.{shown}")


def _reading_stats(source: str, events: Events) -> dict[str, Any]:
    return {
        "source": source,
        "rows_read": events.rows_read,
        "rows_unparsable": sum(events.unparsable.values()),
        "rows_unparsable_by_column": events.unparsable,
        "unparsable_examples": events.examples,
    }


def _check_items(data: RawData, catalog: Entities, events: Events, findings: Findings) -> dict[str, int]:
    """Count interactions with items that the item table lacks, and faulty rows of that table."""
    stats = {
        "items_without_id": catalog.without_id,
        "duplicate_items": catalog.duplicates,
        "unknown_items": 0,
        "rows_with_unknown_items": 0,
    }
    if data.items is None:
        return stats
    lacking = ~events.items.is_in(catalog.frame["item_id"].implode())
    if not lacking.any():
        return stats
    if lacking.all():
        raise ValueError(
            f"None of the items in {data.interactions.file.name} (such as {events.items[0]!r}) is in "
            f"{data.items.file}, column {data.items.name('item_id')!r} "
            f"(such as {', '.join(map(repr, catalog.frame['item_id'].head(3)))}). "
            "Name the right key column in schema.yaml, or check that the files belong together."
        )
    rows = events.table.filter(pl.Series(lacking.to_numpy()[events.table["item"].to_numpy()]))
    first = rows.unique("item", keep="first", maintain_order=True).head(EXAMPLES)
    places = data.interactions.places(first["row"].to_list())
    column = data.interactions.name("item_id")
    examples = [
        f"{data.interactions.file.name}, {place}: column {column!r} holds {events.items[code]!r}, "
        f"an item that is not in {data.items.file.name}."
        for place, code in zip(places, first["item"], strict=True)
    ]
    stats.update(unknown_items=int(lacking.sum()), rows_with_unknown_items=len(rows))
    findings.add(
        f"Kept {lacking.sum():,} items ({len(rows):,} rows) that are not in {data.items.file.name}, fields empty.",
        examples,
        "Add them to the item table to give them a title and modalities.",
    )
    return stats


def _filter(table: pl.DataFrame, min_rating: float | None, k: int, say: _Steps) -> tuple[pl.DataFrame, dict[str, int]]:
    """Rating threshold, time order, exact duplicates, k-core."""
    stats = {"below_min_rating": 0}
    if min_rating is not None:
        if "rating" not in table.columns:
            raise ValueError("min_rating needs ratings, and the data has none. Leave it out, or name a rating column.")
        rated = table.filter(pl.col("rating") >= min_rating)
        stats["below_min_rating"] = len(table) - len(rated)
        _require_rows(rated, f"dropping ratings below {min_rating:g}", f"{len(table):,} interactions")
        table = rated
    ordered = sort_histories(table)
    table = drop_duplicates(ordered)
    stats["duplicates"] = len(ordered) - len(table)
    say(f"Sorted histories by time; {stats['duplicates']:,} exact duplicates dropped.", timed=True)
    stats["dropped_by_k_core"] = 0
    if k > 1:
        kept = find_k_core(table["user"].to_numpy(), table["item"].to_numpy(), k)
        users, items = table["user"].n_unique(), table["item"].n_unique()
        before = f"{len(table):,} interactions of {users:,} users and {items:,} items"
        stats["dropped_by_k_core"] = len(table) - len(kept)
        table = table[kept]
        _require_rows(table, f"the {k}-core", before)
        say(f"{k}-core: {len(table):,} of {before} left.", timed=True)
    stats["repeats"] = count_repeats(table)
    stats["ties_in_time"] = count_ties(table)
    return table, stats


def _kept_ids(events: Events, catalog: Entities, table: pl.DataFrame, keep_all: bool) -> tuple[pl.Series, pl.Series]:
    """Ids of users in order of first appearance; of items in the order of their table, then of first appearance."""
    users = events.users[np.unique(table["user"].to_numpy())]
    met = np.zeros(len(events.items), dtype=bool)
    met[table["item"].to_numpy()] = True
    met_items = events.items.filter(pl.Series(met))
    known = catalog.frame["item_id"]
    unknown = met_items.filter(~met_items.is_in(known.implode()))
    known = known if keep_all else known.filter(known.is_in(met_items.implode()))
    return users.alias("user_id"), pl.concat([known, unknown]).alias("item_id")


def _with_ids(table: pl.DataFrame, events: Events) -> pl.DataFrame:
    """The interaction table of a prepared data set."""
    users = table["user"].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(users)]]))
    position = np.arange(len(users), dtype=np.int32) - np.repeat(starts, lengths).astype(np.int32)
    columns = [column for column in ("timestamp", "rating", "propensity") if column in table.columns]
    ids = {
        "user_id": events.users.gather(table["user"]).alias("user_id"),
        "item_id": events.items.gather(table["item"]).alias("item_id"),
        "position": position,
    }
    return pl.DataFrame(ids).hstack(table.select(columns))


def _final_stats(
    table: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    catalog: Entities,
    people: Entities,
    unreadable: int,
) -> dict[str, Any]:
    met = table["item"].n_unique()
    listed = catalog.frame.height
    stats: dict[str, Any] = {
        "users": len(users),
        "items": len(items),
        "interactions": len(table),
        "density": len(table) / (len(users) * len(items)),
        "items_without_interactions": max(listed, len(items)) - met if catalog.raw is not None else 0,
        "item_values_unreadable": unreadable,
        "users_without_row": len(users) - users["user_id"].is_in(people.frame["user_id"].implode()).sum(),
        "users_without_interactions": 0,
    }
    if people.raw is None:
        stats["users_without_row"] = 0
    else:
        stats["users_without_interactions"] = (
            len(people.frame) - people.frame["user_id"].is_in(users["user_id"].implode()).sum()
        )
    if "timestamp" in table.columns:
        stats["min_time"], stats["max_time"] = table["timestamp"].min(), table["timestamp"].max()
        stats["rows_without_time"] = table["timestamp"].null_count()
    if "rating" in table.columns:
        stats["rating_histogram"] = _histogram(table["rating"].drop_nulls())
    return stats


def _histogram(ratings: pl.Series) -> dict[str, int]:
    """Events per rating; per tenth of the range where there are more than fifty ratings."""
    if ratings.n_unique() <= _HISTOGRAM:
        return {f"{rating:g}": n for rating, n in ratings.value_counts().sort(ratings.name).iter_rows()}
    counts, edges = np.histogram(ratings.to_numpy(), bins=10)
    return {f"{low:g} to {high:g}": int(n) for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)}
