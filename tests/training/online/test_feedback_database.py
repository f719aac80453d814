"""The file under the log: recognised or refused, whole or reported, one writer at a time, full disks."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from llm4rec.training.online.feedback_database import (
    FeedbackLogError,
    FeedbackLogFullError,
    FeedbackLogLockedError,
)
from llm4rec.training.online.feedback_event import FeedbackEvent
from llm4rec.training.online.feedback_log import FeedbackLog

from .conftest import NOW

Click = Callable[..., FeedbackEvent]


def alter(path: Path, *statements: str) -> None:
    """Change the file behind the log's back."""
    with sqlite3.connect(path, isolation_level=None) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def test_another_kind_of_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"user_id": "u1"}\n' * 100)
    before = path.read_bytes()
    with pytest.raises(FeedbackLogError, match=r"events\.jsonl is no SQLite database, expected a feedback log"):
        FeedbackLog(path)
    assert path.read_bytes() == before


def test_another_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    alter(path, "CREATE TABLE events (id)")
    before = path.read_bytes()
    with pytest.raises(FeedbackLogError, match=r"shop\.db is an SQLite database, but not a feedback log"):
        FeedbackLog(path)
    assert path.read_bytes() == before


def test_a_log_of_a_newer_version_asks_for_an_update(log: FeedbackLog) -> None:
    log.close()
    alter(log.path, "PRAGMA user_version = 9")
    with pytest.raises(FeedbackLogError, match=r"newer llm4rec \(schema 9, this one knows up to 1\)\. Update llm4rec"):
        FeedbackLog(log.path)


def test_a_reader_of_a_log_that_does_not_exist_makes_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"feedback\.db not found: expected a feedback log"):
        FeedbackLog(tmp_path / "feedback.db", create=False)
    (tmp_path / "empty.db").touch()
    with pytest.raises(FeedbackLogError, match=r"empty\.db is empty, expected a feedback log"):
        FeedbackLog(tmp_path / "empty.db", create=False)
    assert [file.name for file in tmp_path.iterdir()] == ["empty.db"]


@pytest.mark.parametrize(("name", "message"), [("no/feedback.db", "there is no folder"), (".", "is a folder")])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(OSError, match=message):
        FeedbackLog(tmp_path / name)


def test_special_names_of_sqlite_are_plain_files(
    tmp_path: Path, click: Click, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with FeedbackLog(":memory:") as log:
        log.append(click("e1"))
    with FeedbackLog(":memory:", create=False) as log:
        assert log.count() == 1


def test_a_closed_log_says_so(log: FeedbackLog, click: Click) -> None:
    log.close()
    log.close()
    with pytest.raises(FeedbackLogError, match="this log is closed"):
        log.append(click("e1"))


def test_a_whole_log_verifies_with_its_facts(log: FeedbackLog, click: Click) -> None:
    log.append([click("e1"), click("e2", user_id="u2"), click("e3")])
    position = log.record_position("learner", 2, "v1")
    facts = log.verify()
    assert (facts.events, facts.users, facts.last_sequence, facts.positions) == (3, 2, 3, (position,))


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE events SET context = '{' WHERE sequence = 2", "event 2 is damaged"),
        ("UPDATE events SET kind = 'stare' WHERE sequence = 2", "event 2 is damaged: unknown kind 'stare'"),
        ("UPDATE positions SET sequence = 99", "'learner' is at 99, after the last event, 3"),
        ("DROP TABLE positions", r"is damaged \(no such table: positions\)"),
    ],
)
def test_damage_by_hand_is_found(log: FeedbackLog, click: Click, statement: str, message: str) -> None:
    log.append([click("e1"), click("e2"), click("e3")])
    log.record_position("learner", 2)
    alter(log.path, statement)
    with pytest.raises(FeedbackLogError, match=message):
        log.verify()


def test_overwritten_bytes_are_found(log: FeedbackLog, click: Click) -> None:
    log.append([click(f"e{n}", context={"note": "x" * 100}) for n in range(500)])
    log.close()
    with open(log.path, "r+b") as file:
        for page in range(5, 40):
            file.seek(page * 4096 + 8)
            file.write(b"\xff" * 64)
    with pytest.raises(FeedbackLogError, match=r"feedback\.db.*damaged.*Restore a copy"), FeedbackLog(log.path) as log:
        log.verify()


# --- Two writers -----------------------------------------------------------------------------------------------------


def test_a_second_writer_waits_for_the_first(log: FeedbackLog, click: Click) -> None:
    def write_slowly() -> None:
        with FeedbackLog(log.path) as first, first.transaction() as add:
            add(click("first"))
            writing.set()
            time.sleep(0.1)

    writing = threading.Event()
    other = threading.Thread(target=write_slowly)
    other.start()
    assert writing.wait(5)
    with FeedbackLog(log.path, busy_seconds=10) as second:
        [acknowledgement] = second.append(click("second"))
    other.join()
    assert acknowledgement.sequence == 2


def test_a_second_writer_that_waits_too_long_is_refused_and_loses_nothing(log: FeedbackLog, click: Click) -> None:
    with FeedbackLog(log.path) as first, first.transaction() as add:
        add(click("first"))
        with pytest.raises(FeedbackLogLockedError, match=r"feedback\.db is locked: .*writing for more than 0\.2 s"):
            log.append(click("second"))
        assert log.count() == 0  # a reader sees nothing of an unfinished transaction, and does not wait
    assert [ack.sequence for ack in log.append(click("second"))] == [2]


def test_a_transaction_inside_another_is_refused(log: FeedbackLog, click: Click) -> None:
    with pytest.raises(FeedbackLogError, match="one transaction inside another"), log.transaction():
        log.append(click("e1"))


def test_many_may_make_the_same_log_at_once(tmp_path: Path, click: Click) -> None:
    def write(path: Path, name: str) -> None:
        try:
            barrier.wait()
            with FeedbackLog(path, busy_seconds=30) as log:
                log.append(click(name))
        except Exception as error:
            errors.append(error)

    errors: list[Exception] = []
    barrier = threading.Barrier(8)
    for attempt in range(8):  # seldom does a single one meet the moment
        path = tmp_path / f"{attempt}.db"
        threads = [threading.Thread(target=write, args=(path, f"e{n}")) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        with FeedbackLog(path) as log:
            assert log.verify().events == 8


# --- Full disks ------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_a_clear_error_and_the_log_goes_on_when_there_is_room(log: FeedbackLog, click: Click) -> None:
    log.append(click("early"))
    pages = log._database.number("PRAGMA page_count")
    log._database.rows(f"PRAGMA max_page_count = {pages + 4}")
    large = [click(f"e{n}", context={"note": "x" * 1000}) for n in range(100)]
    with pytest.raises(
        FeedbackLogFullError, match=r"feedback\.db cannot grow: the disk is full\. Nothing of this step"
    ):
        log.append(large)
    assert [logged.event.event_id for logged in log.events()] == ["early"]
    log._database.rows("PRAGMA max_page_count = 1000000")
    assert all(ack.is_new for ack in log.append(large))
    assert log.verify().events == 101


_FILL = """
import resource, signal, sys
from llm4rec.training.online.feedback_event import FeedbackEvent
from llm4rec.training.online.feedback_log import FeedbackLog

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
with FeedbackLog(sys.argv[1]) as log:
    for n in range(10_000):
        events = [FeedbackEvent("u1", "tent", kind="click", time=5, event_id=f"{n}-{m}") for m in range(100)]
        try:
            log.append(events)
        except OSError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            break
        print(n, flush=True)
    print(log.count(), flush=True)
"""


def test_a_limit_on_the_size_of_files_is_a_clear_error_and_loses_nothing(
    tmp_path: Path, python: Callable[..., list[str]]
) -> None:
    command = python(_FILL, tmp_path / "feedback.db")
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    *acknowledged, error, count = lines
    assert "cannot be read or written (disk I/O error): a full disk, a limit on the size of files" in error
    with FeedbackLog(tmp_path / "feedback.db") as log:
        assert len(acknowledged) > 1
        assert log.verify().events == 100 * len(acknowledged) == int(count)
        assert log.append(FeedbackEvent("u1", "tent", kind="click", time=NOW))
