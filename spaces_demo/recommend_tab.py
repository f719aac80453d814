"""The first tab: build a history, get recommendations with their reasons, move the sliders, give thumbs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from .cards import cards
from .handlers import PAGE, QUICK, clicked, guarded
from .history_list import history_list, search_results
from .limits import LONGEST_QUERY
from .markup import CLICKS, escaped
from .recommending import Wish
from .service import POPULARITY, Service
from .visitor import Visitor

STYLES = [
    ("Short", "short"),
    ("Detailed", "detailed"),
    ("Rather than the next", "contrastive"),
    ("Sceptical", "sceptical"),
]
LANGUAGES = [("English", "en"), ("Deutsch", "de")]
NOBODY = "—"


@dataclass
class RecommendTab:
    """Components that other tabs speak to.

    Attributes:
        tab: itself; wish: components that decide how a list is made.
        shown: what a new list changes, in the order of `outputs`.
    """

    tab: gr.Tab
    wish: list[Any]
    history: gr.HTML
    cards: gr.HTML
    status: gr.HTML
    search: gr.Textbox
    results: gr.HTML


def recommend_tab(service: Service, visitor: gr.State) -> RecommendTab:
    """Build the tab; the clicks of its buttons are wired by `connect`."""
    with gr.Tab("For you", id="recommend") as tab, gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            with gr.Column(elem_classes=["box"]):
                gr.HTML("<h2>Your history</h2>", elem_classes="ours")
                example = gr.Dropdown(
                    [NOBODY, *(one.name for one in service.examples)],
                    value=NOBODY,
                    label="Take an example user",
                    visible=bool(service.examples),
                )
                history = gr.HTML(js_on_load=CLICKS, elem_classes="ours", elem_id="history")
                clear = gr.Button("Start over", size="sm", elem_id="start-over")
            with gr.Column(elem_classes=["box"]):
                search = gr.Textbox(
                    label="Search items",
                    placeholder="A word of a title …",
                    max_length=LONGEST_QUERY,
                    elem_id="search",
                )
                results = gr.HTML(js_on_load=CLICKS, elem_classes="ours", elem_id="results")
            with gr.Column(elem_classes=["box"]):
                gr.HTML("<h2>How the list is made</h2>", elem_classes="ours")
                current = service.feedback.current()
                popularity = gr.Slider(
                    *POPULARITY,
                    value=current.model.config.popularity.serving_strength if current.has_popularity else 0.0,
                    step=0.1,
                    label="Popularity γ′",
                    info="0 takes popularity out; more puts it in, less goes against it.",
                    visible=current.has_popularity,
                    elem_id="popularity",
                )
                diversity = gr.Slider(
                    0,
                    1,
                    value=0,
                    step=0.05,
                    label="Diversity",
                    info="0 keeps the order by score.",
                    elem_id="diversity",
                )
                style = gr.Dropdown(STYLES, value="short", label="Explanations", elem_id="style")
                language = gr.Radio(LANGUAGES, value="en", label="Language of explanations")
        with gr.Column(scale=7, min_width=320):
            status = gr.HTML(elem_classes="ours", elem_id="status")
            shown = gr.HTML(js_on_load=CLICKS, elem_classes="ours", elem_id="cards")
    made = RecommendTab(tab, [popularity, diversity, style, language], history, shown, status, search, results)

    def find(visitor: Visitor, text: str) -> Any:
        return visitor, search_results(
            service.search(visitor, text or ""), visitor.history, bool((text or "").strip())
        )

    search.change(
        guarded(service, find),
        [visitor, search],
        [visitor, results],
        trigger_mode="always_last",
        **{**PAGE, **QUICK},
    )

    def start_over(visitor: Visitor, *wish: Any) -> Any:
        visitor.start_with([])
        return NOBODY, *_lists(service, visitor, wish, "")

    clear.click(
        guarded(service, start_over),
        [visitor, *made.wish],
        [example, *outputs(made, visitor)],
        **PAGE,
    )

    def borrow(visitor: Visitor, name: str, text: str, *wish: Any) -> Any:
        for one in service.examples:
            if one.name == name:
                visitor.start_with(list(one.history))
        return _lists(service, visitor, wish, text)

    example.input(guarded(service, borrow), [visitor, example, search, *made.wish], outputs(made, visitor), **PAGE)
    for component in made.wish:
        component.change(
            guarded(service, lambda visitor, text, *wish: _lists(service, visitor, wish, text)),
            [visitor, search, *made.wish],
            outputs(made, visitor),
            trigger_mode="always_last",
            **PAGE,
        )
    return made


def outputs(tab: RecommendTab, visitor: gr.State) -> list[Any]:
    """What a new list changes."""
    return [visitor, tab.history, tab.results, tab.cards, tab.status]


def refresh(service: Service):
    """A handler that makes the list anew, for the start of the page and the return to the tab."""
    return guarded(service, lambda visitor, text, *wish: _lists(service, visitor, wish, text))


def connect(
    service: Service,
    visitor: gr.State,
    made: RecommendTab,
    tabs: gr.Tabs,
    asked: gr.Textbox,
    answer: gr.HTML,
    ask: Any,
) -> None:
    """Wire the buttons in the lists; "Why?" goes to the other tab.

    Args:
        asked, answer: of the tab "why not"; ask: its handler, from visitor, text and wish to HTML.
    """

    def act(visitor: Visitor, name: str, item_id: str, text: str, *wish: Any) -> Any:
        keep = (gr.skip(), gr.skip(), gr.skip())
        note = ""
        if name == "why":
            title = _title(service, visitor, item_id)
            stay = [gr.skip()] * 4
            return visitor, *stay, gr.Tabs(selected="why"), title, ask(visitor, item_id, *wish)
        if name in ("like", "dislike"):
            title = _title(service, visitor, item_id)
            logged = service.react(visitor, item_id, name, _wish(service, wish))
            effect = "counts as chosen" if name == "like" else "is not shown again"
            note = f"“{title}” {effect}{'' if logged else '; your own items are not logged'}. "
        elif name == "add":
            service.snapshot(visitor).processor.catalog.index(item_id)  # refuses unknown ids
            visitor.choose(item_id)
        elif name == "remove":
            visitor.take_back(item_id)
        elif name == "unhide":
            visitor.show_again()
        return *_lists(service, visitor, wish, text, note), *keep

    for source in (made.history, made.results, made.cards):
        source.click(
            clicked(service, act),
            [visitor, made.search, *made.wish],
            [*outputs(made, visitor), tabs, asked, answer],
            **PAGE,
        )


def _title(service: Service, visitor: Visitor, item_id: str) -> str:
    catalog = service.snapshot(visitor).processor.catalog
    return catalog.title(catalog.index(item_id))


def _wish(service: Service, values: tuple[Any, ...]) -> Wish:
    popularity, diversity, style, language = values
    return service.wish(10, popularity, diversity, style, language)


def _lists(service: Service, visitor: Visitor, wish: tuple[Any, ...], text: str, note: str = "") -> tuple[Any, ...]:
    """History, search results and list as they are now."""
    start = time.perf_counter()
    listed = service.recommend(visitor, _wish(service, wish))
    took = 1000 * (time.perf_counter() - start)
    catalog = service.snapshot(visitor).processor.catalog
    chosen = len(visitor.history)
    basis = "for anybody" if not chosen else f"from {chosen} chosen item{'s' * (chosen > 1)}"
    status = f"{note}{len(listed.records)} recommendations {basis}, ranked and explained in {took:.0f} ms."
    return (
        visitor,
        history_list(visitor, catalog),
        search_results(service.search(visitor, text or ""), visitor.history, bool((text or "").strip())),
        cards(listed, visitor.liked),
        f'<div class="status" role="status" aria-live="polite">{escaped(status)}</div>',
    )
