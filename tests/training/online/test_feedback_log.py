"""The log: acknowledgements, duplicates, order, rules, positions, forgetting."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from llm4rec.modeling_llm4rec.catalog import Catalog
from llm4rec.training.online.feedback_database import FeedbackLogError, FeedbackLogLockedError
from llm4rec.training.online.feedback_event import FeedbackError, FeedbackEvent
from llm4rec.training.online.feedback_log import Acknowledgement, FeedbackConflictError, FeedbackLog, Position
from llm4rec.training.online.feedback_rules import FeedbackRules, UnknownItemError

from .conftest import NOW

Click = Callable[..., FeedbackEvent]


def ids(log: FeedbackLog, **where) -> list[str]:
    return [logged.event.event_id for logged in log.events(**where)]


def test_events_come_back_as_they_were_given_in_the_order_they_came(log: FeedbackLog, click: Click) -> None:
    given = [
        click("e2", propensity=0.1 + 0.2, context={"page": "home", "rank": 3}),
        click("e1", kind=None, rating=4.5, time=NOW - 3600.125),
        click("e3", user_id="Zoë 👩‍🚀", item_id="o'tent\"; DROP TABLE events; --"),
    ]
    log.append(given)
    assert [logged.event for logged in log.events()] == given
    assert [(logged.sequence, logged.received) for logged in log.events()] == [(1, NOW), (2, NOW), (3, NOW)]


def test_an_acknowledged_event_is_there_for_another_process_and_after_closing(
    log: FeedbackLog, click: Click, rules: FeedbackRules
) -> None:
    log.append(click("e1"))
    with FeedbackLog(log.path, rules) as other:
        assert ids(other) == ["e1"]
    log.close()
    with FeedbackLog(log.path, rules, create=False) as reopened:
        assert ids(reopened) == ["e1"]


def test_every_commit_waits_for_the_disk(log: FeedbackLog) -> None:
    assert log._database.number("PRAGMA synchronous") == 2  # FULL
    assert log._database.rows("PRAGMA journal_mode") == [("wal",)]


def test_an_event_sent_twice_is_one_event(log: FeedbackLog, click: Click) -> None:
    first = log.append([click("e1"), click("e2")])
    again = log.append([click("e3"), click("e1"), click("e3")])
    assert first == [Acknowledgement("e1", 1, True), Acknowledgement("e2", 2, True)]
    assert [(ack.event_id, ack.is_new) for ack in again] == [("e3", True), ("e1", False), ("e3", False)]
    assert again[1].sequence == 1
    assert again[2].sequence == again[0].sequence > 2
    assert ids(log) == ["e1", "e2", "e3"]


def test_an_id_with_other_content_is_refused_and_both_contents_are_named(log: FeedbackLog, click: Click) -> None:
    log.append(click("e1"))
    with pytest.raises(FeedbackConflictError) as refused:
        log.append([click("e2"), click("e1", item_id="lamp", propensity=0.5)])
    assert "event id 'e1' is taken: event 1 has it with other content" in str(refused.value)
    assert "item_id 'tent' in the log, 'lamp' now; propensity None in the log, 0.5 now" in str(refused.value)
    assert ids(log) == ["e1"]


def test_a_refused_event_takes_its_whole_batch_with_it(log: FeedbackLog, click: Click) -> None:
    log.append(click("e0"))
    with pytest.raises(FeedbackError, match="lies in the future"):
        log.append([click("e1"), click("e2", time=NOW + 2 * 86_400)])
    assert ids(log) == ["e0"]
    assert [ack.is_new for ack in log.append([click("e1")])] == [True]


def test_an_unknown_item_names_the_nearest_ones_and_a_new_user_is_welcome(tmp_path: Path, click: Click) -> None:
    rules = FeedbackRules(known_items=Catalog({"item_id": ["tent", "lamp", "stove"]}), clock=lambda: NOW)
    with FeedbackLog(tmp_path / "feedback.db", rules) as log:
        log.append(click("e1", user_id="never seen"))
        with pytest.raises(UnknownItemError, match=r"unknown item id 'tend'\. Nearest known: tent, "):
            log.append(click("e2", item_id="tend"))
        assert ids(log) == ["e1"]


def test_what_was_acknowledged_stays_so_when_its_item_leaves_the_catalog(tmp_path: Path, click: Click) -> None:
    path = tmp_path / "feedback.db"
    with FeedbackLog(path, FeedbackRules(known_items=Catalog({"item_id": ["tent"]}))) as log:
        log.append(click("e1"))
    with FeedbackLog(path, FeedbackRules(known_items=Catalog({"item_id": ["lamp"]}))) as log:
        assert [ack.is_new for ack in log.append(click("e1"))] == [False]


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (NOW + 86_401, r"time 2025-06-16 15:06:41 UTC lies in the future: it is 2025-06-15 15:06:40 UTC"),
        (NOW * 1000, "looks like milliseconds: divide by 1000"),
    ],
)
def test_a_time_in_the_future_is_refused(log: FeedbackLog, click: Click, time: float, message: str) -> None:
    log.append(click("e1", time=NOW + 86_399))
    with pytest.raises(FeedbackError, match=message):
        log.append(click("e2", time=time))


def test_a_rating_off_the_scale_is_refused(log: FeedbackLog, click: Click) -> None:
    log.rules = dataclasses.replace(log.rules, rating_range=(1.0, 5.0))
    log.append(click("e1", kind=None, rating=5))
    with pytest.raises(FeedbackError, match="rating is 6, expected 1 to 5"):
        log.append(click("e2", kind=None, rating=6))


def test_what_is_no_event_is_refused_with_the_way_to_make_one(log: FeedbackLog) -> None:
    with pytest.raises(TypeError, match=r"Expected a FeedbackEvent, got dict; see FeedbackEvent\.from_record"):
        log.append([{"user_id": "u1"}])
    log.append([])
    assert log.count() == 0


def test_reading_goes_on_after_a_sequence_number(log: FeedbackLog, click: Click) -> None:
    log.append([click(f"e{n}", user_id=f"u{n % 2}") for n in range(1200)])
    assert ids(log, after=1198) == ["e1198", "e1199"]
    assert ids(log, after=10, limit=3) == ["e10", "e11", "e12"]
    assert ids(log, limit=0) == []
    assert len(ids(log, limit=1100)) == 1100
    assert ids(log, user_id="u1") == [f"e{n}" for n in range(1, 1200, 2)]
    assert log.count(after=np.int64(1000)) == 200


def test_asking_beyond_the_end_says_that_an_older_log_was_put_back(log: FeedbackLog, click: Click) -> None:
    log.append(click("e1"))
    assert ids(log, after=1) == []
    with pytest.raises(FeedbackLogError, match=r"has no event 7, its last is 1\. If an older copy"):
        ids(log, after=7)


def test_a_burst_of_ten_thousand_events_is_absorbed_in_bounded_memory(log: FeedbackLog, click: Click) -> None:
    burst = (click(f"e{n}", context={"note": "x" * 200}) for n in range(10_000))
    tracemalloc.start()
    try:
        taken = sum(ack.is_new for ack in log.append_stream(burst, batch=500))
        read = sum(1 for _ in log.events())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (taken, read) == (10_000, 10_000)
    # Each event takes over 1 kB; a page of 512 is in memory at a time, SQLite's own cache is 2 MB.
    assert peak < 4e6


def test_a_follower_sees_events_as_they_come_and_stops_when_told(
    log: FeedbackLog, click: Click, rules: FeedbackRules
) -> None:
    log.append([click("e1"), click("e2"), click("e3")])
    stop, seen = threading.Event(), []

    def read() -> None:
        with FeedbackLog(log.path, rules, create=False) as reader:
            for batch in reader.follow(after=1, size=1, poll_seconds=0.005, stop=stop):
                seen.extend(logged.event.event_id for logged in batch)
                if seen[-1] == "e3":
                    caught_up.set()
                if seen[-1] == "e4":
                    stop.set()

    caught_up = threading.Event()
    follower = threading.Thread(target=read)
    follower.start()
    assert caught_up.wait(5)
    log.append(click("e4"))
    follower.join(5)
    assert seen == ["e2", "e3", "e4"]


def test_setting_stop_wakes_a_waiting_follower(log: FeedbackLog) -> None:
    stop = threading.Event()
    follower = threading.Thread(target=lambda: list(log.follow(poll_seconds=60, stop=stop)))
    follower.start()
    stop.set()
    follower.join(5)
    assert not follower.is_alive()


def test_threads_may_share_a_log(log: FeedbackLog, click: Click) -> None:
    def write(name: str) -> None:
        for n in range(20):
            log.append(click(f"{name}{n}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids(log)) == sorted(f"{name}{n}" for name in "abc" for n in range(20))


# --- Positions -------------------------------------------------------------------------------------------------------


def test_a_consumer_goes_on_where_it_recorded_to_be(log: FeedbackLog, click: Click, rules: FeedbackRules) -> None:
    log.append([click(f"e{n}") for n in range(5)])
    assert log.position("learner") == Position("learner", 0, None, None)
    log.record_position("learner", 3, "v1", previous=0)
    log.record_position("monitor", np.int64(5))
    log.close()
    with FeedbackLog(log.path, rules) as reopened:
        position = reopened.position("learner")
        assert position == Position("learner", 3, "v1", NOW)
        assert ids(reopened, after=position.sequence) == ["e3", "e4"]
        assert [entry.consumer for entry in reopened.positions()] == ["learner", "monitor"]


def test_a_position_goes_back_only_for_a_rollback(log: FeedbackLog, click: Click) -> None:
    log.append([click(f"e{n}") for n in range(5)])
    log.record_position("learner", 4, "v2")
    with pytest.raises(ValueError, match=r"'learner' is at 4 \(version v2\) and cannot go back to 3: .*applied twice"):
        log.record_position("learner", 3, "v1")
    assert log.position("learner").sequence == 4
    assert log.record_position("learner", 3, "v1", rollback=True) == log.position("learner")


@pytest.mark.parametrize("sequence", [-1, 3])
def test_a_position_lies_within_the_log(log: FeedbackLog, click: Click, sequence: int) -> None:
    log.append([click("e1"), click("e2")])
    with pytest.raises(ValueError, match=f"'learner' cannot be at {sequence}: the last event of .* is 2"):
        log.record_position("learner", sequence, rollback=True)


def test_the_second_learner_of_a_name_is_refused(log: FeedbackLog, click: Click) -> None:
    log.append([click("e1"), click("e2")])
    log.record_position("learner", 1, "mine", previous=0)
    with pytest.raises(ValueError, match=r"is at 1 \(version mine\), not at 0: another process moves it"):
        log.record_position("learner", 2, "other", previous=0)


# --- Forgetting ------------------------------------------------------------------------------------------------------


def test_forgetting_a_user_leaves_no_trace_in_the_files(log: FeedbackLog, click: Click) -> None:
    log.append([click(f"e{n}", user_id=f"secret-person-{n % 2}", context={"n": n}) for n in range(400)])
    assert log.forget_user("secret-person-1") == 200
    content = b"".join(file.read_bytes() for file in log.path.parent.iterdir())
    assert b"secret-person-0" in content
    assert b"secret-person-1" not in content
    assert log.forget_user("nobody") == 0
    assert log.verify().events == 200


def test_a_sequence_number_is_never_given_twice(log: FeedbackLog, click: Click) -> None:
    log.append([click("e1"), click("e2", user_id="u2")])
    log.record_position("learner", 2)
    log.forget_user("u2")
    assert log.last_sequence == 2
    [acknowledgement] = log.append(click("e3"))
    assert acknowledgement.sequence == 3
    assert ids(log, after=log.position("learner").sequence) == ["e3"]


def test_a_reader_that_keeps_a_forgotten_user_on_the_disk_is_reported(log: FeedbackLog, click: Click) -> None:
    log.append([click("e1"), click("e2", user_id="u2")])
    reader = sqlite3.connect(log.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    with pytest.raises(FeedbackLogLockedError, match="1 events of the user are deleted, but another process still"):
        log.forget_user("u2")
    reader.close()
    assert log.forget_user("u2") == 0
    assert b"u2" not in log.path.read_bytes()
