"""The page: all tabs put together, and how it is served."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import gradio as gr

from .api import add_endpoints
from .handlers import PAGE
from .look import CSS, theme
from .markup import escaped
from .new_item_tab import new_item_tab
from .recommend_tab import connect, outputs, recommend_tab, refresh
from .service import Service
from .study_tab import study_tab
from .why_not_tab import why_not_tab

SESSION_SECONDS = 2 * 60 * 60
MOST_SESSIONS = 2_000
LONGEST_QUEUE = 200

ABOUT = """
Every recommendation is a real item of the catalog, ranked by a causal language model whose vocabulary ends in items.
Every reason was taken away and the item scored again, so what is said is what moved the score.

**Thumbs** are kept in a log under a random name, without address or account; a thumb down hides the item for you at
once, a thumb up counts as chosen. **Items that you add** live in your session alone and go when you close the page.
**Ratings** of explanations are kept under the same random name.

Programs use the endpoints under *Use via API* below; agents find the same by MCP at `/gradio_api/mcp/`.
"""


def build(service: Service) -> gr.Blocks:
    """The page of a service, not yet served."""
    snapshot = service.feedback.current()
    given = service.settings.model
    name = "a simulated outdoor shop" if given is None else given.rstrip("/").rsplit("/", 1)[-1]
    count = len(snapshot.processor.catalog)
    with gr.Blocks(title="LLM4Rec", analytics_enabled=False, fill_width=True) as page:
        visitor = gr.State(None, time_to_live=SESSION_SECONDS, delete_callback=service.forget)
        trial = gr.State(None, time_to_live=SESSION_SECONDS)
        gr.HTML(
            f"<h1>LLM4Rec</h1><p>Recommendations that say why. {count:,} items of {escaped(name)}.</p>",
            elem_classes="ours intro",
        )
        with gr.Tabs() as tabs:
            first = recommend_tab(service, visitor)
            why = why_not_tab(service, visitor, first.wish)
            new_item_tab(service, visitor, first.wish)
            study, opened, needed, changed = study_tab(service, visitor, trial)
            with gr.Tab("About", id="about"):
                gr.Markdown(ABOUT)
        connect(service, visitor, first, tabs, why.asked, why.answer, why.ask)
        lists = refresh(service)
        inputs = [visitor, first.search, *first.wish]
        page.load(lists, inputs, outputs(first, visitor), **PAGE)
        first.tab.select(lists, inputs, outputs(first, visitor), **PAGE)
        study.select(opened, needed, changed, **PAGE)
        add_endpoints(service)
    # Statistics that nobody reads are made from a table of all events, at every event.
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000")
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1000")
    page.queue(max_size=LONGEST_QUEUE)
    return page


def serve(page: gr.Blocks, **options: Any) -> Any:
    """Start serving; MCP where its library is there, else a line that says how to have it.

    Args:
        options: of `gr.Blocks.launch`.

    Returns:
        what `launch` returns: the app, the local URL, the public URL.
    """
    speaks_mcp = importlib.util.find_spec("mcp") is not None
    if not speaks_mcp:
        print("MCP is off: the mcp library is missing. Install it with `pip install 'gradio[mcp]'`.")
    values = {
        "theme": theme(),
        "css": CSS,
        "mcp_server": speaks_mcp,
        "max_file_size": "1mb",
        "state_session_capacity": MOST_SESSIONS,
        "ssr_mode": False,
        "footer_links": ["api"],
    }
    return page.launch(**{**values, **options})
