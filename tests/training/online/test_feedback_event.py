"""One event: what it accepts, what it refuses, and how it is read from a record."""

from __future__ import annotations

import math

import numpy as np
import pytest
from llm4rec.training.online.feedback_event import KINDS, FeedbackError, FeedbackEvent


def test_an_event_without_an_id_gets_one_of_its_own() -> None:
    first, second = (FeedbackEvent("u1", "tent", kind="click") for _ in range(2))
    assert first.event_id != second.event_id


def test_numbers_as_ids_become_text_without_a_point() -> None:
    event = FeedbackEvent(7, np.int64(12), rating=np.float32(4), event_id=3.0)
    assert (event.user_id, event.item_id, event.event_id, event.rating) == ("7", "12", "3", 4.0)


def test_changing_the_context_given_does_not_change_the_event() -> None:
    context = {"page": {"name": "home"}}
    event = FeedbackEvent("u1", "tent", kind="click", context=context)
    context["page"]["name"] = "cart"
    assert event.context == {"page": {"name": "home"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": None}, "neither kind nor rating given, expected either a kind .*or a rating"),
        ({"rating": 4}, "kind 'click' and rating 4 given"),
        ({"kind": "Clik"}, "unknown kind 'Clik'; did you mean 'click'"),
        ({"kind": ["click"]}, "unknown kind"),
        ({"kind": "rating"}, "give the number as `rating`, and no kind"),
        ({"kind": None, "rating": math.nan}, "rating is nan, expected a finite number"),
        ({"kind": None, "rating": -math.inf}, "rating is -inf, expected a finite number"),
        ({"kind": None, "rating": True}, "rating is True, expected a finite number"),
        ({"kind": None, "rating": "5"}, "rating is '5', expected a finite number"),
        ({"time": math.nan}, "time is nan, expected unix seconds"),
        ({"time": -1}, "time is -1, expected unix seconds"),
        ({"time": 10**400}, "time is 1000.*, expected unix seconds"),
        ({"propensity": math.nan}, "propensity is nan, expected a probability"),
        ({"propensity": 0}, "propensity is 0, expected a probability above 0"),
        ({"propensity": 1.01}, "propensity is 1.01, expected a probability above 0 and at most 1"),
        ({"user_id": " "}, "user_id is empty"),
        ({"user_id": None}, "user_id is None, expected text or a whole number"),
        ({"user_id": math.nan}, "user_id is nan, expected text or a whole number"),
        ({"user_id": "u" * 257}, "user_id 'uuu.*…? has 257 characters, expected at most 256"),
        ({"item_id": 1.5}, "item_id is 1.5, expected text or a whole number"),
        ({"item_id": "te\x00nt"}, "control characters"),
        ({"item_id": "te\ud800nt"}, "half letters"),
        ({"event_id": ""}, "event_id is empty"),
        ({"context": "home"}, "context is 'home', expected names with values"),
        ({"context": {"score": math.inf}}, "is not JSON"),
        ({"context": {"when": object()}}, "is not JSON"),
        ({"context": {"page": "é" * 2043}}, "context has 4097 bytes as JSON, expected at most 4096"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected(values: dict, message: str) -> None:
    with pytest.raises(FeedbackError, match=message):
        FeedbackEvent(**{"user_id": "u1", "item_id": "tent", "kind": "click", **values})


def test_kinds_speak_for_or_against_an_item() -> None:
    weights = {kind: FeedbackEvent("u1", "tent", kind=kind).weight() for kind in KINDS}
    assert {kind for kind, weight in weights.items() if weight < 0} == {"skip", "dislike", "hide"}
    assert all(0 < abs(weight) <= 1 for weight in weights.values())


def test_the_middle_of_the_rating_scale_speaks_neither_for_nor_against() -> None:
    weights = [FeedbackEvent("u1", "tent", rating=rating).weight((1, 5)) for rating in (1, 2, 3, 5, 7)]
    assert weights == [-1.0, -0.5, 0.0, 1.0, 1.0]


def test_a_record_of_texts_becomes_an_event() -> None:
    record = {
        "event_id": "", "user": " u1", "item": "tent", "timestamp": "2025-06-15T15:06:40Z", "rating": "4.5",
        "kind": "rating", "propensity": "0.25", "context": '{"page": "home"}',
    }  # fmt: skip
    event = FeedbackEvent.from_record(record)
    assert (event.user_id, event.item_id, event.time, event.rating, event.kind, event.propensity, event.context) == (
        "u1", "tent", 1_750_000_000.0, 4.5, None, 0.25, {"page": "home"},
    )  # fmt: skip


def test_a_date_without_a_zone_is_utc() -> None:
    event = FeedbackEvent.from_record({"user": 1, "item": 2, "kind": "buy", "time": "2025-06-15 15:06:40"})
    assert event.time == 1_750_000_000


def test_a_record_without_an_id_has_the_same_one_whenever_it_is_read() -> None:
    record = {"user_id": "u1", "item_id": "tent", "kind": "click", "time": 5, "context": {"b": 1, "a": 2}}
    again = {"time": "5", "context": '{"a": 2, "b": 1}', "kind": "click", "user_id": "u1", "item_id": "tent"}
    other = {**record, "time": 6}
    ids = [FeedbackEvent.from_record(values).event_id for values in (record, again, other)]
    assert ids[0] == ids[1] != ids[2]


def test_an_event_survives_its_record() -> None:
    event = FeedbackEvent("u1", "tent", rating=2, time=5.25, propensity=0.5, context={"page": ["a", None]})
    assert FeedbackEvent.from_record(event.to_record()) == event


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensty": 1}, "unknown field 'propensty'; did you mean 'propensity'"),
        ({"time": None}, "time is missing"),
        ({"time": "yesterday"}, "time is 'yesterday', expected unix seconds or an ISO date"),
        ({"timestamp": 5}, "time is given twice, once as 'timestamp'"),
        ({"propensity": "high"}, "propensity is 'high', expected a number"),
        ({"propensity": "nan"}, "propensity is nan, expected a probability"),
        ({"context": "{page"}, "context is '{page', expected JSON"),
    ],
)
def test_a_bad_field_of_a_record_is_named(change: dict, message: str) -> None:
    with pytest.raises(FeedbackError, match=message):
        FeedbackEvent.from_record({"user_id": "u1", "item_id": "tent", "kind": "click", "time": 5, **change})


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(FeedbackError, match="is no record; expected user_id, item_id"):
        FeedbackEvent.from_record(["u1", "tent"])
