"""Raw interactions become events with integer codes; what cannot be read is counted and shown, line by line.

First half of :mod:`.prepare`. The file is read once, in a stream; only integers and floats stay in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from .parsing import parse_id, parse_number, parse_time
from .sources.files import collect
from .sources.raw import LINE_TEXT, ROW, SURPLUS, RawTable

EXAMPLES = 3
"""How many bad rows of a kind are shown."""

_PROBLEMS = ("malformed", "user_id", "item_id", "timestamp", "rating", "order", "propensity")


@dataclass
class Findings:
    """What was wrong with the files, in words and numbers.

    Args:
        strict: raise a `ValueError` at the first finding instead of collecting it.
    """

    strict: bool = False
    warnings: list[str] = field(default_factory=list)

    def add(self, summary: str, examples: Sequence[str], advice: str) -> None:
        """Note a finding: what and how many, where first, what to do."""
        if self.strict:
            raise ValueError(f"{examples[0]} {advice}".strip())
        self.warnings.append("\n  ".join([f"{summary} {advice}".strip(), *examples]))


@dataclass
class Events:
    """Interactions in the order of the file.

    Args:
        table: columns `user`, `item` (uint32 codes), `row` (uint32, record number) and, where the data has them,
            `timestamp` (int64), `rating` (float32), `order` and `propensity` (float64).
        users: id of each user code, in order of first appearance.
        items: id of each item code, in order of first appearance.
        rows_read: records in the file, bad ones included.
        unparsable: how many records were skipped because of which column.
        examples: the first of them, in words.
        time_form: what the time column was taken for; `None` without one.
    """

    table: pl.DataFrame
    users: pl.Series
    items: pl.Series
    rows_read: int
    unparsable: dict[str, int]
    examples: list[str]
    time_form: str | None


def read_events(raw: RawTable, findings: Findings) -> Events:
    """Parse the interactions, skipping rows without a user, an item or a time, or with a field that cannot be read.

    An empty rating is kept as unknown. A row may lack its time where the data has an `order` column.

    Raises:
        ValueError: if the file cannot be read at all, or `findings.strict` and a row is bad.
    """
    frame, columns = raw.frame, raw.columns
    values = {"user_id": parse_id(raw, "user_id"), "item_id": parse_id(raw, "item_id")}
    expected = {"user_id": "a user id", "item_id": "an item id"}
    bad = {column: value.is_null() for column, value in values.items()}
    if SURPLUS in frame.collect_schema():
        bad["malformed"] = pl.col(SURPLUS).is_not_null()
    if LINE_TEXT in frame.collect_schema():
        bad["malformed"] = pl.all_horizontal(pl.col(columns).is_null())
    if "timestamp" in columns:
        time, filled = parse_time(raw, "timestamp")
        values["timestamp"], expected["timestamp"] = time.value, time.expected
        bad["timestamp"] = time.value.is_null() & filled if "order" in columns else time.value.is_null()
    for column, dtype in (("rating", pl.Float32), ("order", pl.Float64), ("propensity", pl.Float64)):
        if column in columns:
            number, filled = parse_number(raw, column, dtype)
            values[column], expected[column] = number.value, number.expected
            bad[column] = number.value.is_null() & filled
    # Each column of ids has a dictionary of its own, so that codes are small and other data sets leave no trace.
    for column in ("user_id", "item_id"):
        values[column] = values[column].cast(pl.Categorical(pl.Categories.random()))
    problem = pl.coalesce(
        *[pl.when(bad[name]).then(pl.lit(code, pl.UInt8)) for code, name in enumerate(_PROBLEMS, 1) if name in bad],
        pl.lit(0, pl.UInt8),
    )
    selected = [value.alias(column) for column, value in values.items()]
    events = collect(frame.select(ROW, *selected, problem.alias("problem")), raw.file)
    rows_read = len(events)
    unparsable, examples = {}, []
    if (events["problem"] > 0).any():
        unparsable, examples = _describe_bad_rows(raw, events, expected, findings)
        events = events.filter(pl.col("problem") == 0)
    users, user_codes = _codes(events["user_id"])
    items, item_codes = _codes(events["item_id"])
    kept = [column for column in ("timestamp", "rating", "order", "propensity") if column in values]
    table = pl.DataFrame({"user": user_codes, "item": item_codes, "row": events[ROW]}).hstack(events.select(kept))
    return Events(table, users, items, rows_read, unparsable, examples, expected.get("timestamp"))


def _codes(ids: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Distinct ids in order of first appearance, and the place of each event's id among them."""
    physical = ids.to_physical().to_numpy()
    distinct = ids.unique()
    own = distinct.to_physical().to_numpy()
    first = np.zeros(int(own.max()) + 1 if len(own) else 0, dtype=np.int64)
    first[physical[::-1]] = np.arange(len(physical) - 1, -1, -1)
    order = np.argsort(first[own], kind="stable")
    code = np.zeros(len(first), dtype=np.uint32)
    code[own[order]] = np.arange(len(own), dtype=np.uint32)
    return distinct.cast(pl.String)[order], code[physical]


def _describe_bad_rows(
    raw: RawTable, events: pl.DataFrame, expected: dict[str, str], findings: Findings
) -> tuple[dict[str, int], list[str]]:
    bad = events.filter(pl.col("problem") > 0).select(ROW, "problem")
    shown = bad.head(1) if findings.strict else bad.group_by("problem", maintain_order=True).head(EXAMPLES)
    wanted = shown[ROW].to_list()
    records = collect(raw.frame.filter(pl.col(ROW).is_in(wanted)), raw.file).sort(ROW)
    problems = dict(zip(shown[ROW], shown["problem"], strict=True))
    places = raw.places(records[ROW].to_list())
    examples = [
        _describe(raw, place, record, _PROBLEMS[problems[record[ROW]] - 1], expected)
        for place, record in zip(places, records.iter_rows(named=True), strict=True)
    ]
    counts = {_PROBLEMS[code - 1]: n for code, n in bad["problem"].value_counts().sort("problem").iter_rows()}
    skipped = f"Skipped {len(bad):,} of {len(events):,} rows that cannot be read."
    if findings.strict:
        skipped = "Correct the row, or leave --strict out to skip such rows."
    advice = "Pass --strict to stop at the first one."
    if counts.get("timestamp", 0) == len(events):
        advice = "If the data has no time, set `time: null` in schema.yaml."
    findings.add(skipped, examples, skipped if findings.strict else advice)
    return {raw.name(column): n for column, n in counts.items()}, examples


def _describe(raw: RawTable, place: str, record: dict, problem: str, expected: dict[str, str]) -> str:
    where = f"{raw.file.name}, {place}:"
    if LINE_TEXT in record and problem == "malformed":
        if _is_json_object(record[LINE_TEXT]):
            return f"{where} has none of the fields {', '.join(map(raw.name, raw.columns))}."
        return f"{where} {record[LINE_TEXT][:60]!r} is no JSON object, expected one a line (no NaN)."
    if problem == "malformed":
        return f"{where} has more fields than the header names, the first too many is {record[SURPLUS]!r}."
    value, name = record[problem], raw.name(problem)
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"{where} column {name!r} is empty, expected {expected[problem]}."
    return f"{where} column {name!r} holds {value!r}, expected {expected[problem]}."


def _is_json_object(line: str) -> bool:
    """Whether it is one in the strict sense: without NaN and without half a surrogate pair."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        record = json.loads(line, parse_constant=refuse)
        json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict)
