"""Feedback from files: JSON Lines, CSV or Parquet rows become events of the log, or are named with their line.

`llm4rec learn` reads a file this way. Columns are those of
:meth:`~llm4rec.training.online.feedback_event.FeedbackEvent.from_record`. Reading a file again adds nothing: its
events are in the log already, so what stopped halfway is simply read again.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from ..data.sources.files import JSON_ENDINGS, ending, open_text, require_file
from .feedback_event import FeedbackError, FeedbackEvent, field_name
from .feedback_log import FeedbackLog

LONGEST_LINE = 65_536
"""Bytes of a line of JSON."""

EXAMPLES = 20
"""Refused rows that a report names."""

_BATCH = 1000
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class FileReport:
    """What became of a file's rows.

    Args:
        file: that was read.
        new: events that the log did not have.
        duplicates: events that it had.
        refused: rows that are no events, or break a rule.
        examples: file, line and reason of the first :data:`EXAMPLES` of them.
    """

    file: Path
    new: int
    duplicates: int
    refused: int
    examples: tuple[str, ...]


def append_file(log: FeedbackLog, path: str | Path, strict: bool = False) -> FileReport:
    """Add the events of a file to the log, in bounded memory.

    Args:
        log: to add to; its rules are asked.
        path: a `.jsonl`, `.ndjson`, `.json` (an object a line), `.csv` or `.tsv` file, plain or `.gz`, or `.parquet`.
        strict: take nothing if one row is bad: the file is one transaction, and other writers wait for it. Otherwise
            bad rows are skipped and reported, the rest is taken a thousand rows at a time.

    Raises:
        FileNotFoundError: if there is no such file.
        FeedbackError: if a row is bad and `strict` is set, or a column is unknown or missing.
        ValueError: if the file cannot be read to its end; it says how many events were taken before.
        FeedbackLogError: if the log cannot be written; the batches before are in it.
    """
    path = Path(path)
    rows = read_rows(path)
    if strict:
        counts, _ = _append(log, rows, strict)
        return FileReport(path, counts["new"], counts["duplicates"], 0, ())
    counts, examples = Counter(), []
    try:
        while batch := list(islice(rows, _BATCH)):
            done, refused = _append(log, batch, strict)
            counts += done
            examples += [f"{place}: {error}" for place, error in refused[: EXAMPLES - len(examples)]]
    except ValueError as error:
        if not counts:
            raise
        raise ValueError(
            f"{error} {counts['new'] + counts['duplicates']} events before are in the log; mend the file and read it "
            "again, none counts twice."
        ) from error
    return FileReport(path, counts["new"], counts["duplicates"], counts["refused"], tuple(examples))


def read_rows(path: str | Path) -> Iterator[tuple[str, FeedbackEvent | FeedbackError]]:
    """The rows of a file, one after another: where each stands, and its event or why it is none.

    Raises:
        FileNotFoundError: if there is no such file.
        FeedbackError: if a column is unknown or missing.
        ValueError: if the file is not what its name says.
    """
    path = require_file(Path(path), "a file of feedback events")
    kind = ending(path)
    if kind in JSON_ENDINGS:
        records = _json_records(path)
    elif kind in _SEPARATORS:
        records = _csv_records(path, _SEPARATORS[kind])
    elif kind == ".parquet":
        records = _parquet_records(path)
    else:
        known = ", ".join((*JSON_ENDINGS, *_SEPARATORS))
        raise ValueError(f"{path}: unknown type {kind!r}. Feedback is read from .parquet, {known}, these also .gz.")
    for place, record in records:
        try:
            yield (
                f"{path.name}, {place}",
                record if isinstance(record, FeedbackError) else FeedbackEvent.from_record(record),
            )
        except FeedbackError as error:
            yield f"{path.name}, {place}", error


def _append(
    log: FeedbackLog, rows: Iterable[tuple[str, FeedbackEvent | FeedbackError]], strict: bool
) -> tuple[Counter, list[tuple[str, FeedbackError]]]:
    """Add rows in one transaction: how many are new, duplicates and refused, and the first that are."""
    counts, refused = Counter(), []
    with log.transaction() as add:
        for place, event in rows:
            try:
                if isinstance(event, FeedbackError):
                    raise event
                counts["new" if add(event).is_new else "duplicates"] += 1
            except FeedbackError as error:
                if strict:
                    raise FeedbackError(
                        f"{place}: {error} Nothing of the file was taken; mend the row, or skip it without strict."
                    ) from error
                counts["refused"] += 1
                # The message is written later: it may look through the whole catalog, and other writers wait here.
                refused += [(place, error)] if len(refused) < EXAMPLES else []
    return counts, refused


def _json_records(path: Path) -> Iterator[tuple[str, Any]]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    number = 0
    try:
        with opener(path, "rb") as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    while line and not line.endswith(b"\n"):
                        line = file.readline(LONGEST_LINE + 1)
                    yield (
                        f"line {number}",
                        FeedbackError(f"longer than {LONGEST_LINE} bytes, expected one event a line."),
                    )
                elif line.strip():
                    yield f"line {number}", _json_record(line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}, after line {number}: not a whole gzip file ({error}).") from error


def _json_record(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except FeedbackError as error:
        return error
    except UnicodeDecodeError as error:
        return FeedbackError(f"not UTF-8 text ({error.reason} at byte {error.start}).")
    except (ValueError, RecursionError) as error:
        return FeedbackError(f"not JSON ({error}), expected one event a line.")


def _refuse_constant(name: str) -> None:
    raise FeedbackError(f"holds {name}, expected a finite number; leave out what is unknown.")


def _csv_records(path: Path, separator: str) -> Iterator[tuple[str, Any]]:
    with open_text(path) as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        start = 1
        try:
            header = next(reader, None)
            if header is None:
                raise ValueError(f"{path} is empty, expected a header line with column names.")
            columns = _columns(path, header)
            start = reader.line_num + 1
            for values in reader:
                place, start = f"line {start}", reader.line_num + 1
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(columns):
                    yield place, FeedbackError(f"{len(values)} fields, expected {len(columns)} as in the header.")
                else:
                    yield place, dict(zip(columns, values, strict=True))
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {start}: not CSV ({error}). Look for a double quote that is never closed; inside a "
                'quoted field write it twice ("").'
            ) from error


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = _columns(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(_BATCH):
                for values in pl.from_arrow(batch).iter_rows():
                    number += 1
                    yield f"row {number}", dict(zip(columns, values, strict=True))
    except FeedbackError:
        raise
    except (pyarrow.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path} is not a Parquet file that can be read: {str(error).splitlines()[0]}.") from error


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    """The fields that the columns stand for."""
    try:
        columns = [field_name(name.strip()) for name in header]
    except FeedbackError as error:
        raise FeedbackError(f"{path.name}: {error}") from error
    missing = [name for name in ("user_id", "item_id", "time") if name not in columns]
    missing += [] if {"kind", "rating"} & set(columns) else ["kind or rating"]
    if missing:
        raise FeedbackError(f"{path.name}: no column {', '.join(missing)}; it has {', '.join(header)}.")
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise FeedbackError(f"{path.name}: two columns for {twice[0]}: {', '.join(header)}.")
    return columns
