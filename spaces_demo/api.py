"""The API: what programs and agents (MCP) ask the Space, by name.

Stateless: a caller brings the history with each request and sees the shared catalog alone.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from .feedback import DISLIKE, LIKE
from .handlers import QUEUE, QUICK, address_of, refusals_shown
from .markup import one_line
from .recommending import recommend
from .service import FOUND, Service
from .visitor import Visitor
from .why_not import why_not

MOST_HIDDEN = 200
WITHOUT_MODEL = ("search_items", "give_feedback")


def add_endpoints(service: Service) -> None:
    """Add the endpoints to the page that is being built."""

    def admitted(request: gr.Request) -> None:
        service.admit(str(request.session_hash), address_of(request))

    def search_items(request: gr.Request, text: str, k: int = FOUND) -> list[dict[str, Any]]:
        """Find items of the catalog by title.

        Args:
            text: a word or more of a title.
            k: how many items, at most 20.
        """
        with refusals_shown(markup=False):
            admitted(request)
            return service.search(Visitor(), text, service.wish(k).k)

    def recommend_items(
        request: gr.Request,
        history: list[str],
        k: int = 10,
        popularity: float = 0.0,
        diversity: float = 0.0,
        hidden: list[str] | None = None,
        style: str = "short",
        language: str = "en",
    ) -> list[dict[str, Any]]:
        """Recommend items for a history, each with an explanation and the evidence behind it.

        Args:
            history: item ids in time order, the latest last; may be empty.
            k: how many items, at most 20.
            popularity: weight of popularity in the ranking, -2 to 3; 0 takes it out.
            diversity: 0 keeps the order by score, 1 looks at variety alone.
            hidden: item ids that must not be recommended.
            style: of the explanations: short, detailed, contrastive or sceptical.
            language: of the explanations: en or de.
        """
        with refusals_shown(markup=False):
            admitted(request)
            snapshot = service.feedback.current()
            wish = service.wish(k, popularity, diversity, style, language)
            listed = recommend(snapshot, service.history_of(history, snapshot), _hidden(hidden), wish)
            return [
                {**record, "explanation": text, "retrieved": retrieved}
                for record, text, retrieved in zip(listed.records, listed.texts, listed.retrieved, strict=True)
            ]

    def explain_item(request: gr.Request, item_id: str, history: list[str], popularity: float = 0.0) -> dict[str, Any]:
        """Say why an item stands where it does for a history, and what would bring it up.

        Args:
            item_id: of any item, recommended or not.
            history: item ids in time order, the latest last.
            popularity: weight of popularity in the ranking, -2 to 3.
        """
        with refusals_shown(markup=False):
            admitted(request)
            snapshot = service.feedback.current()
            wish = service.wish(10, popularity)
            answer = why_not(snapshot, service.history_of(history, snapshot), [], item_id, wish)
            changes = [{"kind": one.kind, "name": one.name, "rank": one.rank} for one in answer.changes]
            return {**answer.record, "explanation": answer.text, "changes": changes}

    def place_new_item(request: gr.Request, item: dict[str, Any], history: list[str]) -> dict[str, Any]:
        """Describe an item that is not in the catalog, and see where it would stand for a history.

        Args:
            item: its title and other fields by the names of the catalog's columns.
            history: item ids in time order, the latest last.
        """
        with refusals_shown(markup=False):
            admitted(request)
            if not isinstance(item, dict):
                raise ValueError(f"item is {type(item).__name__}, expected names of fields with values.")
            visitor = Visitor()
            visitor.history = service.history_of(history, service.feedback.current())
            try:
                item_id = service.add_item(visitor, item)
                answer = service.why_not(visitor, item_id, service.wish(10))
            finally:
                service.forget(visitor)
            return {**answer.record, "explanation": answer.text}

    def give_feedback(request: gr.Request, item_id: str, liked: bool) -> str:
        """Like or dislike an item. The event is kept in the log that online learning reads.

        Args:
            item_id: of the catalog.
            liked: true for a thumb up, false for a thumb down.
        """
        with refusals_shown(markup=False):
            admitted(request)
            visitor = Visitor(key=f"api-{request.session_hash or 'unknown'}")
            service.react(visitor, item_id, LIKE if liked else DISLIKE)
            return "logged"

    named = {
        "search_items": search_items,
        "recommend": recommend_items,
        "explain_item": explain_item,
        "place_new_item": place_new_item,
        "give_feedback": give_feedback,
    }
    for name, endpoint in named.items():
        gr.api(endpoint, api_name=name, **(QUICK if name in WITHOUT_MODEL else QUEUE))


def _hidden(given: Any) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, (list, tuple)) or len(given) > MOST_HIDDEN:
        what = f"{len(given)} items" if isinstance(given, (list, tuple)) else type(given).__name__
        raise ValueError(f"hidden is {what}, expected a list of at most {MOST_HIDDEN} item ids.")
    return [one_line(item, 256) for item in given]
