"""What of a model folder goes to the Hub: every file is uploaded, left out for a reason, or a reason to stop.

Looked at before anything is sent (`training/hub/push.py`), and all that `llm4rec push --dry-run` does. What was
published cannot be taken back, so data about people and secrets stop it instead of being passed over in silence.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from ..online.versions import ONLINE

TRAINING_FOLDERS = ("checkpoints", "checkpoint-*", "runs", "wandb", "mlruns")
TRAINING_STATE = (
    *("optimizer*", "scheduler*", "scaler.*", "rng_state*", "random_states*"),
    *("trainer_state.json", "training_args.bin", "*.distcp", "events.out.tfevents.*"),
)
PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
TEMPORARY = ("*~", "*.lock", "*.part", "*.partial", "*.swp", "*.tmp", "__pycache__")

TABLES = (".arrow", ".csv", ".dat", ".feather", ".jsonl", ".ndjson", ".orc", ".parquet", ".tsv", ".xls", ".xlsx")
DATABASES = ("*.db", "*.db-*", "*.db3", "*.duckdb", "*.sqlite", "*.sqlite-*", "*.sqlite3", "*.sqlite3-*")
RAW_NAMES = ("ratings.*", "interactions.*", "users.*", "events.*", "feedback.*")
MODEL_TABLES = ("catalog.parquet", "memory/*.parquet")
COMPRESSED = (".bz2", ".gz", ".xz", ".zst")
ARCHIVES = (".7z", ".rar", ".tar", ".tgz", ".zip")

NOT_TEXT = (".faiss", ".parquet", ".safetensors")
TOKEN = re.compile(rb"(?<![A-Za-z0-9_])(?:hf|api_org)_[A-Za-z0-9]{30,}")
LONGEST_TOKEN = 256
BLOCK = 2**20


@dataclass(frozen=True)
class PlannedFile:
    """A file that is uploaded: its path in the repository and its bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not uploaded, and why; `path` of a folder ends in a slash."""

    path: str
    size: int
    reason: str


@dataclass
class UploadPlan:
    """What is uploaded of a folder and what is not, each in the order of paths."""

    folder: Path
    files: list[PlannedFile] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def total_bytes(self) -> int:
        """Bytes of all files that are uploaded."""
        return sum(file.size for file in self.files)


def plan_upload(folder: str | Path, only: tuple[str, ...] | None = None) -> UploadPlan:
    """Look through a folder.

    Args:
        only: names of the files at its top that are wanted; the rest is not looked at. By default all.

    Raises:
        ValueError: naming the files that hold data about people, or a Hub token, or may do so.
        OSError: if a file cannot be read.
    """
    plan, refused = UploadPlan(Path(folder)), []
    for path, parts in _walk(plan.folder):
        if only is not None and (len(parts) > 1 or parts[0] not in only):
            continue
        name = "/".join(parts) + "/" * path.is_dir()
        if reason := _reason_to_leave_out(path, parts):
            plan.left_out.append(LeftOut(name, _size(path), reason))
        elif reason := _reason_to_refuse(path, parts):
            refused.append(f"{name} ({reason})")
        else:
            plan.files.append(PlannedFile(name, path.stat().st_size))
    if refused:
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise ValueError(
            f"{folder} is not uploaded, for it holds what must not be published: {', '.join(refused[:5])}{more}. Move "
            "what is no part of the model out of the folder; take a token out of the file and revoke it."
        )
    return plan


def _walk(folder: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Files, and the folders that are not entered: those that are left out, and links."""
    found = []
    for here, folders, files in os.walk(folder):
        inside = Path(here).relative_to(folder).parts
        closed = [name for name in folders if _leaves_out_folder(name) or (Path(here) / name).is_symlink()]
        folders[:] = [name for name in folders if name not in closed]
        found += [(Path(here) / name, (*inside, name)) for name in (*closed, *files)]
    return sorted(found, key=lambda entry: entry[1])


def _leaves_out_folder(name: str) -> bool:
    return name.startswith(".") or name == ONLINE or _like(name, TRAINING_FOLDERS) or _like(name, TEMPORARY)


def _reason_to_leave_out(path: Path, parts: tuple[str, ...]) -> str | None:
    name = parts[-1]
    if name.startswith("."):
        return "hidden"
    if _like(name, TEMPORARY):
        return "temporary"
    if _like(name, TRAINING_FOLDERS if path.is_dir() else TRAINING_STATE):
        return "training state"
    if name == ONLINE and path.is_dir():
        return "feedback and what was learned from it; `llm4rec versions MODEL --export` makes a model of a version"
    if path.is_dir():
        return "a link to a folder"
    if PurePosixPath(name.lower()).suffix in PICKLES:
        return "a pickle or the like, which nothing here loads"
    return None


def _reason_to_refuse(path: Path, parts: tuple[str, ...]) -> str | None:
    if not path.is_file():
        return "neither a file nor a folder"
    names = {parts[-1].lower(), path.resolve().name.lower()}  # a link is what it points to
    for name in names:
        suffix = PurePosixPath(name).suffix
        if suffix in ARCHIVES or PurePosixPath(name).suffixes[-2:-1] == [".tar"]:
            return "an archive: who knows what is in it"
        while suffix in COMPRESSED:
            name = name[: -len(suffix)]
            suffix = PurePosixPath(name).suffix
        if _like(name, DATABASES):
            return "a database, such as a log of feedback"
        is_of_model = _like("/".join(parts).lower(), MODEL_TABLES)
        if not is_of_model and (suffix in TABLES or _like(name, RAW_NAMES)):
            return "raw data"
    if names.isdisjoint(NOT_TEXT) and not any(name.endswith(NOT_TEXT) for name in names):
        line = line_with_token(path)
        if line is not None:
            return f"line {line:,} holds a Hub token"
    return None


def line_with_token(path: Path) -> int | None:
    """Number of the first line of a text file that holds a token; the token itself is nowhere repeated."""
    line, before = 1, b""
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            if not before and b"\0" in block[:8192]:
                return None
            found = TOKEN.search(before + block)
            if found:
                return line + (before + block).count(b"\n", 0, found.start()) - before.count(b"\n")
            line += block.count(b"\n")
            before = (before + block)[-LONGEST_TOKEN:]
    return None


def _like(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name.lower(), pattern) for pattern in patterns)


def _size(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
