"""Feedback: thumbs go into the durable log, and the model that the log's learner publishes comes back.

The one place where the Space meets online learning. `Feedback` needs two things from it:

- a **source** with `current()`, a :class:`~llm4rec.training.snapshot.Snapshot`, asked at every request:
  :class:`~llm4rec.training.online.published.LiveRecommender` for a model folder, whose learner may publish at any
  moment, and :class:`FixedRecommender` for a model of the Hub.
- the **log** (:class:`~llm4rec.training.online.feedback_log.FeedbackLog`), which the learner reads:
  `llm4rec learn MODEL --follow LOG`.

Whatever is learned later, a thumb changes the visitor's own next list at once (`visitor.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ..training.online.feedback_event import FeedbackEvent
from ..training.online.feedback_log import FeedbackLog
from ..training.online.feedback_rules import FeedbackRules
from ..training.online.published import LiveRecommender
from ..training.snapshot import Snapshot
from .served_model import Example, examples_of, load_served
from .settings import Settings
from .visitor import Visitor

LIKE, DISLIKE = "like", "dislike"


class RecommenderSource(Protocol):
    """Gives the model that is to be served now."""

    def current(self) -> Snapshot:
        """The model, as it stays for one request."""


class FixedRecommender:
    """A model that does not learn while it serves."""

    def __init__(self, snapshot: Snapshot):
        self._snapshot = snapshot

    def current(self) -> Snapshot:
        """The model."""
        return self._snapshot


def source_of(settings: Settings) -> tuple[RecommenderSource, list[Example]]:
    """The model of the settings, and examples: a folder of the user's is watched for new versions.

    Raises:
        FileNotFoundError, ValueError: as of `load_served`.
    """
    folder = None if settings.model is None else Path(settings.model).expanduser()
    if folder is None or not folder.is_dir() or settings.revision is not None:
        snapshot, examples = load_served(settings.model, settings.revision)
        return FixedRecommender(snapshot), examples
    live = LiveRecommender(folder)
    return live, examples_of(str(folder), live.current().processor)


class Feedback:
    """Takes thumbs, and knows the current model.

    Args:
        source: of the model.
        log: path of the log; its folder is made if it is not there.
    """

    def __init__(self, source: RecommenderSource, log: Path):
        self._source = source
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = FeedbackLog(log)

    def current(self) -> Snapshot:
        """The model to serve."""
        return self._source.current()

    def give(self, visitor: Visitor, item_id: str, kind: str, context: dict[str, Any] | None = None) -> bool:
        """A thumb: on the disk first, then in the visitor's session.

        Args:
            kind: `like` or `dislike`.
            context: what else is known, kept with the event.

        Returns:
            Whether it was logged: what a visitor says of items of his own stays in the session.

        Raises:
            FeedbackError: for an unknown item or kind.
            FeedbackLogError: if it cannot be written; the session is then as it was.
        """
        own = any(row["item_id"] == item_id for row in visitor.added)
        if not own:
            shared = self.current()
            event = FeedbackEvent(
                visitor.key, item_id, kind, context={"version": shared.version, "source": "space", **(context or {})}
            )
            FeedbackRules(known_items=shared.processor.catalog).check(event)
            self.log.append(event)
        visitor.like(item_id) if kind == LIKE else visitor.hide(item_id)
        return not own

    def close(self) -> None:
        """Let go of the log."""
        self.log.close()
