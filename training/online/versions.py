"""Published versions of a recommender that learns online: each whole, one of them current, any of them restorable.

They lie beside the model:

| file | what |
| --- | --- |
| `online/versions/<name>/` | adapter, state of the optimiser, memory, `version.json`; never changed once it is there |
| `online/current.json` | the name of the version that readers take |
| `online/lock` | held by the one process that publishes |

A version is written under another name, made durable and then renamed; `current.json` is replaced in one step. So a
reader finds a whole version whatever happens to the writer. A version says itself up to which event it has learned.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...modeling_llm4rec.memory import file_sha256

ONLINE = "online"
FEEDBACK_LOG = "feedback.db"
VERSIONS = "versions"
CURRENT_FILE = "current.json"
VERSION_FILE = "version.json"
LOCK_FILE = "lock"
UNFINISHED = ".unfinished-"
FORMAT = 1
BASE = "base"
"""Name of the model as it was trained, before any feedback."""

_ADVICE = "Make another version current: `llm4rec rollback MODEL VERSION`."
_NAME = re.compile(r"\d{6,}")


class VersionError(ValueError):
    """A version that is not there, damaged, or of a newer format."""


class LearnerBusyError(ValueError):
    """Another process publishes versions of this model."""


@dataclass(frozen=True)
class Version:
    """A published version.

    Args:
        name: of the folder, such as `000007`; `base` for the trained model.
        sequence: of the last event of the log that it has learned.
        parent: the version it went on from.
        created: unix seconds.
        events: events since its parent.
        facts: what was measured: loss, guard metric, distance from the base, whether an update was rejected.
        files: name to size in bytes and SHA-256.
    """

    name: str
    sequence: int = 0
    parent: str | None = None
    created: float = 0.0
    events: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)


class VersionStore:
    """The versions of a model folder.

    Args:
        model: the model folder.
        keep: versions that stay when more are published; the current one and its parents' base always do.
    """

    def __init__(self, model: str | Path, keep: int = 20):
        self.folder = Path(model) / ONLINE
        self.keep = keep

    def path(self, name: str) -> Path:
        """Folder of a version."""
        return self.folder / VERSIONS / name

    def names(self) -> list[str]:
        """Names of the published versions, oldest first, without the base."""
        folder = self.folder / VERSIONS
        if not folder.is_dir():
            return []
        return sorted(
            (entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name) and entry.is_dir()), key=int
        )

    def versions(self) -> list[Version]:
        """All of them, the base first."""
        return [Version(BASE), *(self.read(name) for name in self.names())]

    def read(self, name: str) -> Version:
        """What a version says of itself.

        Raises:
            VersionError: if there is none of that name, or it cannot be read.
        """
        if name == BASE:
            return Version(BASE)
        path = self.path(name) / VERSION_FILE
        if not _NAME.fullmatch(name) or not path.is_file():
            known = ", ".join([BASE, *self.names()[-5:]])
            raise VersionError(f"No version {name!r} in {self.folder}. The latest are {known}.")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format") > FORMAT:
                raise ValueError("it was written by a newer version of llm4rec")
            return Version(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise VersionError(f"{path} cannot be read ({error}). {_ADVICE}") from error

    def current(self) -> tuple[Version, int]:
        """The version that readers take, and the event after which learning goes on.

        Raises:
            VersionError: if what is current cannot be read.
        """
        path = self.folder / CURRENT_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            name, sequence = str(values["version"]), int(values["sequence"])
        except FileNotFoundError:
            return Version(BASE), 0
        except (ValueError, TypeError, KeyError) as error:
            raise VersionError(f"{path} is damaged ({error}). {_ADVICE}") from error
        return self.read(name), sequence

    def stamp(self) -> tuple[int, ...] | None:
        """Changes whenever another version becomes current; costs one look at the file system."""
        try:
            stat = os.stat(self.folder / CURRENT_FILE)
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def check(self, name: str) -> Version:
        """Read a version and compare all its files with their checksums.

        Raises:
            VersionError: naming the file that is missing or damaged.
        """
        version = self.read(name)
        for file, expected in version.files.items():
            path = self.path(name) / file
            if (
                not path.is_file()
                or path.stat().st_size != expected["bytes"]
                or file_sha256(path) != expected["sha256"]
            ):
                raise VersionError(f"{path} is missing or damaged. {_ADVICE}")
        return version

    def publish(
        self, write: Callable[[Path], None], sequence: int, parent: str, events: int, facts: dict[str, Any]
    ) -> Version:
        """Write a version and make it current; after an error or a crash the one before stays current.

        Args:
            write: given an empty folder, writes the version's files into it.
            sequence, parent, events, facts: see :class:`Version`.

        Raises:
            OSError: if it cannot be written: the disk is full.
        """
        root = self.folder / VERSIONS
        root.mkdir(parents=True, exist_ok=True)
        self._sweep(root)
        names = self.names()
        name = f"{int(names[-1]) + 1 if names else 1:06d}"
        partial = root / f"{UNFINISHED}{name}"
        partial.mkdir()
        try:
            write(partial)
            files = {}
            for path in sorted(entry for entry in partial.rglob("*") if entry.is_file()):
                files[path.relative_to(partial).as_posix()] = {
                    "bytes": path.stat().st_size,
                    "sha256": file_sha256(path),
                }
                _flush(path)
            version = Version(name, sequence, parent, time.time(), events, facts, files)
            _write_json(partial / VERSION_FILE, {"format": FORMAT, **asdict(version)})
            _flush(partial)
            os.replace(partial, root / name)
            _flush(root)
            self._point(name, sequence)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._prune(version)
        return version

    def restore(self, name: str, sequence: int | None = None) -> Version:
        """Make a version current again.

        Args:
            name: of the version, or `base`.
            sequence: event after which learning goes on; by default the last that the version has learned, so that
                later ones are learned again.

        Raises:
            VersionError: if it is not there or damaged.
        """
        version = self.check(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._point(name, version.sequence if sequence is None else sequence)
        return version

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Inside, no other process may publish or restore.

        Raises:
            LearnerBusyError: if one does.
        """
        import fcntl

        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOCK_FILE, "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise LearnerBusyError(
                    f"Another process (id {holder}) learns for {self.folder.parent}. One learner of a model at a "
                    "time: wait until it has ended, or stop it."
                ) from error
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield  # the system lets go of the lock when the file is closed, also by kill -9

    def _point(self, name: str, sequence: int) -> None:
        partial = self.folder / f"{UNFINISHED}{CURRENT_FILE}"
        _write_json(partial, {"format": FORMAT, "version": name, "sequence": sequence})
        os.replace(partial, self.folder / CURRENT_FILE)
        _flush(self.folder)

    def _prune(self, current: Version) -> None:
        """Delete the oldest versions; a reader holds what it has loaded."""
        for name in self.names()[: -self.keep]:
            if name not in {current.name, current.parent}:
                shutil.rmtree(self.path(name), ignore_errors=True)

    @staticmethod
    def _sweep(root: Path) -> None:
        """What a killed writer left behind."""
        for left in root.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    _flush(path)


def _flush(path: Path) -> None:
    """Onto the disk: a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


__all__ = ["BASE", "LearnerBusyError", "Version", "VersionError", "VersionStore"]
