"""The service: everything that the Space can do, for its tabs and for its API alike.

Between a request and the model: limits first, then the visitor's view of the model, then the answer as plain values.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..modeling_llm4rec import Catalog
from ..modeling_llm4rec.explanation_messages import MESSAGES
from ..modeling_llm4rec.explanation_text import STYLES
from ..modeling_llm4rec.title_search import TitleSearch
from ..training.snapshot import Snapshot
from .feedback import DISLIKE, LIKE, Feedback, RecommenderSource, source_of
from .limits import (
    LONGEST_QUERY,
    LONGEST_TITLE,
    LONGEST_VALUE,
    MOST_RECOMMENDED,
    PER_ADDRESS,
    PER_VISITOR,
    RateLimit,
)
from .markup import one_line
from .own_items import OwnItems
from .recommending import RecommendedList, Wish, recommend
from .served_model import Example
from .settings import Settings
from .study import StudyLog
from .visitor import LONGEST_HISTORY, MOST_ADDED, Visitor
from .why_not import Answer, why_not

POPULARITY = (-2.0, 3.0)
FOUND = 8
UNASKED = 4
"""Items that an empty search gives."""


@dataclass(frozen=True)
class Field:
    """A field of the form for a new item.

    Attributes:
        name: column of the catalog; label: shown.
        kind: `text`, `categorical` or `numerical`.
        values: known ones of a categorical field, the most frequent first.
    """

    name: str
    label: str
    kind: str
    values: tuple[str, ...] = ()


class Service:
    """A running Space.

    Args:
        settings: what it is started with.
        source: of the model, where it learns while it serves; by default that of the settings.
        examples: histories that visitors may borrow, where a source is given.
    """

    def __init__(self, settings: Settings, source: RecommenderSource | None = None, examples: Sequence[Example] = ()):
        self.settings = settings
        if source is None:
            source, examples = source_of(settings)
        self.examples = list(examples)
        self.feedback = Feedback(source, settings.feedback_log)
        self.study = StudyLog(settings.study, settings.study_styles)
        self._own_items = OwnItems()
        self._per_visitor, self._per_address = RateLimit(*PER_VISITOR), RateLimit(*PER_ADDRESS)
        self._search: tuple[Snapshot, TitleSearch] | None = None
        self._search_lock = threading.Lock()

    def close(self) -> None:
        """Let go of the files."""
        self.feedback.close()

    # --- Who asks ----------------------------------------------------------------------------------------------------

    def admit(self, session: str, address: str) -> None:
        """Count a request; raises `TooManyRequestsError` if there were too many."""
        self._per_visitor.take(session)
        self._per_address.take(address)

    def snapshot(self, visitor: Visitor) -> Snapshot:
        """The model as this visitor sees it: the shared one, with the items that the visitor added."""
        return self._own_items.snapshot(self.feedback.current(), visitor.key, visitor.added)

    def forget(self, visitor: Visitor | None) -> None:
        """Let go of what is kept for a visitor who has left; what was logged stays."""
        if visitor is not None:
            self._own_items.forget(visitor.key)

    # --- Items -------------------------------------------------------------------------------------------------------

    def search(self, visitor: Visitor, text: str, k: int = FOUND) -> list[dict[str, Any]]:
        """Items whose title is like a text, the visitor's own first; an empty text gives a few of the catalog.

        Returns:
            rows of the catalog.
        """
        snapshot = self.snapshot(visitor)
        catalog, text = snapshot.processor.catalog, one_line(text, LONGEST_QUERY)
        if not text:
            step = max(1, len(catalog) // UNASKED)
            return [catalog.row(index) for index in range(0, len(catalog), step)][:UNASKED]
        found: list[int] = []
        if visitor.added:
            first = len(catalog) - len(visitor.added)
            found = [first + index for index in TitleSearch(Catalog(visitor.added)).suggest(text, k)]
        with self._search_lock:  # its index is built while it searches
            found += self._titles().suggest(text, k)
        return [catalog.row(index) for index in dict.fromkeys(found)][:k]

    def _titles(self) -> TitleSearch:
        """Search of the shared catalog; made anew with a new version of the model."""
        shared = self.feedback.current()
        if self._search is None or self._search[0] is not shared:
            self._search = (shared, TitleSearch(shared.processor.catalog))
        return self._search[1]

    def _meant(self, visitor: Visitor, text: str) -> str:
        """Id of the item that a text means: an id, the title of an own item, or a title that is close enough."""
        own = {row["item_id"]: row["title"].casefold() for row in visitor.added}
        for item_id, title in own.items():
            if text == item_id or text.casefold() == title:
                return item_id
        with self._search_lock:
            titles = self._titles()
            return titles.catalog.item_ids[titles.resolve(text)]

    def new_item_fields(self) -> list[Field]:
        """What a new item may be described by: what the model reads and a person can type."""
        processor = self.feedback.current().processor
        title, fields = Field("title", "Title", "text"), []
        for modality in processor.items["modalities"]:
            name, kind = modality["name"], modality["kind"]
            if kind not in {"text", "categorical", "numerical"} or name == "title":
                continue
            fields.append(Field(name, name.replace("_", " ").capitalize(), kind, tuple(modality["values"])))
        return [title, *fields]

    def add_item(self, visitor: Visitor, values: dict[str, Any]) -> str:
        """Add an item to this visitor's catalog.

        Args:
            values: by the names of `new_item_fields`.

        Returns:
            its id.

        Raises:
            ValueError: if it has no title, nothing that the model can read, a value of the wrong kind, or the visitor
                has added enough.
        """
        if len(visitor.added) >= MOST_ADDED:
            raise ValueError(
                f"You have added {MOST_ADDED} items, which is as many as a visitor may. Start over first."
            )
        row: dict[str, Any] = {"item_id": f"yours-{uuid.uuid4().hex[:8]}"}
        for entry in self.new_item_fields():
            row[entry.name] = _checked(entry, values.get(entry.name))
        if not row["title"]:
            raise ValueError("The new item has no title. Give it one, so that you can find it.")
        shared = self.feedback.current()
        try:
            self._own_items.snapshot(shared, visitor.key, [*visitor.added, row])
        except ValueError as error:
            if "no modality" not in str(error):
                raise
            raise ValueError(
                "The model knows nothing of this item: only its title was given, which this model does not read. "
                "Choose at least one more value."
            ) from error
        visitor.added = [*visitor.added, row]
        return row["item_id"]

    def history_of(self, item_ids: Any, snapshot: Snapshot) -> list[str]:
        """A history that came from outside, checked.

        Raises:
            ValueError: if it is too long, or no list of known ids.
        """
        if not isinstance(item_ids, (list, tuple)) or len(item_ids) > LONGEST_HISTORY:
            what = f"{len(item_ids)} items" if isinstance(item_ids, (list, tuple)) else type(item_ids).__name__
            raise ValueError(f"The history is {what}, expected a list of at most {LONGEST_HISTORY} item ids.")
        catalog = snapshot.processor.catalog
        return [catalog.item_ids[catalog.index(one_line(item, 256))] for item in item_ids]

    # --- Answers -----------------------------------------------------------------------------------------------------

    def recommend(self, visitor: Visitor, wish: Wish) -> RecommendedList:
        """A list for the visitor as things are now."""
        snapshot = self.snapshot(visitor)
        known = [item for item in visitor.history if item in snapshot.processor.catalog]
        return recommend(snapshot, known, visitor.hidden, wish)

    def why_not(self, visitor: Visitor, text: str, wish: Wish) -> Answer:
        """Why an item is not on the list, or why it is.

        Args:
            text: id of an item, or what it is called.

        Raises:
            ValueError: if no item is meant, or several may be; names the nearest.
        """
        snapshot = self.snapshot(visitor)
        text = one_line(text, LONGEST_TITLE)
        if not text:
            raise ValueError("No item is named. Write the title of the item that you miss.")
        catalog = snapshot.processor.catalog
        text = self._meant(visitor, text)
        known = [item for item in visitor.history if item in catalog]
        return why_not(snapshot, known, visitor.hidden, text, wish)

    def react(self, visitor: Visitor, item_id: str, kind: str, wish: Wish | None = None) -> bool:
        """A thumb up or down; returns whether it was logged.

        Raises:
            ValueError: for an unknown item, or another kind.
        """
        if kind not in (LIKE, DISLIKE):
            raise ValueError(f"Feedback is {kind!r}, expected {LIKE!r} or {DISLIKE!r}.")
        context = {} if wish is None else {"popularity": wish.popularity, "diversity": wish.diversity}
        return self.feedback.give(visitor, item_id, kind, context)

    def wish(
        self, k: int = 10, popularity: float | None = None, diversity: float = 0.0, style: str = "short", language="en"
    ) -> Wish:
        """How a list shall be, checked.

        Raises:
            ValueError: naming the value that is out of range.
        """
        ranges = {"k": (k, 1, MOST_RECOMMENDED), "diversity": (diversity, 0, 1)}
        if popularity is not None:
            ranges["popularity"] = (popularity, *POPULARITY)
        for name, (value, low, high) in ranges.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}, expected a number from {low:g} to {high:g}.")
        for name, given, known in (("style", style, STYLES), ("language", language, MESSAGES)):
            if given not in known:
                raise ValueError(f"{name} is {one_line(given, 40)!r}, expected one of {', '.join(known)}.")
        serves = self.feedback.current().has_popularity
        return Wish(int(k), popularity if serves else None, float(diversity), style, language)


def _checked(entry: Field, value: Any) -> Any:
    if value is None or (isinstance(value, (str, list)) and not value):
        return None
    if entry.kind == "numerical":
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not abs(number) < 1e12:
            raise ValueError(f"{entry.label} is {one_line(value, 40)!r}, expected a number.")
        return number
    if entry.kind == "categorical":
        values = value if isinstance(value, (list, tuple)) else [value]
        return [one_line(one, LONGEST_VALUE) for one in values[:10]]
    return one_line(value, LONGEST_TITLE if entry.name == "title" else 1000) or None
