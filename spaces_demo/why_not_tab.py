"""The tab "Why not this item?": ask about any item of the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..modeling_llm4rec.title_search import TitleNotFoundError
from .answer_card import answer_card, not_found
from .handlers import PAGE, clicked, guarded
from .limits import LONGEST_TITLE
from .markup import CLICKS, nothing
from .service import Service
from .visitor import Visitor

EMPTY = nothing("No item asked about yet", "Write a title above, or press Why? on a recommendation.")


@dataclass
class WhyNotTab:
    """Components that other tabs speak to."""

    asked: gr.Textbox
    answer: gr.HTML
    ask: Any


def why_not_tab(service: Service, visitor: gr.State, wish: list[Any]) -> WhyNotTab:
    """Build the tab.

    Args:
        wish: components that decide how the list is made in which the item is missed.
    """

    def ask(visitor: Visitor, text: str, popularity: float, diversity: float, style: str, language: str) -> str:
        wish = service.wish(10, popularity, 0.0, style, language)
        try:
            return answer_card(service.why_not(visitor, text, wish))
        except TitleNotFoundError as error:
            catalog = service.feedback.current().processor.catalog
            near = [(catalog.item_ids[index], catalog.title(index)) for index in error.suggestions]
            few = "Several items may be meant." if len(near) > 1 else "No title is close enough."
            return not_found(few if near else "Nothing in the catalog is called like that. Try another word.", near)

    with gr.Tab("Why not?", id="why"):
        with gr.Column(elem_classes=["box"]):
            asked = gr.Textbox(
                label="The item you miss",
                placeholder="Its title or id",
                max_length=LONGEST_TITLE,
                info="The answer is about your history and sliders of the first tab.",
                elem_id="asked",
            )
            button = gr.Button("Ask", variant="primary", elem_id="ask")
        answer = gr.HTML(EMPTY, js_on_load=CLICKS, elem_classes="ours", elem_id="answer")
    handler = guarded(service, lambda visitor, *values: (visitor, ask(visitor, *values)))
    for event in (button.click, asked.submit):
        event(handler, [visitor, asked, *wish], [visitor, answer], **PAGE)

    def ask_suggested(visitor: Visitor, act: str, item_id: str, *values: Any) -> Any:
        catalog = service.snapshot(visitor).processor.catalog
        return visitor, catalog.title(catalog.index(item_id)), ask(visitor, item_id, *values)

    answer.click(clicked(service, ask_suggested), [visitor, *wish], [visitor, asked, answer], **PAGE)
    return WhyNotTab(asked, answer, ask)
