"""CSV, JSON Lines and Parquet files, plain or gzipped, as lazy tables that know their line numbers.

Used by every source. Nothing here guesses what a column means.
"""

from __future__ import annotations

import ast
import csv
import difflib
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import polars as pl
from polars.io.plugins import register_io_source

from .raw import LINE_TEXT, ROW, SURPLUS, RawTable

CSV_ENDINGS = (".csv", ".tsv", ".txt", ".dat")
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
TABLE_ENDINGS = (".parquet", *CSV_ENDINGS, *JSON_ENDINGS)
_SEPARATORS = ",\t;|"
_BATCH = 20_000


def ending(path: Path) -> str:
    """The file's ending in lower case, without `.gz`: `.csv` for `ratings.csv.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def stem(path: Path) -> str:
    """The file's name without its endings: `ratings` for `ratings.csv.gz`."""
    return path.name[: -len(".gz")].rsplit(".", 1)[0] if path.name.lower().endswith(".gz") else path.stem


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a plain or gzipped UTF-8 file; what is neither is a `ValueError` that says what to do."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}). Download or pack it again.") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). "
            f"Convert it with `iconv -f latin1 -t utf-8 {path.name}`."
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file that can be read ({error}).") from error


def require_file(path: Path, what: str) -> Path:
    """Return `path`; a missing file is a `FileNotFoundError` that names the files nearest to it."""
    if path.is_file():
        return path
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder: expected {what}, a file.")
    present = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, present, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"{path.parent} holds {_listing(present)}."
    raise FileNotFoundError(f"{path} not found: expected {what}. {hint}")


def require_folder(path: Path, what: str) -> Path:
    """Return `path`; anything but a folder is a `FileNotFoundError`."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path} not found: expected {what}.")
    return path


def require_columns(table: RawTable, roles: dict[str, str]) -> None:
    """Raise a `ValueError` that names the nearest column if one of `roles` (role → column) is not in the table."""
    for role, column in roles.items():
        if column not in table.columns:
            near = difflib.get_close_matches(column, table.columns, n=1, cutoff=0)
            raise ValueError(
                f"{table.file}: no column {column!r} (the schema's {role}). Columns: {', '.join(table.columns)}. "
                f"Did you mean {near[0]!r}? Correct it in schema.yaml."
            )


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12]) or "nothing"
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def collect(frame: pl.LazyFrame, file: Path) -> pl.DataFrame:
    """Run a query over a file; what polars cannot read is a `ValueError` that names the file and the way out."""
    try:
        return frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        advice = "Check that it is whole and of the type that its name says."
        if "utf-8" in reason.lower() or "utf8" in reason.lower():
            advice = f"Convert it with `iconv -f latin1 -t utf-8 {file.name}`."
        elif ending(file) in CSV_ENDINGS:
            advice = 'Look for a double quote that is never closed; inside a quoted field write it twice ("").'
        raise ValueError(f"{file} cannot be read: {reason}. {advice}") from error


# --- CSV -------------------------------------------------------------------------------------------------------------


def scan_csv(path: Path, separator: str | None = None) -> RawTable:
    """A delimited file with a header line; the separator is recognised, a byte-order mark is skipped."""
    with open_text(path) as file:
        head = list(islice((line for line in file if line.strip()), 50))
        if not head:
            raise ValueError(f"{path} is empty, expected a header line with column names.")
        separator = separator or _sniff(head)
        header = [name.strip() for name in next(csv.reader(head, delimiter=separator))]
    header = [name or f"column_{number}" for number, name in enumerate(header, 1)]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path}, line 1: the column name {twice[0]!r} occurs twice. Rename one of the columns.")
    frame = pl.scan_csv(
        path,
        separator=separator,
        has_header=False,
        skip_rows=1,
        schema=dict.fromkeys([*header, SURPLUS], pl.String),
        missing_columns="insert",
        truncate_ragged_lines=True,
        row_index_name=ROW,
    )
    # A record without any field is a blank line; polars counts it, so the numbers stay those of the file.
    frame = frame.filter(~pl.all_horizontal(pl.col(*header).is_null()))
    return RawTable(frame, path, partial(_csv_places, path, separator, 1))


def scan_double_colon(path: Path, columns: Sequence[str]) -> RawTable:
    """A file without a header whose fields are separated by `::` (MovieLens 1M, 10M).

    Polars takes separators of one byte; read with `:`, every second field is empty.
    """
    fields = [name for column in columns for name in (column, f"_after_{column}")][:-1]
    frame = pl.scan_csv(
        path,
        separator=":",
        quote_char=None,
        has_header=False,
        schema=dict.fromkeys([*fields, SURPLUS], pl.String),
        missing_columns="insert",
        truncate_ragged_lines=True,
        row_index_name=ROW,
    )
    gaps = [pl.col(name) for name in fields if name.startswith("_after_")]
    frame = frame.filter(~pl.all_horizontal(pl.col(*columns).is_null()))
    frame = frame.select(ROW, *columns, pl.coalesce(*gaps, SURPLUS).alias(SURPLUS))
    return RawTable(frame, path, line_places)


def scan_headless(path: Path, columns: Sequence[str], separator: str) -> RawTable:
    """A delimited file without a header and without quotes."""
    frame = pl.scan_csv(
        path,
        separator=separator,
        quote_char=None,
        has_header=False,
        schema=dict.fromkeys([*columns, SURPLUS], pl.String),
        missing_columns="insert",
        truncate_ragged_lines=True,
        row_index_name=ROW,
    )
    return RawTable(frame.filter(~pl.all_horizontal(pl.col(*columns).is_null())), path, line_places)


def read_records(path: Path, records: Sequence[Sequence[str | None]], columns: Sequence[str]) -> RawTable:
    """A table from records already split, one a line of `path`."""
    data = {column: [record[i] for record in records] for i, column in enumerate(columns)}
    frame = pl.DataFrame(data, schema=dict.fromkeys(columns, pl.String)).with_row_index(ROW)
    return RawTable(frame.lazy(), path, line_places)


def read_old_text(path: Path) -> list[str]:
    """Lines of a small text file in UTF-8 or, failing that, Latin-1 (what older data sets are written in)."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return content.decode("latin-1").splitlines()


def line_places(rows: Sequence[int]) -> list[str]:
    """Places in a file whose records are its lines."""
    return [f"line {row + 1}" for row in rows]


def row_places(rows: Sequence[int]) -> list[str]:
    """Places in a file that has no lines, such as Parquet."""
    return [f"row {row + 1}" for row in rows]


def _csv_places(path: Path, separator: str, header: int, rows: Sequence[int]) -> list[str]:
    """Lines on which records start; a quoted field may span several, so the file is walked as far as needed."""
    wanted, places = set(rows), {}
    with open_text(path) as file:
        reader = csv.reader(file, delimiter=separator)
        start = 1
        for number, _ in enumerate(reader):
            if number - header in wanted:
                places[number - header] = f"line {start}"
                if len(places) == len(wanted):
                    break
            start = reader.line_num + 1
    return [places.get(row, f"record {row + 1}") for row in rows]


def _sniff(head: Sequence[str]) -> str:
    """The separator that cuts the first lines into the most fields, as many in each as in the header."""

    def fields(separator: str) -> tuple[float, int]:
        lengths = [len(record) for record in csv.reader(head, delimiter=separator)]
        agreeing = sum(length == lengths[0] for length in lengths) / len(lengths)
        return (agreeing >= 0.8) * (lengths[0] > 1), lengths[0]

    return max(_SEPARATORS, key=fields)


# --- JSON Lines ------------------------------------------------------------------------------------------------------


def scan_json_lines(path: Path, columns: Sequence[str]) -> RawTable:
    """Top-level `columns` of a JSON Lines file as strings, with the line itself; made for files of many GB.

    A line that is not JSON gives nulls; :data:`LINE_TEXT` lets the cleaning tell it from a record that lacks a field.
    """
    frame = pl.scan_lines(path, name=LINE_TEXT, row_index_name=ROW)
    frame = frame.filter(pl.col(LINE_TEXT).str.strip_chars() != "")
    # Quoted with ['…'], names with spaces or dots are found too.
    paths = {column: "$['" + column.replace("'", "\\'") + "']" for column in columns}
    found = {column: pl.col(LINE_TEXT).str.json_path_match(query) for column, query in paths.items()}
    # Polars gives a JSON null back as the text "null".
    values = {column: pl.when(value != "null").then(value) for column, value in found.items()}
    return RawTable(frame.with_columns(**values), path, line_places)


def json_keys(path: Path, lines: int = 1000) -> list[str]:
    """Keys of the first records of a JSON Lines file, in the order in which they appear."""
    keys: dict[str, None] = {}
    for record in islice(_records(path), lines):
        if isinstance(record, dict):
            keys.update(dict.fromkeys(record))
    if not keys:
        raise ValueError(f"{path}: the first lines hold no JSON object, expected one a line.")
    return list(keys)


def read_json_records(path: Path, columns: Sequence[str]) -> RawTable:
    """Top-level `columns` of a file of JSON (or Python-literal) objects, one a line, nested values as JSON strings.

    Python literals are how the 2014 Amazon metadata is written; they are read with `ast.literal_eval`, which knows
    constants and containers only. A line that is neither gives a row of nulls.
    """

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        schema = {ROW: pl.UInt32, **dict.fromkeys(columns, pl.String)}
        records = enumerate(_records(path))
        left = n_rows
        while batch := list(islice(records, min(batch_size or _BATCH, _BATCH))):
            values: dict[str, list[Any]] = {ROW: [number for number, _ in batch]}
            for column in columns:
                values[column] = [_plain(r.get(column)) if isinstance(r, dict) else None for _, r in batch]
            frame = pl.DataFrame(values, schema=schema)
            frame = frame if predicate is None else frame.filter(predicate)
            frame = frame if with_columns is None else frame.select(with_columns)
            if left is not None:
                frame = frame.head(left)
                left -= len(frame)
            yield frame
            if left == 0:
                return

    schema = {ROW: pl.UInt32, **dict.fromkeys(columns, pl.String)}
    return RawTable(register_io_source(batches, schema=schema), path, line_places)


def _records(path: Path) -> Iterator[Any]:
    with open_text(path) as file:
        for line in file:
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                try:
                    yield ast.literal_eval(line.strip())
                except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                    yield None


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


# --- Any table -------------------------------------------------------------------------------------------------------


def scan_table(path: Path, big: bool = False) -> RawTable:
    """A CSV, JSON Lines or Parquet file by its ending.

    Args:
        big: read JSON Lines without building Python objects (top-level strings and numbers only).
    """
    kind = ending(path)
    if kind == ".parquet":
        frame = pl.scan_parquet(path)
        try:
            frame.collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ValueError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}.") from error
        return RawTable(frame.with_row_index(ROW), path, row_places)
    if kind in JSON_ENDINGS:
        keys = json_keys(path)
        return scan_json_lines(path, keys) if big else read_json_records(path, keys)
    if kind in CSV_ENDINGS:
        return scan_csv(path)
    raise ValueError(f"{path}: unknown type {path.suffix!r}. Tables are {', '.join(TABLE_ENDINGS)}, plain or .gz.")
