"""A visitor: what one session has chosen, hidden and added. It lives in the session and nowhere else."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

LONGEST_HISTORY = 50
MOST_HIDDEN = 200
MOST_ADDED = 10


@dataclass
class Visitor:
    """One session.

    Attributes:
        key: random name, under which feedback is logged.
        history: item ids, the latest last.
        liked: items of the history that came from a thumb up.
        hidden: items that are not shown again.
        added: rows of the items that the visitor described.
    """

    key: str = field(default_factory=lambda: f"visitor-{uuid.uuid4()}")
    history: list[str] = field(default_factory=list)
    liked: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    added: list[dict[str, Any]] = field(default_factory=list)

    def choose(self, item_id: str) -> None:
        """Put an item at the end of the history; the oldest makes room in a long one."""
        self.history = [*(item for item in self.history if item != item_id), item_id][-LONGEST_HISTORY:]
        self.hidden = [item for item in self.hidden if item != item_id]

    def take_back(self, item_id: str) -> None:
        """Take an item out of the history."""
        self.history = [item for item in self.history if item != item_id]
        self.liked = [item for item in self.liked if item != item_id]

    def like(self, item_id: str) -> None:
        """A thumb up: the item counts as chosen at once."""
        self.choose(item_id)
        if item_id not in self.liked:
            self.liked.append(item_id)

    def hide(self, item_id: str) -> None:
        """A thumb down: the item goes at once, and does not come back."""
        self.take_back(item_id)
        if item_id not in self.hidden:
            self.hidden = [*self.hidden, item_id][-MOST_HIDDEN:]

    def show_again(self) -> None:
        """Forget what was hidden."""
        self.hidden = []

    def start_with(self, history: list[str]) -> None:
        """Begin anew from a history; added items stay."""
        self.history, self.liked, self.hidden = list(history)[-LONGEST_HISTORY:], [], []
