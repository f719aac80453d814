"""The file under the feedback log: an SQLite database that is recognised, durable, and says in words what is wrong.

Used by :class:`~llm4rec.training.online.feedback_log.FeedbackLog` alone, which knows what the rows mean.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

APPLICATION_ID = 0x4C345246
"""Number in the header of the file that tells a feedback log from other SQLite databases ("L4RF")."""

SCHEMA_VERSION = 1

RESTORE = "Restore a copy, or save what can be read with `sqlite3 FILE .recover`."
"""What to do about a damaged file."""

_SCHEMA = (
    """CREATE TABLE events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL,
        item_id TEXT NOT NULL,
        kind TEXT,
        rating REAL,
        time REAL NOT NULL,
        context TEXT,
        propensity REAL,
        received REAL NOT NULL,
        CHECK ((kind IS NULL) <> (rating IS NULL)),
        CHECK (propensity IS NULL OR (propensity > 0 AND propensity <= 1))
    )""",
    "CREATE INDEX events_of_user ON events (user_id, sequence)",
    """CREATE TABLE positions (
        consumer TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL CHECK (sequence >= 0),
        version TEXT,
        recorded REAL NOT NULL
    )""",
)
_WAL_LIMIT = 16 * 2**20  # bytes that the write-ahead log keeps after a burst
_RETRY_SECONDS = 0.02


class FeedbackLogError(OSError):
    """The log cannot be read or written; what was acknowledged before stays."""


class FeedbackLogLockedError(FeedbackLogError):
    """Another process has been writing for longer than one may wait."""


class FeedbackLogFullError(FeedbackLogError):
    """There is no room on the disk."""


class FeedbackDatabase:
    """An open file; threads may share it.

    Args:
        path: the file; it is made if it does not exist.
        busy_seconds: how long a writer waits for another.
        create: false to refuse a path where there is no log yet.

    Raises:
        FileNotFoundError: if the file (with `create=False`), or the folder it would lie in, does not exist.
        FeedbackLogError: if the file is something else, is damaged, or was written by a newer version.
        FeedbackLogLockedError: if a new file stays locked by another process.
    """

    def __init__(self, path: Path, busy_seconds: float, create: bool):
        self.path = path
        self.busy_seconds = busy_seconds
        self._lock = threading.RLock()
        self._is_open = True
        _require_place(path, create)
        try:
            # An absolute path is never one of SQLite's special names, such as ":memory:".
            self._connection = sqlite3.connect(
                path.absolute(), timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._explained(error) from error
        try:
            self._open(create)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let go of the file. Closing twice is fine."""
        with self._lock:
            self._is_open = False
            self._connection.close()

    def rows(self, query: str, *values: Any) -> list[tuple]:
        """Run a statement with its values and return all rows.

        Raises:
            FeedbackLogError: in place of SQLite's own errors.
        """
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._explained(error) from error

    def number(self, query: str, *values: Any) -> int:
        """The one value of a query that gives one."""
        return self.rows(query, *values)[0][0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block whose statements take effect together, on the disk when it ends; none of them after an error.

        Raises:
            FeedbackLogLockedError: if another writer does not end in time.
            FeedbackLogError: if it cannot be written, or inside another transaction.
        """
        with self._lock:
            if self._is_open and self._connection.in_transaction:
                raise FeedbackLogError(f"{self.path}: one transaction inside another; end the first.")
            self.rows("BEGIN IMMEDIATE")
            try:
                yield
                self.rows("COMMIT")
            except BaseException:
                # A full disk may have ended the transaction already.
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def empty_wal(self) -> bool:
        """Move everything from the write-ahead log into the file and cut it to nothing; false if a reader forbids it.

        Waits for readers as long as a writer would.
        """
        return self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the file, at most five times."""
        return [" ".join(text.split()) for (text,) in self.rows("PRAGMA integrity_check(5)") if text != "ok"]

    def _open(self, create: bool) -> None:
        """Recognise the file or fill an empty one; what is not ours is left as it is."""
        self.rows("BEGIN")  # one view of the file, which another process may be filling
        is_ours = self._is_ours()
        self.rows("COMMIT")
        if not is_ours and not create:
            raise FeedbackLogError(f"{self.path} is empty, expected a feedback log.")
        self.rows("PRAGMA trusted_schema = OFF")
        self._use_wal()
        self.rows("PRAGMA synchronous = FULL")  # a commit returns when it is on the disk
        self.rows("PRAGMA secure_delete = ON")
        self.rows(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        if is_ours:
            return
        with self.transaction():
            if not self._is_ours():  # another process may have been faster
                for statement in _SCHEMA:
                    self.rows(statement)
                self.rows(f"PRAGMA application_id = {APPLICATION_ID}")
                self.rows(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _is_ours(self) -> bool:
        """Whether the file is a feedback log; false if it is empty, an error if it is anything else."""
        application, version = self.number("PRAGMA application_id"), self.number("PRAGMA user_version")
        if application == 0 and version == 0 and not self.number("SELECT count(*) FROM sqlite_master"):
            return False
        if application != APPLICATION_ID:
            raise FeedbackLogError(f"{self.path} is an SQLite database, but not a feedback log. Give another path.")
        if version > SCHEMA_VERSION:
            raise FeedbackLogError(
                f"{self.path} was written by a newer llm4rec (schema {version}, this one knows up to "
                f"{SCHEMA_VERSION}). Update llm4rec."
            )
        if version != SCHEMA_VERSION:
            raise FeedbackLogError(f"{self.path} has schema {version}, which never was. {RESTORE}")
        return True

    def _use_wal(self) -> None:
        """Switch to write-ahead logging. SQLite does not wait for others here, but two may make the file at once."""
        deadline = time.monotonic() + self.busy_seconds
        while True:
            try:
                mode = self.rows("PRAGMA journal_mode = WAL")[0][0]
                break
            except FeedbackLogLockedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)
        if mode != "wal":
            raise FeedbackLogError(
                f"{self.path} cannot use a write-ahead log (SQLite says {mode!r}). Put it on a local disk."
            )

    def _explained(self, error: sqlite3.Error) -> Exception:
        """The same in words; known by its text, since Python 3.10 does not hand on SQLite's codes."""
        said = str(error)
        if not self._is_open:
            return FeedbackLogError(f"{self.path}: this log is closed.")
        if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
            return error
        if "locked" in said:
            return FeedbackLogLockedError(
                f"{self.path} is locked: another process has been writing for more than {self.busy_seconds:g} s. "
                "A log has one writer at a time; wait for it or end it, then try again."
            )
        if "full" in said:
            return FeedbackLogFullError(
                f"{self.path} cannot grow: the disk is full. Nothing of this step was taken, everything acknowledged "
                "before is safe. Make room, then send the events again."
            )
        if "disk I/O" in said:
            return FeedbackLogError(
                f"{self.path} cannot be read or written (disk I/O error): a full disk, a limit on the size of files, "
                "or a failing disk. Everything acknowledged before is safe where the disk is. Make room, then send "
                "the events again."
            )
        if "not a database" in said:
            return FeedbackLogError(f"{self.path} is no SQLite database, expected a feedback log. Give another path.")
        if "readonly" in said or "unable to open" in said:
            return FeedbackLogError(
                f"{self.path} cannot be opened for writing ({said}), which reading needs too. Check the permissions "
                "of the file and of its folder."
            )
        return FeedbackLogError(f"{self.path} is damaged ({said}). {RESTORE}")


def _require_place(path: Path, create: bool) -> None:
    if path.is_dir():
        raise FeedbackLogError(f"{path} is a folder, expected a feedback log, a file.")
    if path.exists():
        return
    if not create:
        raise FileNotFoundError(f"{path} not found: expected a feedback log.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path} cannot be made: there is no folder {folder}.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
