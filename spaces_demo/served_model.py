"""The served model: loaded once, shared by all visitors, never written to.

Made when the Space starts; `service.py` asks it at every request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..modeling_llm4rec import LLM4RecProcessor
from ..training.snapshot import Snapshot
from .default_checkpoint import EXAMPLES_FILE, FOLDER

LONGEST_NAME = 80


@dataclass(frozen=True)
class Example:
    """A history that a visitor may borrow."""

    name: str
    history: tuple[str, ...]


def load_served(name: str | None = None, revision: str | None = None) -> tuple[Snapshot, list[Example]]:
    """A model by folder or Hub id, the default checkpoint if none is named, and the examples that lie beside it.

    Raises:
        FileNotFoundError: if there is no such model or revision.
        ValueError: if it is damaged, or a revision of a folder is asked for.
    """
    from ..training.load import load_recommender

    place = str(FOLDER) if name is None else name
    model, processor = load_recommender(place, revision=revision)
    version = "default" if name is None else name if revision is None else f"{name}@{revision}"
    snapshot = Snapshot(model, processor, version)
    return snapshot, examples_of(place, processor, revision)


def examples_of(place: str, processor: LLM4RecProcessor, revision: str | None = None) -> list[Example]:
    """Examples of a model folder or repository; none where there are none, or items are not of the catalog."""
    from transformers.utils import cached_file

    path = cached_file(
        place,
        EXAMPLES_FILE,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return []
    given: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    examples = []
    for entry in given if isinstance(given, list) else []:
        history = entry.get("history") if isinstance(entry, dict) else None
        if isinstance(history, list) and history and all(item in processor.catalog for item in history):
            name = str(entry.get("name", f"Example {len(examples) + 1}"))[:LONGEST_NAME]
            examples.append(Example(name, tuple(str(item) for item in history)))
    return examples
