"""A feedback event: what one user did with one item, when, in which context, and how likely it was to be shown.

Made by whoever hears from users, or from the rows of a file (:mod:`.feedback_files`); kept by
:class:`~llm4rec.training.online.feedback_log.FeedbackLog`. An event that exists is valid by itself; what depends on
the catalog and the clock is checked by :class:`~llm4rec.training.online.feedback_rules.FeedbackRules`.
"""

from __future__ import annotations

import difflib
import json
import math
import numbers
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timezone
from typing import Any

LONGEST_ID = 256
"""Characters of a user, item or event id."""

LARGEST_CONTEXT = 4096
"""Bytes of an event's context as JSON in UTF-8."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MILLISECONDS = 1e11
_ALIASES = {"user": "user_id", "item": "item_id", "timestamp": "time"}
_CONTENT_IDS = uuid.UUID("6f6b1d1e-5a0c-4b9e-9d0b-0f1c8a3f2d57")


class FeedbackError(ValueError):
    """An event is refused: the message says what came, what was expected and what to do."""


@dataclass(frozen=True)
class FeedbackKind:
    """What a kind of feedback says.

    Args:
        weight: from −1 (against the item) to 1 (for it). A convention, not a measurement: a learner may have its own.
        meaning: what the user did.
    """

    weight: float
    meaning: str


KINDS: dict[str, FeedbackKind] = {
    "view": FeedbackKind(0.25, "looked at the item: its page, the start of a film"),
    "click": FeedbackKind(0.5, "chose the item from a list"),
    "save": FeedbackKind(0.75, "put the item aside: a basket, a list, a bookmark"),
    "buy": FeedbackKind(1.0, "bought, borrowed or finished the item"),
    "like": FeedbackKind(1.0, "said that the item is good"),
    "skip": FeedbackKind(-0.25, "passed over the item or left it at once"),
    "dislike": FeedbackKind(-1.0, "said that the item is bad"),
    "hide": FeedbackKind(-1.0, "asked not to be shown the item again"),
}
"""The kinds of feedback that there are. What fits none of them is a rating, or goes into the context."""


@dataclass(frozen=True)
class FeedbackEvent:
    """One user's feedback on one item; either `kind` or `rating` is given.

    Args:
        user_id: text or a whole number, at most :data:`LONGEST_ID` characters; kept as given, without surrounding
            spaces. It need not be known. Where it must not name a person, hand over a pseudonym.
        item_id: as `user_id`.
        kind: one of :data:`KINDS`.
        rating: a finite number, on the scale of the data.
        time: unix seconds; now, if not given.
        context: what else is known, as JSON: at most :data:`LARGEST_CONTEXT` bytes.
        propensity: probability in (0, 1] with which the item was shown, where it is known.
        event_id: names the event for good: sent twice, it is one event. A random UUID, if not given, so keep the event
            itself (or its id) to send it again.

    Raises:
        FeedbackError: if a value is none of the above.
    """

    user_id: str
    item_id: str
    kind: str | None = None
    rating: float | None = None
    time: float = field(default_factory=time.time)
    context: Mapping[str, Any] | None = None
    propensity: float | None = None
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self):
        for role in ("event_id", "user_id", "item_id"):
            self._set(role, as_id(getattr(self, role), role))
        self._set("time", _number(self.time, "time", "unix seconds"))
        if self.time < 0:
            raise FeedbackError(f"time is {self.time:g}, expected unix seconds, which are not negative since 1970.")
        if self.kind is not None:
            _check_kind(self.kind)
        if self.rating is not None:
            self._set("rating", _number(self.rating, "rating", "a finite number"))
        if (self.kind is None) == (self.rating is None):
            came = "neither kind nor rating" if self.kind is None else f"kind {self.kind!r} and rating {self.rating:g}"
            raise FeedbackError(f"{came} given, expected either a kind ({', '.join(KINDS)}) or a rating.")
        if self.propensity is not None:
            expected = "a probability above 0 and at most 1, or nothing if unknown"
            self._set("propensity", _number(self.propensity, "propensity", expected))
            if not 0 < self.propensity <= 1:
                raise FeedbackError(f"propensity is {self.propensity:g}, expected {expected}.")
        self._set("context", _context(self.context))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def context_json(self) -> str | None:
        """The context as JSON with sorted keys, so that equal contexts are equal texts; `None` without one."""
        return None if self.context is None else _json(self.context)

    def weight(self, rating_range: tuple[float, float] = (1.0, 5.0)) -> float:
        """How much the event speaks for the item (above 0) or against it, from −1 to 1.

        Args:
            rating_range: the lowest rating, which counts −1, and the highest, which counts 1.
        """
        if self.rating is None:
            return KINDS[self.kind].weight
        low, high = rating_range
        return min(1.0, max(-1.0, 2 * (self.rating - low) / (high - low) - 1))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FeedbackEvent:
        """An event from the fields of a file or a request; a field that is empty or null is not given.

        Fields are called as the arguments of the class (`user`, `item` and `timestamp` too). `time` is required, as
        unix seconds or as an ISO date (UTC where it names no zone); numbers may be text; `context` may be JSON text.

        A record without `event_id` gets one made from its content, so that reading it again does not add it again:
        records that agree in every field are one event. Where they are several, give them ids.

        Raises:
            FeedbackError: for an unknown field, naming the nearest one, or a value that the class refuses.
        """
        if not isinstance(record, Mapping):
            raise FeedbackError(f"{_shown(record)} is no record; expected user_id, item_id, kind, time and so on.")
        values: dict[str, Any] = {}
        for name, value in record.items():
            if _is_empty(value):
                continue
            if field_name(name) in values:
                raise FeedbackError(f"{field_name(name)} is given twice, once as {_shown(name)}.")
            values[field_name(name)] = value
        for required in ("user_id", "item_id", "time"):
            if required not in values:
                raise FeedbackError(f"{required} is missing.")
        values["time"] = _seconds(values["time"])
        for role in ("rating", "propensity"):
            if isinstance(values.get(role), str):
                values[role] = _parsed(values[role], role)
        if values.get("kind") == "rating" and "rating" in values:
            del values["kind"]
        if isinstance(values.get("context"), str):
            values["context"] = _parsed_context(values["context"])
        event = cls(**{"event_id": "to be made", **values})
        if "event_id" not in values:
            event._set("event_id", str(uuid.uuid5(_CONTENT_IDS, _json(event.to_record() | {"event_id": None}))))
        return event

    def to_record(self) -> dict[str, Any]:
        """The event as plain values, for JSON; the inverse of `from_record`."""
        return {name: getattr(self, name) for name in FIELDS}


FIELDS = tuple(entry.name for entry in fields(FeedbackEvent))


def field_name(name: Any) -> str:
    """The field that a column of a file stands for.

    Raises:
        FeedbackError: for none of them, naming the nearest.
    """
    found = _ALIASES.get(name, name)
    if found not in FIELDS:
        near = difflib.get_close_matches(str(name), [*FIELDS, *_ALIASES], n=1, cutoff=0.0)[0]
        raise FeedbackError(
            f"unknown field {_shown(name)}; did you mean {near!r}? Fields are {', '.join(FIELDS)}; anything else goes "
            "into context."
        )
    return found


def as_date(seconds: float) -> str:
    """Unix seconds for a person to read."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        hint = ", which looks like milliseconds: divide by 1000" if seconds >= _MILLISECONDS else ""
        return f"{seconds:.0f}{hint}"


def as_id(value: Any, role: str) -> str:
    """An id as text; whole numbers, also those that became floats on the way, are written without a point.

    Raises:
        FeedbackError: if it is empty, too long, or holds what is no text.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value) and value % 1 == 0:
        value = str(int(value))
    if not isinstance(value, str):
        raise FeedbackError(f"{role} is {_shown(value)}, expected text or a whole number.")
    value = value.strip()
    if not value:
        raise FeedbackError(f"{role} is empty, expected text or a whole number.")
    if len(value) > LONGEST_ID:
        raise FeedbackError(f"{role} {_shown(value)} has {len(value)} characters, expected at most {LONGEST_ID}.")
    if _CONTROL.search(value) or not _is_unicode(value):
        raise FeedbackError(f"{role} {_shown(value)} holds control characters or half letters, expected plain text.")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(value: Any, role: str, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise FeedbackError(f"{role} is {_shown(value)}, expected {expected}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FeedbackError(f"{role} is {_shown(value)}, expected {expected}.")
    return number


def _check_kind(kind: Any) -> None:
    if isinstance(kind, str) and kind in KINDS:
        return
    if kind == "rating":
        raise FeedbackError("kind is 'rating': give the number as `rating`, and no kind.")
    near = difflib.get_close_matches(str(kind).lower(), KINDS, n=1, cutoff=0.0)[0]
    raise FeedbackError(f"unknown kind {_shown(kind)}; did you mean {near!r}? Kinds are {', '.join(KINDS)}.")


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _context(value: Any) -> dict[str, Any] | None:
    """A copy that nobody else holds, as it will be read back from JSON."""
    if not value and (value is None or isinstance(value, Mapping)):
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise FeedbackError(f"context is {_shown(value)}, expected names with values, such as {{'page': 'home'}}.")
    try:
        text = _json(dict(value))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise FeedbackError(f"context {_shown(value)} is not JSON ({error}).") from error
    if size > LARGEST_CONTEXT:
        raise FeedbackError(
            f"context has {size} bytes as JSON, expected at most {LARGEST_CONTEXT}. Keep what is large elsewhere, and "
            "a reference to it here."
        )
    return json.loads(text)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _parsed(text: str, role: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FeedbackError(f"{role} is {_shown(text)}, expected a number.") from None


def _parsed_context(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FeedbackError(f'context is {_shown(text)}, expected JSON such as {{"page": "home"}}.') from error


def _seconds(value: Any) -> Any:
    """Unix seconds from a number, its text, an ISO date, a date or a datetime."""
    if isinstance(value, str):
        text = value.strip()
        try:
            return float(text)
        except ValueError:
            pass
        try:
            # Python 3.10 does not know the Z of UTC.
            value = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)
        except ValueError:
            raise FeedbackError(f"time is {_shown(text)}, expected unix seconds or an ISO date.") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    return value
