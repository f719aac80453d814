"""Feedback from files: every type gives the same events, every bad row is named, nothing counts twice."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest
from llm4rec.modeling_llm4rec.catalog import Catalog
from llm4rec.training.online.feedback_event import FeedbackError, FeedbackEvent
from llm4rec.training.online.feedback_files import EXAMPLES, append_file
from llm4rec.training.online.feedback_log import FeedbackLog
from llm4rec.training.online.feedback_rules import FeedbackRules

from .conftest import NOW

EVENTS = [
    FeedbackEvent("u1", "tent", kind="click", time=NOW - 9, propensity=0.25, context={"page": "home"}, event_id="e1"),
    FeedbackEvent("u2", "lamp", rating=4.5, time=NOW - 8, event_id="e2"),
]


def write(path: Path, events: list[FeedbackEvent]) -> Path:
    """The events in the type that the file's name says."""
    records = [event.to_record() for event in events]
    plain = path.name.removesuffix(".gz")
    if plain.endswith(".parquet"):
        pl.DataFrame(records).write_parquet(path)
        return path
    if plain.endswith(".jsonl"):
        text = "\ufeff" + "".join(json.dumps(record) + "\n\n" for record in records)
    else:
        flat = [{**r, "context": r["context"] and json.dumps(r["context"])} for r in records]
        text = pl.DataFrame(flat).write_csv(separator="\t" if plain.endswith(".tsv") else ",")
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def logged(log: FeedbackLog) -> list[FeedbackEvent]:
    return [entry.event for entry in log.events()]


@pytest.mark.parametrize("name", ["f.jsonl", "f.jsonl.gz", "f.csv", "f.csv.gz", "f.tsv", "f.parquet"])
@pytest.mark.parametrize("strict", [True, False])
def test_every_file_type_gives_the_same_events(log: FeedbackLog, tmp_path: Path, name: str, strict: bool) -> None:
    report = append_file(log, write(tmp_path / name, EVENTS), strict=strict)
    assert (report.new, report.duplicates, report.refused) == (2, 0, 0)
    assert logged(log) == EVENTS


def test_a_file_read_twice_counts_once_even_without_ids(log: FeedbackLog, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("user,item,kind,timestamp\nu1,tent,click,5\nu1,tent,click,6\n")
    assert append_file(log, path).new == 2
    report = append_file(log, path)
    assert (report.new, report.duplicates) == (0, 2)
    assert log.count() == 2


def test_a_parquet_file_may_hold_datetimes_dates_and_whole_numbers(log: FeedbackLog, tmp_path: Path) -> None:
    when = datetime(2025, 6, 15, 15, 6, 40, tzinfo=timezone.utc)
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "rating": [3], "time": [when]})
    frame.with_columns(pl.col("time").dt.cast_time_unit("ns")).write_parquet(tmp_path / "f.parquet")
    frame.with_columns(pl.col("time").dt.date()).write_parquet(tmp_path / "g.parquet")
    append_file(log, tmp_path / "f.parquet", strict=True)
    append_file(log, tmp_path / "g.parquet", strict=True)
    assert [(e.user_id, e.item_id, e.rating, e.time) for e in logged(log)] == [
        ("1", "2", 3.0, NOW), ("1", "2", 3.0, 1_749_945_600.0),
    ]  # fmt: skip


BAD_LINES = """\
{"user_id": "u1", "item_id": "tent", "kind": "click", "time": 1}
{"user_id": "u1", "item_id": "tend", "kind": "click", "time": 2}

{"user_id": "u1", "item_id": "tent", "rating": NaN, "time": 3}
{"user_id": "u1", "item_id": "tent", "kind": "click"
["u1", "tent"]
{"user_id": "u1", "item_id": "tent", "kind": "click", "time": 4102444800}
{"user_id": "u1", "item_id": "tent", "kind": "click", "time": 8, "colour": "red"}
{"user_id": "u1", "item_id": "tent", "kind": "like", "time": 1, "event_id": "e1"}
{"user_id": "u1", "item_id": "tent", "kind": "buy", "time": 1, "event_id": "e1"}
{"user_id": "u1", "item_id": "tent", "rating": 1e999, "time": 3}
"""


@pytest.fixture
def shop(tmp_path: Path) -> FeedbackLog:
    rules = FeedbackRules(known_items=Catalog({"item_id": ["tent", "lamp"]}), clock=lambda: NOW)
    with FeedbackLog(tmp_path / "feedback.db", rules) as log:
        yield log


def test_bad_rows_are_skipped_and_named_with_file_and_line(shop: FeedbackLog, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(BAD_LINES.encode() + b'{"user_id": "\xff"}\n' + b"x" * 200_000 + b"\n" + b'{"user_id": 1}')
    report = append_file(shop, path)
    assert (report.new, report.duplicates, report.refused) == (2, 0, 11)
    expected = [
        "f.jsonl, line 2: unknown item id 'tend'. Nearest known: tent, lamp.",
        "f.jsonl, line 4: holds NaN, expected a finite number",
        "f.jsonl, line 5: not JSON",
        "f.jsonl, line 6: ['u1', 'tent'] is no record",
        "f.jsonl, line 7: time 2100-01-01 00:00:00 UTC lies in the future",
        "f.jsonl, line 8: unknown field 'colour'",
        "f.jsonl, line 10: event id 'e1' is taken: event 2 has it with other content (kind 'like' in the log, 'buy'",
        "f.jsonl, line 11: rating is inf, expected a finite number",
        "f.jsonl, line 12: not UTF-8 text",
        "f.jsonl, line 13: longer than 65536 bytes",
        "f.jsonl, line 14: item_id is missing",
    ]
    for example, start in zip(report.examples, expected, strict=True):
        assert example.startswith(start)
    assert [event.time for event in logged(shop)] == [1, 1]


def test_strict_takes_nothing_if_one_row_is_bad(shop: FeedbackLog, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(BAD_LINES)
    with pytest.raises(
        FeedbackError, match=r"f\.jsonl, line 2: unknown item id 'tend'.*Nothing of the file was taken"
    ):
        append_file(shop, path, strict=True)
    assert shop.count() == 0


def test_a_report_names_a_bounded_number_of_bad_rows(log: FeedbackLog, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("user,item,kind,time\n" + "u1,tent,stare,1\n" * 3000)
    report = append_file(log, tmp_path / "f.csv")
    assert (report.refused, len(report.examples)) == (3000, EXAMPLES)
    assert report.examples[-1].startswith(f"f.csv, line {EXAMPLES + 1}: unknown kind 'stare'")


def test_lines_of_a_csv_file_are_those_an_editor_shows(log: FeedbackLog, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(
        'user,item,kind,time,context\n\nu1,tent,click,1,"{""note"":\n""two lines""}"\n'
        "u1,tent,click\nu1,tent,click,x,\n"
    )
    report = append_file(log, tmp_path / "f.csv")
    assert report.examples == (
        "f.csv, line 5: 3 fields, expected 5 as in the header.",
        "f.csv, line 6: time is 'x', expected unix seconds or an ISO date.",
    )
    assert [event.context for event in logged(log)] == [{"note": "two lines"}]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user,item,kind", r"f\.csv: no column time; it has user, item, kind"),
        ("user,item,time", r"f\.csv: no column kind or rating"),
        ("user,item,kind,tme", r"f\.csv: unknown field 'tme'; did you mean 'time'"),
        ("user,item,kind,time,user_id", r"f\.csv: two columns for user_id"),
    ],
)
def test_wrong_columns_are_refused_before_any_row(log: FeedbackLog, tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "f.csv").write_text(header + "\nu1,tent,click,1,1\n")
    with pytest.raises(FeedbackError, match=message):
        append_file(log, tmp_path / "f.csv")
    assert log.count() == 0


def test_a_file_that_breaks_off_says_what_was_taken_and_can_be_read_again(log: FeedbackLog, tmp_path: Path) -> None:
    rows = [f"u{n},tent,click,{n}\n" for n in range(2500)]
    path = tmp_path / "f.csv"
    path.write_text("user,item,kind,time\n" + "".join(rows) + 'u9,"tent,click,9\n' + "".join(rows))
    with pytest.raises(ValueError, match=r"f\.csv, line 2502: not CSV .*2000 events before are in the log; mend"):
        append_file(log, path)
    assert log.count() == 2000
    with pytest.raises(ValueError, match="not CSV"):
        append_file(log, path, strict=True)
    path.write_text("user,item,kind,time\n" + "".join(rows))
    report = append_file(log, path)
    assert (report.new, report.duplicates) == (500, 2000)


def test_half_a_file_is_an_error_that_says_so(log: FeedbackLog, tmp_path: Path) -> None:
    many = [FeedbackEvent(f"u{n}", "tent", kind="click", time=n) for n in range(3000)]
    for name, message in [
        ("f.jsonl.gz", "after line .*not a whole gzip file"),
        ("f.csv.gz", "is not a whole gzip file"),
        ("f.parquet", "is not a Parquet file that can be read"),
    ]:
        path = write(tmp_path / name, many)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=message):
            append_file(log, path, strict=True)
    assert log.count() == 0


def test_a_file_of_an_unknown_type_or_name_is_refused(log: FeedbackLog, tmp_path: Path) -> None:
    (tmp_path / "f.xlsx").touch()
    with pytest.raises(ValueError, match=r"unknown type '\.xlsx'\. Feedback is read from \.parquet"):
        append_file(log, tmp_path / "f.xlsx")
    with pytest.raises(FileNotFoundError, match=r"f\.xls not found: expected a file of feedback events.*f\.xlsx"):
        append_file(log, tmp_path / "f.xls")
    (tmp_path / "f.csv").touch()
    with pytest.raises(ValueError, match="is empty, expected a header line"):
        append_file(log, tmp_path / "f.csv")
