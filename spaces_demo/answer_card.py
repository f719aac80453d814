"""The answer to "why not this item?", as HTML."""

from __future__ import annotations

from .cards import MOST_BARS, alpha, bars
from .markup import button, escaped
from .why_not import Answer

_HEADINGS = {
    "with": ("If your history also ended with", "“{name}”"),
    "without": ("If you had not chosen", "“{name}”"),
    "popularity": ("With another popularity correction", "γ′ = {name}"),
}


def answer_card(answer: Answer) -> str:
    """Where the item stands, what speaks for and against it, and what would have to change."""
    record = answer.record
    title = escaped(record["title"])
    if record["excluded"]:
        return f'<div class="answer"><h3>{title}</h3><p class="reason">{escaped(answer.text)}</p></div>'
    gap = (
        f"<span><b>{record['score'] - answer.threshold:+.2f}</b> to place {answer.wanted}</span>"
        if answer.threshold is not None and not answer.shown
        else ""
    )
    verdict = (
        f"It is on your list of {answer.wanted}." if answer.shown else f"It is not among your first {answer.wanted}."
    )
    return (
        f'<div class="answer"><h3>{title}</h3><p class="verdict">{verdict}</p>'
        f'<div class="figures"><span><b>{record["rank"]}</b> place</span>'
        f"<span><b>{record['score']:.2f}</b> score</span>"
        f"<span><b>{100 * record['probability']:.2g} %</b> probability</span>{gap}</div>"
        f'<p class="reason">{escaped(answer.text)}</p><h4>What speaks for it and against it</h4>'
        f"{bars(record, MOST_BARS)}{alpha(record)}{_changes(answer)}</div>"
    )


def _changes(answer: Answer) -> str:
    if answer.shown and answer.record["rank"] == 1:
        return ""
    parts = []
    for kind, (heading, form) in _HEADINGS.items():
        found = [change for change in answer.changes if change.kind == kind]
        if found:
            rows = "".join(
                f"<li><span>{escaped(form.format(name=change.name))}</span><b>place {change.rank}</b></li>"
                for change in found
            )
            parts.append(f'<div><p class="note">{escaped(heading)}</p><ul class="rows">{rows}</ul></div>')
    if not parts:
        parts = ['<p class="note">None of the changes that were tried brings it up.</p>']
    return f"<h4>What would have to change</h4>{''.join(parts)}<p class='note'>Each was measured by scoring again.</p>"


def not_found(message: str, suggestions: list[tuple[str, str]]) -> str:
    """What stands in place of an answer where no item, or more than one, is meant.

    Args:
        message: why.
        suggestions: ids and titles of what may be meant; each becomes a button.
    """
    buttons = "".join(button("ask", item_id, title, f"Ask about {title}") for item_id, title in suggestions)
    return (
        f'<div class="nothing" role="alert"><strong>Which item?</strong><p>{escaped(message)}</p>'
        f'<div class="suggested">{buttons}</div></div>'
    )
