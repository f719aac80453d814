"""The tab "Add an item": describe an item that the model has never seen, and see where it stands at once."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .answer_card import answer_card
from .handlers import PAGE, guarded
from .limits import LONGEST_TITLE
from .markup import escaped, nothing
from .service import Field, Service
from .visitor import MOST_ADDED, Visitor

EMPTY = nothing(
    "Nothing added yet", "Describe an item. It is in your catalog at once, without training, and nobody else sees it."
)
SHOWN_VALUES = 500


def new_item_tab(service: Service, visitor: gr.State, wish: list[Any]) -> None:
    """Build the tab: a field for everything that the model reads of an item."""
    fields = service.new_item_fields()
    with gr.Tab("New item", id="new"), gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300, elem_classes=["box"]):
            components = [_component(entry) for entry in fields]
            button = gr.Button("Add to my catalog", variant="primary", elem_id="add-item")
        with gr.Column(scale=6, min_width=320):
            answer = gr.HTML(EMPTY, elem_classes="ours", elem_id="added")

    def add(visitor: Visitor, *given: Any) -> Any:
        values = dict(zip((entry.name for entry in fields), given, strict=False))
        popularity, _, style, language = given[len(fields) :]
        item_id = service.add_item(visitor, values)
        told = service.why_not(visitor, item_id, service.wish(10, popularity, 0.0, style, language))
        note = (
            f"<p>Added for you alone. Search for “{escaped(values['title'])}” in the first tab to choose it; "
            f"it stays in your catalog until you close the page ({len(visitor.added)} of {MOST_ADDED} that you "
            "may add).</p>"
        )
        return visitor, note + answer_card(told)

    button.click(guarded(service, add), [visitor, *components, *wish], [visitor, answer], **PAGE)


def _component(entry: Field) -> Any:
    if entry.kind == "categorical":
        return gr.Dropdown(
            list(entry.values[:SHOWN_VALUES]), value=None, label=entry.label, elem_id=f"new-{entry.name}"
        )
    if entry.kind == "numerical":
        return gr.Textbox(
            label=entry.label, placeholder="A number, or nothing", max_length=20, elem_id=f"new-{entry.name}"
        )
    is_title = entry.name == "title"
    return gr.Textbox(
        label=entry.label,
        max_length=LONGEST_TITLE if is_title else 1000,
        lines=1 if is_title else 3,
        placeholder="What people will see" if is_title else None,
        elem_id=f"new-{entry.name}",
    )
