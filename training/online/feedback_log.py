"""The feedback log: every event that was acknowledged, kept for good, in the order in which it came.

Everything that learns while serving reads it; nothing learns from an event that is not in it. It is one SQLite file in
WAL mode. `append` returns when the events are on the disk, not before, and an event that comes twice is one event.

A learner applies each event exactly once, through any crash, in four steps:

1. **log**: `append` acknowledges the events; each has a sequence number that only grows.
2. **learn**: from `events(after=…)` in memory; nothing that readers see changes.
3. **publish** the new version in one atomic step, with the sequence number of the last event that it learned from
   written inside it.
4. **record** this number with `record_position`.

What a published version says of itself is the truth, the recorded position a note of it. A crash before 3 leaves the
old version, and its events are read again; a crash between 3 and 4 leaves a note that is behind. So a learner that
starts compares the two, records the version's number if it is ahead, and goes on after it.

User ids are stored as they are given, in plain text, readable by whoever can read the file. `forget_user` deletes.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import index
from pathlib import Path

from .feedback_database import RESTORE, FeedbackDatabase, FeedbackLogError, FeedbackLogLockedError
from .feedback_event import LONGEST_ID, FeedbackError, FeedbackEvent, as_id
from .feedback_rules import FeedbackRules

PAGE = 512
"""Events that a reader holds in memory at a time."""

_CONTENT = ("user_id", "item_id", "kind", "rating", "time", "context", "propensity")
_KNOWN = "SELECT sequence, user_id, item_id, kind, rating, time, context, propensity FROM events WHERE event_id = ?"
_INSERT = """
    INSERT INTO events (user_id, item_id, kind, rating, time, context, propensity, event_id, received)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_PAGE = """
    SELECT sequence, received, event_id, user_id, item_id, kind, rating, time, context, propensity FROM events
    WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?
"""
_PAGE_OF_USER = """
    SELECT sequence, received, event_id, user_id, item_id, kind, rating, time, context, propensity FROM events
    WHERE user_id = ? AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?
"""
_RECORD = """
    INSERT INTO positions (consumer, sequence, version, recorded) VALUES (?, ?, ?, ?) ON CONFLICT (consumer)
    DO UPDATE SET sequence = excluded.sequence, version = excluded.version, recorded = excluded.recorded
"""


class FeedbackConflictError(FeedbackError):
    """An event has the id of one in the log, and other content."""


@dataclass(frozen=True)
class Acknowledgement:
    """The log's promise that it holds an event.

    Args:
        event_id: of the event.
        sequence: its place in the log; later events have higher numbers, with gaps.
        is_new: false if the log had it already, and nothing changed.
    """

    event_id: str
    sequence: int
    is_new: bool


@dataclass(frozen=True)
class LoggedEvent:
    """An event as it lies in the log.

    Args:
        sequence: as in its acknowledgement.
        event: what was appended.
        received: unix seconds at which it was.
    """

    sequence: int
    event: FeedbackEvent
    received: float


@dataclass(frozen=True)
class Position:
    """How far a consumer has come.

    Args:
        consumer: its name.
        sequence: of the last event whose effect is published; 0 before the first.
        version: that was published with it.
        recorded: unix seconds; `None` if nothing is recorded yet.
    """

    consumer: str
    sequence: int = 0
    version: str | None = None
    recorded: float | None = None


@dataclass(frozen=True)
class LogFacts:
    """What a log that was verified holds.

    Args:
        events: their number.
        users: how many different users they come from.
        last_sequence: the highest number ever given, also to an event that is forgotten.
        positions: of all consumers, by name.
    """

    events: int
    users: int
    last_sequence: int
    positions: tuple[Position, ...]


class FeedbackLog:
    """A durable log of feedback events; a context manager.

    Several processes may have it open. Reading does not wait for writers; writers take turns, and one that waits too
    long is refused. Threads may share one object. The file must lie on a local disk: SQLite's WAL needs shared memory.

    Args:
        path: the file; it is made if it does not exist.
        rules: what new events are checked against; by default only the clock.
        busy_seconds: how long a writer waits for another.
        create: false to refuse a path where there is no log yet.

    Raises:
        FileNotFoundError: if the log (with `create=False`), or the folder it would lie in, does not exist.
        FeedbackLogError: if the file is something else, is damaged, or was written by a newer version.
        FeedbackLogLockedError: if a new file stays locked by another process.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rules: FeedbackRules | None = None,
        *,
        busy_seconds: float = 5.0,
        create: bool = True,
    ):
        self.path = Path(path)
        self.rules = rules if rules is not None else FeedbackRules()
        self._database = FeedbackDatabase(self.path, busy_seconds, create)

    def __enter__(self) -> FeedbackLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Closing twice is fine."""
        self._database.close()

    # --- Writing -----------------------------------------------------------------------------------------------------

    def append(self, events: FeedbackEvent | Iterable[FeedbackEvent]) -> list[Acknowledgement]:
        """Add one or several events in one transaction: all of them or, after an error, none.

        When it returns, the events are on the disk. Until then nothing is promised: after an error or a crash send
        them again; those that were taken are then duplicates.

        Args:
            events: gathered in memory before the first is written. For long streams see `append_stream`.

        Returns:
            One acknowledgement for each event, in their order; a duplicate has the sequence number of the first.

        Raises:
            FeedbackError: if an event breaks a rule.
            FeedbackConflictError: if the log has another event of the same id.
            FeedbackLogError: if it cannot be written: the disk is full, the file locked or damaged.
        """
        batch = [events] if isinstance(events, FeedbackEvent) else list(events)
        with self.transaction() as add:
            return [add(event) for event in batch]

    def append_stream(self, events: Iterable[FeedbackEvent], batch: int = 1000) -> Iterator[Acknowledgement]:
        """Add events as they come, `batch` to a transaction, one batch in memory.

        Each acknowledgement is yielded after its transaction; an error refuses the batch it is in, those before stay.
        Nothing is added until the acknowledgements are asked for.

        Raises:
            FeedbackError: as `append`.
            FeedbackLogError: as `append`.
        """
        waiting: list[FeedbackEvent] = []
        for event in events:
            waiting.append(event)
            if len(waiting) >= batch:
                yield from self.append(waiting)
                waiting = []
        if waiting:
            yield from self.append(waiting)

    @contextmanager
    def transaction(self) -> Iterator[Callable[[FeedbackEvent], Acknowledgement]]:
        """A block in which events are added one by one; they hold from its end, together, or not at all.

        The block is given a function that adds an event, or raises a `FeedbackError` and leaves the others as they
        are. Other writers wait until the block ends.
        """
        with self._database.transaction():
            yield self._add

    def _add(self, event: FeedbackEvent) -> Acknowledgement:
        if not isinstance(event, FeedbackEvent):
            raise TypeError(f"Expected a FeedbackEvent, got {type(event).__name__}; see FeedbackEvent.from_record.")
        content = tuple(event.context_json if name == "context" else getattr(event, name) for name in _CONTENT)
        # What was acknowledged once is acknowledged again, whatever the rules have become since.
        known = self._database.rows(_KNOWN, event.event_id)
        if known:
            sequence, *before = known[0]
            if tuple(before) != content:
                raise FeedbackConflictError(_difference(event.event_id, sequence, before, content))
            return Acknowledgement(event.event_id, sequence, is_new=False)
        self.rules.check(event)
        self._database.rows(_INSERT, *content, event.event_id, self.rules.clock())
        return Acknowledgement(event.event_id, self._database.number("SELECT last_insert_rowid()"), is_new=True)

    def forget_user(self, user_id: str) -> int:
        """Delete all events of a user, and overwrite the places in the file where they were.

        Their sequence numbers are not used again. What was learned from them, copies of the file and the sources they
        came from are not touched: an event of the user that is sent again is a new one.

        Returns:
            How many events were deleted.

        Raises:
            FeedbackLogLockedError: if they are deleted, but a reader keeps old pages of the file in use; call again.
        """
        user_id = as_id(user_id, "user_id")
        with self._database.transaction():
            count = self._database.number("SELECT count(*) FROM events WHERE user_id = ?", user_id)
            self._database.rows("DELETE FROM events WHERE user_id = ?", user_id)
        # The write-ahead log still has the pages as they were.
        if not self._database.empty_wal():
            raise FeedbackLogLockedError(
                f"{self.path}: {count} events of the user are deleted, but another process still reads older pages, "
                "which therefore stay on the disk. Forget the user again when it has ended."
            )
        return count

    # --- Reading -----------------------------------------------------------------------------------------------------

    def events(self, after: int = 0, limit: int | None = None, user_id: str | None = None) -> Iterator[LoggedEvent]:
        """Events in the order of their sequence numbers, :data:`PAGE` in memory at a time.

        It ends with the event that was the last when it started. Writers are never kept waiting.

        Args:
            after: only those with a higher sequence number.
            limit: at most so many; all if `None`.
            user_id: only those of this user.

        Raises:
            FeedbackLogError: if the file cannot be read, a row is damaged, or `after` is a number not given yet (an
                older copy of the file was put back).
        """
        query, user = (_PAGE, ()) if user_id is None else (_PAGE_OF_USER, (as_id(user_id, "user_id"),))
        after, last = index(after), self.last_sequence
        if after > last:
            raise FeedbackLogError(
                f"{self.path} has no event {after}, its last is {last}. If an older copy of it was put back, put "
                "back a model version that is as old, and record its position with rollback=True."
            )
        left = None if limit is None else index(limit)
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self._database.rows(query, *user, after, last, size)
            for row in page:
                yield self._logged(*row)
            if len(page) < size:
                return
            after = page[-1][0]
            left = None if left is None else left - size

    def follow(
        self,
        after: int = 0,
        size: int = PAGE,
        poll_seconds: float = 1.0,
        stop: threading.Event | None = None,
    ) -> Iterator[list[LoggedEvent]]:
        """Events as they come, from this or another process, in lists that are never empty; it waits for more.

        Args:
            after: only those with a higher sequence number.
            size: at most so many in a list; fewer if no more are there.
            poll_seconds: between two looks when nothing is new.
            stop: ends it when set, at once while it waits; without one it never ends.
        """
        stop = stop or threading.Event()
        while not stop.is_set():
            batch = list(self.events(after, limit=size))
            if batch:
                yield batch
                after = batch[-1].sequence
            else:
                stop.wait(poll_seconds)

    def count(self, after: int = 0) -> int:
        """How many events have a sequence number higher than `after`."""
        return self._database.number("SELECT count(*) FROM events WHERE sequence > ?", index(after))

    @property
    def last_sequence(self) -> int:
        """The highest sequence number ever given, 0 before the first."""
        return self._database.number("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'")

    def verify(self) -> LogFacts:
        """Read the whole file: SQLite's own check, then every event.

        Raises:
            FeedbackLogError: if anything is damaged, saying what.
        """
        problems = self._database.problems()
        if problems:
            raise FeedbackLogError(f"{self.path} is damaged: {'; '.join(problems)}. {RESTORE}")
        for _ in self.events():
            pass
        positions = self.positions()
        last = self.last_sequence
        for position in positions:
            if position.sequence > last:
                raise FeedbackLogError(
                    f"{self.path}: {position.consumer!r} is at {position.sequence}, after the last event, {last}. "
                    f"{RESTORE}"
                )
        users = self._database.number("SELECT count(DISTINCT user_id) FROM events")
        return LogFacts(self.count(), users, last, positions)

    def _logged(self, sequence: int, received: float, event_id: str, *content: object) -> LoggedEvent:
        values = dict(zip(_CONTENT, content, strict=True))
        try:
            values["context"] = None if values["context"] is None else json.loads(values["context"])
            return LoggedEvent(sequence, FeedbackEvent(event_id=event_id, **values), received)
        except (ValueError, TypeError, RecursionError) as error:
            raise FeedbackLogError(f"{self.path}: event {sequence} is damaged: {error} {RESTORE}") from error

    # --- Positions ---------------------------------------------------------------------------------------------------

    def position(self, consumer: str) -> Position:
        """How far a consumer has come; sequence 0 if it is not known."""
        found = [position for position in self.positions() if position.consumer == consumer]
        return found[0] if found else Position(consumer)

    def positions(self) -> tuple[Position, ...]:
        """How far each consumer has come, by name."""
        rows = self._database.rows("SELECT consumer, sequence, version, recorded FROM positions ORDER BY consumer")
        return tuple(Position(*row) for row in rows)

    def record_position(
        self,
        consumer: str,
        sequence: int,
        version: str | None = None,
        *,
        previous: int | None = None,
        rollback: bool = False,
    ) -> Position:
        """Note that the effect of all events up to `sequence` is published, as `version`; on the disk on return.

        Args:
            consumer: name of the learner, at most :data:`LONGEST_ID` characters.
            sequence: of the last event that it has applied.
            version: name of what it has published.
            previous: the position that it started from; refused if another process has moved it since.
            rollback: allow a position before the present one, because an older version is published again.

        Raises:
            ValueError: if it goes back without `rollback`, lies after the last event, or `previous` does not hold.
            FeedbackLogError: if it cannot be written.
        """
        if not consumer or len(consumer) > LONGEST_ID:
            raise ValueError(f"The consumer's name is {consumer!r}, expected 1 to {LONGEST_ID} characters.")
        sequence = index(sequence)
        with self._database.transaction():
            present, last = self.position(consumer), self.last_sequence
            if not 0 <= sequence <= last:
                raise ValueError(f"{consumer!r} cannot be at {sequence}: the last event of {self.path} is {last}.")
            if previous is not None and present.sequence != previous:
                raise ValueError(
                    f"{consumer!r} is at {present.sequence} (version {present.version}), not at {previous}: another "
                    "process moves it. Run one learner of a name at a time, and start again from its last version."
                )
            if sequence < present.sequence and not rollback:
                raise ValueError(
                    f"{consumer!r} is at {present.sequence} (version {present.version}) and cannot go back to "
                    f"{sequence}: events would be applied twice. Pass rollback=True if an older version is published."
                )
            recorded = Position(consumer, sequence, version, self.rules.clock())
            self._database.rows(_RECORD, consumer, sequence, version, recorded.recorded)
        return recorded


def _difference(event_id: str, sequence: int, before: Iterable[object], now: Iterable[object]) -> str:
    changed = [
        f"{name} {old!r} in the log, {new!r} now"
        for name, old, new in zip(_CONTENT, before, now, strict=True)
        if old != new
    ]
    return (
        f"event id {event_id!r} is taken: event {sequence} has it with other content ({'; '.join(changed)}). An id "
        "names one event for good; give the new one an id of its own."
    )
