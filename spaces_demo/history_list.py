"""The history and the search results of a visitor, as HTML."""

from __future__ import annotations

from typing import Any

from ..modeling_llm4rec import Catalog
from .cards import attribute_values
from .markup import button, escaped, nothing
from .visitor import Visitor


def history_list(visitor: Visitor, catalog: Catalog) -> str:
    """What was chosen, the latest first, and how much is hidden."""
    rows = []
    for item_id in reversed([item for item in visitor.history if item in catalog]):
        title = catalog.title(catalog.index(item_id))
        mark = ' <span class="chip quiet">liked</span>' if item_id in visitor.liked else ""
        rows.append(
            f"<li><span>{escaped(title)}{mark}</span>"
            f"{button('remove', item_id, '×', f'Take {title} out of the history', 'small')}</li>"
        )
    if rows:
        listed = f'<ul class="rows" aria-label="History">{"".join(rows)}</ul>'
    else:
        listed = nothing(
            "No history yet", "Search and add items, or take an example. Until then you see what suits anybody."
        )
    hidden = len(visitor.hidden)
    more = (
        f'<p class="hidden-count">{hidden} hidden '
        f"{button('unhide', '', 'Show again', 'Show hidden items again', 'small text')}</p>"
        if hidden
        else ""
    )
    return listed + more


def search_results(rows: list[dict[str, Any]], history: list[str], asked: bool) -> str:
    """Items that were found, each with a button that adds it."""
    if not rows:
        return nothing("No item is called like that", "Try a word of its title, or fewer letters.")
    parts = []
    for row in rows:
        title = row.get("title") or row["item_id"]
        there = row["item_id"] in history
        facts = "".join(f'<span class="chip">{escaped(value)}</span>' for value in attribute_values(row)[:2])
        act = (
            '<span class="chip quiet">added</span>'
            if there
            else button("add", row["item_id"], "+ Add", f"Add {title} to the history", "small text")
        )
        parts.append(f'<li><span>{escaped(title)}<span class="chips">{facts}</span></span>{act}</li>')
    label = "Found items" if asked else "Some items of the catalog"
    return f'<p class="note">{label}</p><ul class="rows" aria-label="{label}">{"".join(parts)}</ul>'
