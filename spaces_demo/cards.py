"""Cards: a recommended item, why it is recommended, and what the model weighs, as HTML."""

from __future__ import annotations

from typing import Any

from ..modeling_llm4rec.explanation_text import evidence_name
from .markup import button, escaped, nothing
from .recommending import RecommendedList

FIRST_BARS = 3
MOST_BARS = 10
SHORTEST_VALUE = 60
NOT_SHOWN = {"item_id", "title", "description"}
SOURCES = {
    "transitions": "what followed items of your history in other histories",
    "behaviour": "what people in a state like yours chose",
    "metadata": "items described like those of your history",
}


def cards(shown: RecommendedList, liked: list[str]) -> str:
    """The list; empty: what to do."""
    if not shown.records:
        return nothing("Nothing is left to recommend", "Everything was chosen or hidden. Show hidden items again.")
    parts = [
        _card(place, record, text, row, retrieved, record["item_id"] in liked)
        for place, (record, text, row, retrieved) in enumerate(
            zip(shown.records, shown.texts, shown.rows, shown.retrieved, strict=True), 1
        )
    ]
    return f'<ol class="cards" aria-label="Recommendations">{"".join(parts)}</ol>{_found(shown)}'


def _card(
    place: int, record: dict[str, Any], text: str, row: dict[str, Any], retrieved: dict[str, Any], liked: bool
) -> str:
    item_id, title = record["item_id"], record["title"]
    rank = "" if record["rank"] == place else f'<span class="chip quiet">place {record["rank"]} by score</span>'
    facts = "".join(f'<span class="chip">{escaped(value)}</span>' for value in attribute_values(row))
    buttons = (
        button("like", item_id, "up", f"More like {title}", "thumb" + (" on" if liked else ""))
        + button("dislike", item_id, "down", f"Do not show {title} again", "thumb")
        + button("why", item_id, "Why?", f"Ask about {title}")
    )
    return (
        f'<li class="card" data-item="{escaped(item_id)}"><div class="head"><span class="place">{place}</span>'
        f'<div class="name"><h3>{escaped(title)}</h3><div class="chips">{facts}{rank}</div></div>'
        f'<div class="acts">{buttons}</div></div>'
        f'<p class="reason">{escaped(text)}</p>{bars(record, FIRST_BARS)}'
        f"<details><summary>Evidence, weights and memory</summary>"
        f"<h4>Every measured reason</h4>{bars(record, MOST_BARS)}"
        f'<p class="note">How many times as probable each reason makes the item; × below 1 speaks against it.</p>'
        f"{alpha(record)}{_retrieved(retrieved)}</details></li>"
    )


def attribute_values(row: dict[str, Any]) -> list[str]:
    """What the catalog says of an item, in a few short words."""
    values = []
    for name, value in row.items():
        if name in NOT_SHOWN or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            several = value if isinstance(value, (list, tuple)) else [value]
            values += [str(one) for one in several[:3] if isinstance(one, str) and 0 < len(one) <= SHORTEST_VALUE]
        else:
            values.append(f"{name} {value:,.2f}".replace(".00", ""))
    return values[:6]


def bars(record: dict[str, Any], most: int) -> str:
    """The strongest pieces of evidence, for to the right in one colour, against in another."""
    pieces = [piece for piece in record["evidence"] if piece["strength"] != "negligible"]
    if not pieces:
        return '<p class="note">No single reason changes its probability by a twentieth or more.</p>'
    pieces = sorted(pieces, key=lambda piece: -abs(piece["effect"]))[:most]
    strongest = max(abs(piece["effect"]) for piece in pieces)
    rows = []
    for piece in sorted(pieces, key=lambda piece: -piece["effect"]):
        side = "for" if piece["effect"] > 0 else "against"
        factor = f"×{min(piece['factor'], 999):.2g}" if piece["factor"] < 100 else "×100+"
        width = max(2.0, 100 * abs(piece["effect"]) / strongest)
        rows.append(
            f'<li class="{side}"><span class="what">{escaped(evidence_name(piece))}</span>'
            f'<span class="bar" role="img" aria-label="{side}, {escaped(factor)}"><i style="width:{width:.0f}%"></i>'
            f'</span><span class="factor">{escaped(factor)}</span></li>'
        )
    return f'<ul class="bars">{"".join(rows)}</ul>'


def alpha(record: dict[str, Any]) -> str:
    """How much each modality weighs in the item's vector."""
    weights = sorted(record["alpha"].items(), key=lambda entry: -(entry[1] or 0))
    if not weights:
        return ""
    names = [("other people" if name == "id" else name, value or 0.0) for name, value in weights]
    parts = "".join(
        f'<i class="m{place % 8}" style="width:{100 * value:.1f}%"></i>' for place, (_, value) in enumerate(names)
    )
    legend = "".join(
        f'<li><i class="m{place % 8}"></i>{escaped(name)} {100 * value:.0f} %</li>'
        for place, (name, value) in enumerate(names)
    )
    bar = f'<div class="alpha" aria-hidden="true">{parts}</div>'
    return f'<h4>Weights α of its modalities</h4>{bar}<ul class="legend">{legend}</ul>'


def _retrieved(parts: dict[str, dict[str, float]]) -> str:
    if not parts:
        return ""
    rows = "".join(
        f"<li><b>{escaped(source)}</b> ({escaped(SOURCES.get(source, source))}): similarity "
        f"{values['similarity']:.2g}, relevance {100 * values['relevance']:.0f} %</li>"
        for source, values in parts.items()
    )
    return f'<h4>Found in the memory by</h4><ul class="plain">{rows}</ul>'


def _found(shown: RecommendedList) -> str:
    """What the memory found for the visitor as a whole."""
    sources = {source: found for source, found in shown.found.items() if found}
    if not sources:
        return ""
    parts = "".join(
        f"<div><h4>{escaped(source)}</h4><p class='note'>{escaped(SOURCES.get(source, ''))}</p><ul class='plain'>"
        + "".join(f"<li>{escaped(title)} <b>{100 * relevance:.0f} %</b></li>" for title, relevance in found)
        + "</ul></div>"
        for source, found in sources.items()
    )
    return (
        '<details class="memory"><summary>What the memory found for you</summary>'
        f'<div class="columns">{parts}</div></details>'
    )
