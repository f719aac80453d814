"""Explanation text: sentences and HTML that say what an explanation record holds, and nothing else.

Called by the processor with the records of `explanation_record.py`; the words stand in `explanation_messages.py`.
Every reason that a sentence gives is one piece of evidence, and its confidence word is the strength of that piece.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from .explanation_messages import MESSAGES
from .explanation_record import STRENGTHS, factor_of, strength_of

STYLES = ("short", "detailed", "contrastive", "sceptical")
"""How an explanation can be told."""

REASONS = {"short": 2, "detailed": 4, "contrastive": 2}
"""Reasons that each style gives at most."""

MAX_BARS = 12
"""Pieces of evidence that the HTML shows, the strongest for and against."""

MAX_FACTOR = 100
"""Larger factors are told as "more than"."""


def render_text(
    record: dict[str, Any], style: str = "short", language: str = "en", against: dict[str, Any] | None = None
) -> str:
    """An explanation in words.

    Args:
        record: from the processor.
        style: `short`: the strongest reasons. `detailed`: also what would be without each, and what speaks against the
            item. `contrastive`: why this item rather than `against`. `sceptical`: how much of it is about the user at
            all.
        language: a key of `MESSAGES`.
        against: record of the other item, for `contrastive`; without one that style falls back to `short`.

    Raises:
        ValueError: if there is no such style or language.
    """
    if style not in STYLES:
        raise ValueError(f"There is no explanation style {style!r}; choose one of {', '.join(STYLES)}.")
    if language not in MESSAGES:
        raise ValueError(f"Explanations do not speak {language!r}; choose one of {', '.join(MESSAGES)}.")
    words = _Words(language)
    if record["excluded"]:
        return words.say(record["excluded"], title=words.quote(record["title"]))
    if style == "contrastive" and against is not None:
        return _contrastive(record, against, words)
    if style == "sceptical":
        return _sceptical(record, words)
    sentences = [_lead(record, words, REASONS.get(style, REASONS["short"]))]
    if style == "detailed":
        sentences += _details(record, words)
    return " ".join(sentences)


def render_html(
    record: dict[str, Any], style: str = "short", language: str = "en", against: dict[str, Any] | None = None
) -> str:
    """An explanation as a fragment of HTML: the text, and a bar for each piece of evidence. Every name is escaped.

    Raises:
        ValueError: if there is no such style or language.
    """
    text = html.escape(render_text(record, style, language, against))
    words = _Words(language)
    shown = [piece for piece in record["evidence"] if piece["strength"] != "negligible"]
    shown = sorted(
        sorted(shown, key=lambda piece: -abs(piece["effect"]))[:MAX_BARS], key=lambda piece: -piece["effect"]
    )
    most = max((abs(piece["effect"]) for piece in shown), default=1.0)
    rows = "".join(
        f'<li class="{"for" if piece["effect"] > 0 else "against"}">'
        f"<span>{html.escape(_name(piece, words))}</span>"
        f'<meter max="1" value="{abs(piece["effect"]) / most:.3f}" title="{piece["effect"]:+.2f}"></meter></li>'
        for piece in shown
    )
    return f'<div class="llm4rec-explanation"><p>{text}</p>' + (f"<ul>{rows}</ul>" if rows else "") + "</div>"


def evidence_name(piece: dict[str, Any], language: str = "en") -> str:
    """What a piece of evidence of a record is called, for tables and charts."""
    return _name(piece, _Words(language))


def next_best(records: Sequence[dict[str, Any]], place: int) -> dict[str, Any] | None:
    """The record that `contrastive` sets one of a list against: the next, for the last the one before it."""
    others = records[place + 1 :] or records[:place][-1:]
    return others[0] if others else None


def reasons_for(record: dict[str, Any], most: int) -> list[dict[str, Any]]:
    """The pieces of evidence that speak for an item and are worth naming, at most `most`.

    The strongest item of the history and the strongest other piece come before further ones: a reason of the user's
    own and one of the item's. A modality is left to those of its values that are evidence by themselves.
    """
    support = ranked_support(record)
    own = next((piece for piece in support if piece["kind"] == "history"), None)
    other = next((piece for piece in support if piece["kind"] != "history"), None)
    first = [piece for piece in (own, other) if piece is not None][: max(1, most)]
    rest = [piece for piece in support if not any(piece is one for one in first)]
    chosen = first + rest[: most - len(first)]
    return sorted(chosen, key=lambda piece: -piece["effect"])


def ranked_support(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What speaks for an item, strongest first, without modalities whose values speak for themselves."""
    support = [piece for piece in record["evidence"] if piece["effect"] > 0 and piece["strength"] != "negligible"]
    told = {piece["modality"] for piece in support if piece["kind"] == "attribute"}
    return [piece for piece in support if piece["kind"] != "modality" or piece["modality"] not in told]


class _Words:
    """The messages of one language."""

    def __init__(self, language: str):
        self.messages = MESSAGES[language]

    def say(self, key: str, **values: Any) -> str:
        """A message, filled in. Names are values, never templates."""
        return self.messages[key].format(**values)

    def quote(self, name: str) -> str:
        """A name in quotation marks."""
        return self.say("quote", name=name)

    def list_of(self, parts: list[str]) -> str:
        """“a”; “a and b”; “a, b and c”."""
        if len(parts) < 2:
            return "".join(parts)
        return self.say("and", first=self.messages["comma"].join(parts[:-1]), last=parts[-1])

    def factor(self, effect: float) -> str:
        """exp(effect) in two significant digits."""
        value = factor_of(effect)
        if value > MAX_FACTOR:
            return self.say("many", number=MAX_FACTOR)
        text = f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1.05 else f"{value:.2f}"
        return text.replace(".", self.messages["decimal"])


def _lead(record: dict[str, Any], words: _Words, most: int) -> str:
    """The sentence that gives the reasons."""
    title, reasons = words.quote(record["title"]), reasons_for(record, most)
    key = "recommended" if record["recommended"] else "ranked"
    if record["history"] is None and record["recommended"]:
        key += "_to_a_stranger"
    values = {"title": title, "rank": record["rank"]}
    if not reasons:
        return words.say(f"{key}_without_reason", **values)
    return words.say(key, reasons=_because(reasons, words), **values)


def _because(reasons: list[dict[str, Any]], words: _Words, clause: Callable[..., str] | None = None) -> str:
    """Reasons behind their confidence words: those of one strength share it, and items of the history one clause."""
    parts = []
    for strength in STRENGTHS:
        same = [piece for piece in reasons if piece["strength"] == strength]
        if not same:
            continue
        chosen = [piece for piece in same if piece["kind"] == "history"] if clause is None else []
        clauses = [
            _clause(chosen, words) if piece in chosen else (clause or _clause)([piece], words)
            for piece in same
            if piece not in chosen[1:]
        ]
        parts.append(words.say(strength, reasons=words.list_of(clauses)))
    return words.messages["comma"].join(parts)


def _clause(group: list[dict[str, Any]], words: _Words) -> str:
    piece = group[0]
    kind = piece["kind"]
    if kind == "history":
        return words.say("history", titles=words.list_of([words.quote(one["title"]) for one in group]))
    if kind == "attribute":
        titles = [words.quote(item["title"]) for item in piece["shared_with"]]
        others = piece["shared_count"] - len(titles)
        if others:
            titles.append(words.say("one_more_item" if others == 1 else "more_items", count=others))
        key = "word" if piece["modality_kind"] == "words" else "attribute"
        value = words.quote(piece["value"])
        return words.say(key, attribute=piece["attribute"], value=value, titles=words.list_of(titles))
    if kind == "modality":
        key = "modality_id" if piece["modality_kind"] == "id" else "modality"
        return words.say(key, modality=piece["modality"])
    if kind == "retrieved":
        return words.say(f"retrieved_{piece['source']}")
    if kind == "new_item":
        return words.say("new_item")
    return words.say("popular" if piece["popular"] else "little_known")


def _name(piece: dict[str, Any], words: _Words) -> str:
    """What a piece of evidence is called."""
    kind = piece["kind"]
    if kind == "history":
        return words.say("name_history", title=words.quote(piece["title"]))
    if kind == "attribute":
        key = "name_word" if piece["modality_kind"] == "words" else "name_attribute"
        return words.say(key, attribute=piece["attribute"], value=words.quote(piece["value"]))
    if kind == "modality":
        key = "name_modality_id" if piece["modality_kind"] == "id" else "name_modality"
        return words.say(key, modality=piece["modality"])
    return words.say(f"name_retrieved_{piece['source']}" if kind == "retrieved" else f"name_{kind}")


def _details(record: dict[str, Any], words: _Words) -> list[str]:
    """What would be without each reason, what speaks against the item, and what the history does as a whole."""
    sentences = []
    for piece in reasons_for(record, REASONS["detailed"]):
        key = "without" if piece["rank_without"] != record["rank"] else "without_same"
        name, factor = _name(piece, words), words.factor(piece["effect"])
        sentences.append(words.say(key, name=name, factor=factor, rank=piece["rank_without"]))
    against = [piece for piece in record["evidence"] if piece["effect"] < 0 and piece["strength"] != "negligible"]
    if against:
        worst = min(against, key=lambda piece: piece["effect"])
        title = words.quote(record["title"])
        sentences.append(
            words.say("against", name=_name(worst, words), title=title, factor=words.factor(-worst["effect"]))
        )
    history = record["history"]
    if history is not None:
        sentences.append(words.say("without_history", rank=history["rank_without"]))
        if history["measured"] < history["items"]:
            sentences.append(words.say("partial_history", items=history["items"], measured=history["measured"]))
    return sentences


def _contrastive(record: dict[str, Any], other: dict[str, Any], words: _Words) -> str:
    """Why an item rather than another: evidence that counts more for it than for the other."""
    effects = {_identity(piece): piece["effect"] for piece in other["evidence"]}
    pieces = []
    for piece in record["evidence"]:
        if piece["kind"] in {"history", "popularity", "new_item"}:
            more = piece["effect"] - effects.get(_identity(piece), 0.0)
        elif _identity(piece) in effects:
            continue  # both have it: what it adds to each is measured against different rivals
        else:
            more = piece["effect"]
        if piece["effect"] > 0 and more > 0 and strength_of(more) != "negligible":
            pieces.append({**piece, "effect": more, "strength": strength_of(more)})
    pieces.sort(key=lambda piece: -piece["effect"])
    reasons = reasons_for({**record, "evidence": pieces}, REASONS["contrastive"])
    values = {"title": words.quote(record["title"]), "other": words.quote(other["title"])}
    if not reasons:
        return words.say("rather_without_reason", **values)
    return words.say("rather", reasons=_because(reasons, words, _contrast_clause), **values)


def _contrast_clause(group: list[dict[str, Any]], words: _Words) -> str:
    piece = group[0]
    if piece["kind"] == "history":
        return words.say("history_contrast", titles=words.quote(piece["title"]), factor=words.factor(piece["effect"]))
    return _clause(group, words)


def _identity(piece: dict[str, Any]) -> tuple:
    """The same for the same reason of two items."""
    if piece["kind"] == "history":
        return "history", piece["item_id"]
    if piece["kind"] == "attribute":
        return "attribute", piece["modality"], piece["value"]
    return piece["kind"], piece.get("modality"), piece.get("source")


def _sceptical(record: dict[str, Any], words: _Words) -> str:
    """How much of a recommendation is about the user."""
    title, history, support = words.quote(record["title"]), record["history"], ranked_support(record)
    best = support[0] if support else None
    if best is not None and best["kind"] == "popularity" and best["popular"] and best["strength"] == "decisive":
        return words.say("mostly_popular", title=title, rank=best["rank_without"])
    if best is not None and best["kind"] == "new_item" and best["strength"] == "decisive":
        return words.say("mostly_new", title=title, rank=best["rank_without"])
    if history is None:
        return words.say("stranger", title=title)
    if history["effect"] < STRENGTHS["decisive"]:
        return words.say("mostly_impersonal", title=title, rank=history["rank_without"])
    text = words.say("mostly_personal", title=title, rank=history["rank_without"])
    if best is not None and best["strength"] != "decisive":
        text += " " + words.say("strongest_alone", name=_name(best, words), factor=words.factor(best["effect"]))
    return text


__all__ = [
    "REASONS",
    "STYLES",
    "evidence_name",
    "next_best",
    "ranked_support",
    "reasons_for",
    "render_html",
    "render_text",
]
