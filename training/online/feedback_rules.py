"""What makes a valid event acceptable here and now: the catalog, the scale of ratings and the clock.

Held by :class:`~llm4rec.training.online.feedback_log.FeedbackLog`, which asks it about every event that is new to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .feedback_event import FeedbackError, FeedbackEvent, as_date


class KnownItems(Protocol):
    """Ids of the items that feedback may be about, such as a :class:`~llm4rec.Catalog`."""

    def __contains__(self, item_id: object) -> bool:
        """Whether the item is known."""

    def nearest(self, item_id: Any, n: int = 3) -> list[str]:
        """The n known ids that look most like `item_id`."""


class UnknownItemError(FeedbackError):
    """An event names an item that the catalog lacks; the nearest ids are looked up when the message is read."""

    def __init__(self, item_id: str, known_items: KnownItems):
        super().__init__(item_id)
        self.item_id = item_id
        self.known_items = known_items

    def __str__(self) -> str:
        near = ", ".join(self.known_items.nearest(self.item_id)) or "none"
        return f"unknown item id {self.item_id!r}. Nearest known: {near}. Add a new item to the catalog first."


@dataclass(frozen=True)
class FeedbackRules:
    """What an event is checked against. New users are always fine.

    Args:
        known_items: items that there are; any item if `None`.
        rating_range: lowest and highest rating; any finite number if `None`.
        future_tolerance: seconds by which an event's time may be ahead of the clock.
        clock: gives the unix time in seconds.
    """

    known_items: KnownItems | None = None
    rating_range: tuple[float, float] | None = None
    future_tolerance: float = 86_400.0
    clock: Callable[[], float] = time.time

    def check(self, event: FeedbackEvent) -> None:
        """Raise a `FeedbackError` if the event breaks a rule."""
        if self.known_items is not None and event.item_id not in self.known_items:
            raise UnknownItemError(event.item_id, self.known_items)
        now = self.clock()
        if event.time > now + self.future_tolerance:
            raise FeedbackError(
                f"time {as_date(event.time)} lies in the future: it is {as_date(now)}, and {self.future_tolerance:g} "
                "seconds ahead are tolerated. Expected unix seconds; check the sender's clock."
            )
        if event.rating is not None and self.rating_range is not None:
            low, high = self.rating_range
            if not low <= event.rating <= high:
                raise FeedbackError(f"rating is {event.rating:g}, expected {low:g} to {high:g}.")
