"""A log in a temporary folder, a clock that stands still, and the events of a small shop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from llm4rec.training.online.feedback_event import FeedbackEvent
from llm4rec.training.online.feedback_log import FeedbackLog
from llm4rec.training.online.feedback_rules import FeedbackRules

NOW = 1_750_000_000.0  # 2025-06-15 15:06:40 UTC


@pytest.fixture
def rules() -> FeedbackRules:
    return FeedbackRules(clock=lambda: NOW)


@pytest.fixture
def log(tmp_path: Path, rules: FeedbackRules) -> Iterator[FeedbackLog]:
    with FeedbackLog(tmp_path / "feedback.db", rules, busy_seconds=0.2) as opened:
        yield opened


@pytest.fixture
def click() -> Callable[..., FeedbackEvent]:
    """A click of `u1` on `tent`; give what differs."""

    def make(event_id: str, **values) -> FeedbackEvent:
        return FeedbackEvent(
            **{"event_id": event_id, "user_id": "u1", "item_id": "tent", "kind": "click", "time": NOW - 60, **values}
        )

    return make


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., list[str]]:
    """The command that runs a program text in a process of its own, with arguments."""

    def command(program: str, *arguments: object) -> list[str]:
        folder = tmp_path / "programs" / str(abs(hash(program)))
        folder.mkdir(parents=True, exist_ok=True)
        # Under this name, that of the command line, `import llm4rec` is quick: it leaves the model until it is needed.
        script = folder / "llm4rec"
        script.write_text(program)
        return [sys.executable, str(script), *map(str, arguments)]

    return command
