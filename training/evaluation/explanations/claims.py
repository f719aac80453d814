"""Claims: what the English text of an explanation asserts, and whether the evidence bears each of it out.

A parser of its own, which shares no code with the templates: it reads finished sentences, takes every assertion out of
them, and looks for the piece of the record that says the same, with the same sign, strength, factor and place. What it
cannot read, a sentence or a part of one, is an unresolved claim as well.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

CONFIDENCE = {"mainly": math.log(2.0), "partly": math.log(1.25), "a little": math.log(1.05)}
"""Least effect, in nats, that each confidence word may speak of."""

RETRIEVED = {
    "it is often chosen after items of your history": "transitions",
    "people with a history like yours chose it": "behaviour",
    "it is described like items of your history": "metadata",
    "what others chose after items of your history": "transitions",
    "what people with a history like yours chose": "behaviour",
    "the descriptions of items of your history": "metadata",
}
"""Sources of a memory by the words that speak of them."""

_N = r"§\d+§"
_LIST = rf"{_N}(?:, {_N})*(?:(?:,| and) (?:{_N}|\d+ more of your items|one more of your items))?"
_NUMBER = r"more than \d+|[\d.]+"
_REASON = re.compile(
    "|".join(
        [
            rf"because you chose (?P<chose>{_N}(?:(?:, | and ){_N})*)"
            rf"(?:, which counts (?P<more>{_NUMBER}) times more for it)?",
            rf"because it shares (?P<value>{_N}) \((?P<attribute>[^§]+?)\) with (?P<with>{_LIST})",
            rf"because its (?P<column>[^§]+?) mentions (?P<word>{_N}) like (?P<like>{_LIST})",
            r"because of (?P<people>the choices of other people)",
            r"because of its (?P<modality>[^§]+?)(?=$|, because| and because|, (?:mainly|partly|a little) because)",
            rf"because (?P<retrieved>{'|'.join(list(RETRIEVED)[:3])})",
            r"because (?P<popular>it is popular)",
            r"because (?P<unknown>it is little known and such items are favoured here)",
            r"because (?P<new>it is new and new items are favoured here)",
        ]
    )
)
_SENTENCES = {
    "recommended": rf"(?P<title>{_N}) is recommended (?P<reasons>.+?)(?P<stranger>; nothing is known of you yet)?\.",
    "ranked": rf"(?P<title>{_N}) stands at place (?P<rank>\d+), and not lower, (?P<reasons>.+)\.",
    "no_reason": rf"(?P<title>{_N}) is recommended, but no single reason stands out\.",
    "ranked_no_reason": rf"(?P<title>{_N}) stands at place (?P<rank>\d+); no single reason speaks for it\.",
    "stranger": rf"(?P<title>{_N}) is recommended to anybody of whom nothing is known yet\.",
    "seen": rf"(?P<title>{_N}) is left out because it is in your history already\.",
    "denied": rf"(?P<title>{_N}) is left out because it was denied\.",
    "not allowed": rf"(?P<title>{_N}) is left out because it is not among the allowed items\.",
    "without_history": r"Without your history it would stand at place (?P<rank>\d+)\.",
    "without": r"Without (?P<name>.+) it would be (?P<factor>more than \d+|[\d.]+) times less likely and "
    r"(?P<same>still )?stand at place (?P<rank>\d+)\.",
    "against": rf"What counts against it is (?P<name>.+): without that (?P<title>{_N}) would be "
    r"(?P<factor>more than \d+|[\d.]+) times as likely\.",
    "partial": r"Of the (?P<items>\d+) items of your history, (?P<measured>\d+) were examined\.",
    "rather": rf"(?P<title>{_N}) rather than (?P<other>{_N}) (?P<reasons>.+)\.",
    "rather_no_reason": rf"(?P<title>{_N}) rather than (?P<other>{_N}), though no single reason tells them apart\.",
    "mostly_popular": rf"(?P<title>{_N}) is recommended mostly because it is popular: without the weight of "
    r"popularity it would stand at place (?P<rank>\d+)\.",
    "mostly_new": rf"(?P<title>{_N}) is recommended mostly because it is new: without the weight of new items it "
    r"would stand at place (?P<rank>\d+)\.",
    "impersonal": rf"(?P<title>{_N}) has little to do with you: without your history it would stand at place "
    r"(?P<rank>\d+)\.",
    "personal": rf"(?P<title>{_N}) depends on your history: without it, it would stand at place (?P<rank>\d+)\.",
    "alone": r"The strongest single reason, (?P<name>.+), makes it only (?P<factor>[\d.]+) times as likely\.",
    "about_nobody": rf"(?P<title>{_N}) is not about you: nothing is known of you yet\.",
}
_SENTENCES = {name: re.compile(pattern) for name, pattern in _SENTENCES.items()}


@dataclass(frozen=True)
class Claim:
    """One assertion of a text.

    Attributes:
        text: as it stands there.
        problem: why the evidence does not bear it out; `None` if it does.
        praises: whether it speaks for the item.
    """

    text: str
    problem: str | None
    praises: bool = True


def check_claims(text: str, record: dict[str, Any], other: dict[str, Any] | None = None) -> list[Claim]:
    """Every claim of an English explanation, checked against its record.

    Args:
        text: in any style.
        record: that the text speaks of; other: the item it is set against, for `contrastive`.

    Returns:
        the claims in their order; at least one, since a text without claims is not an explanation.
    """
    reader = _Reader(record, other)
    return reader.read(text)


class _Reader:
    def __init__(self, record: dict[str, Any], other: dict[str, Any] | None):
        self.record, self.other = record, other
        self.names: list[str] = []
        self.claims: list[Claim] = []
        self.in_contrast = False

    def read(self, text: str) -> list[Claim]:
        if not text.strip() or "\n" in text or re.search(r"[{}]|None|  ", re.sub(r"“[^”]*”", "§", text)):
            return [Claim(text, "the sentence is empty or broken")]
        masked = re.sub(r"“([^“”]*)”", self._mask, text)
        rest = masked
        while rest:
            sentence = re.match(r".+?\.(?= [A-Z§]|$)", rest)
            if sentence is None:
                self._add(rest, "the sentence does not end")
                break
            self._sentence(sentence.group())
            rest = rest[sentence.end() :].lstrip()
        return self.claims

    def _mask(self, match: re.Match) -> str:
        self.names.append(match.group(1))
        return f"§{len(self.names) - 1}§"

    def _name(self, mark: str) -> str:
        return self.names[int(mark.strip("§"))]

    def _names(self, text: str) -> list[str]:
        return [self._name(mark) for mark in re.findall(_N, text)]

    def _add(self, text: str, problem: str | None, praises: bool = True) -> None:
        shown = re.sub(_N, lambda mark: f"“{self._name(mark.group())}”", text)
        self.claims.append(Claim(shown, problem, praises))

    def _sentence(self, sentence: str) -> None:
        for kind, pattern in _SENTENCES.items():
            match = pattern.fullmatch(sentence)
            if match is not None and (
                kind != "recommended" or match["reasons"].split(" ")[0] in {"mainly", "partly", "a"}
            ):
                self._check(kind, match)
                return
        self._add(sentence, "no sentence that an explanation may hold")

    def _check(self, kind: str, match: re.Match) -> None:
        found, record = match.groupdict(), self.record
        if found.get("title") is not None and self._name(found["title"]) != record["title"]:
            self._add(match.group(), f"speaks of another item than {record['title']!r}")
        if found.get("other") is not None and (
            self.other is None or self._name(found["other"]) != self.other["title"]
        ):
            self._add(match.group(), "is set against an item that was not compared")
        if kind in {"seen", "denied", "not allowed"}:
            self._add(
                match.group(), None if record["excluded"] == kind else "the item was not left out for this", False
            )
        elif kind in {"stranger", "about_nobody"} or found.get("stranger"):
            self._add(match.group(), None if record["history"] is None else "the user has a history")
        if kind in {"recommended", "no_reason", "stranger"} and not record["recommended"]:
            self._add(match.group(), "the item was not recommended")
        self.in_contrast = kind == "rather"
        if found.get("reasons"):
            self._reasons(found["reasons"])
        if kind in {"no_reason", "ranked_no_reason", "rather_no_reason"}:
            self._add(match.group(), None, False)
        if kind in {"ranked", "ranked_no_reason"}:
            self._place(match.group(), int(found["rank"]), record["rank"])
        if kind in {"without_history", "impersonal", "personal"}:
            history = record["history"]
            self._place(match.group(), int(found["rank"]), None if history is None else history["rank_without"])
            if kind != "without_history" and history is not None:
                personal = history["effect"] >= math.log(2.0)
                if personal != (kind == "personal"):
                    self._add(match.group(), f"the history changes the log-probability by {history['effect']:.2f}")
        if kind == "partial":
            history = record["history"] or {"items": None, "measured": None}
            right = (int(found["items"]), int(found["measured"])) == (history["items"], history["measured"])
            self._add(match.group(), None if right else "other numbers of items were examined", False)
        if kind in {"mostly_popular", "mostly_new"}:
            cause = "popularity" if kind == "mostly_popular" else "new_item"
            piece = self._first(lambda p: p["kind"] == cause)
            self._judge(match.group(), piece, "mainly")
            if piece is not None:
                self._place(match.group(), int(found["rank"]), piece["rank_without"])
        if kind in {"without", "against", "alone"}:
            piece = self._named(found["name"])
            effect = None if piece is None else piece["effect"] * (-1 if kind == "against" else 1)
            self._factor(match.group(), effect, found["factor"], praises=kind != "against")
            if piece is not None and found.get("rank"):
                self._place(match.group(), int(found["rank"]), piece["rank_without"])
                if bool(found["same"]) != (piece["rank_without"] == record["rank"]):
                    self._add(match.group(), "the place did, or did not, change")

    def _place(self, text: str, said: int, measured: int | None) -> None:
        self._add(text, None if said == measured else f"the place is {measured}, not {said}", False)

    def _factor(self, text: str, effect: float | None, said: str, praises: bool = True) -> None:
        if effect is None:
            self._add(text, "names nothing of the evidence", praises)
            return
        factor = math.exp(effect)
        if effect <= 0:
            problem = f"its effect is {effect:.2f}, of the other sign"
        elif said.startswith("more than"):
            problem = None if factor > float(said.split()[-1]) else f"the factor is {factor:.2f}"
        else:
            digits = len(said.partition(".")[2])
            problem = None if abs(factor - float(said)) <= 0.501 * 10.0**-digits else f"the factor is {factor:.3f}"
        self._add(text, problem, praises)

    def _reasons(self, text: str) -> None:
        """Reasons behind confidence words: `mainly because … and because …, a little because …`."""
        position, confidence = 0, None
        while position < len(text):
            rest = text[position:]
            word = re.match(r"(?:, )?(mainly|partly|a little) ", rest)
            joint = re.match(r"(?:, | and )(?=because )", rest)
            if word is not None:
                confidence, step = word.group(1), word.end()
            elif joint is not None:
                step = joint.end()
            else:
                match = _REASON.match(rest)
                if match is None or confidence is None:
                    self._add(rest, "no reason that an explanation may give")
                    return
                self._reason(match, confidence)
                step = match.end()
            position += step

    def _reason(self, match: re.Match, confidence: str) -> None:
        found, text = match.groupdict(), match.group()
        if found["chose"]:
            for title in self._names(found["chose"]):
                piece = self._first(lambda p, title=title: p["kind"] == "history" and p["title"] == title)
                if found["more"] and piece is not None:
                    self._factor(text, self._contrast(piece), found["more"])
                self._judge(text, piece, confidence)
        elif found["value"] or found["word"]:
            column, value = found["attribute"] or found["column"], self._name(found["value"] or found["word"])
            words = found["word"] is not None

            def is_it(p: dict[str, Any]) -> bool:
                return (
                    p["kind"] == "attribute"
                    and (p["attribute"], p["value"]) == (column, value)
                    and (p["modality_kind"] == "words") == words
                )

            piece = self._first(is_it)
            self._judge(text, piece, confidence)
            if piece is not None:
                self._shared(text, found["with"] or found["like"], piece)
        elif found["people"]:
            self._judge(
                text, self._first(lambda p: p["kind"] == "modality" and p["modality_kind"] == "id"), confidence
            )
        elif found["modality"]:
            name = found["modality"]
            is_named = lambda p: p["kind"] == "modality" and p["modality"] == name and p["modality_kind"] != "id"  # noqa: E731
            self._judge(text, self._first(is_named), confidence)
        elif found["retrieved"]:
            source = RETRIEVED[found["retrieved"]]
            self._judge(text, self._first(lambda p: p["kind"] == "retrieved" and p["source"] == source), confidence)
        elif found["new"]:
            self._judge(text, self._first(lambda p: p["kind"] == "new_item"), confidence)
        else:
            popular = found["popular"] is not None
            is_popularity = lambda p: p["kind"] == "popularity" and p["popular"] == popular  # noqa: E731
            self._judge(text, self._first(is_popularity), confidence)

    def _shared(self, text: str, listed: str, piece: dict[str, Any]) -> None:
        named = self._names(listed)
        others = re.search(r"(\d+|one) more of your items", listed)
        count = len(named) + (0 if others is None else 1 if others[1] == "one" else int(others[1]))
        known = {item["title"] for item in piece["shared_with"]}
        if not named or not set(named) <= known or count != piece["shared_count"]:
            self._add(text, f"{piece['shared_count']} items share it, among them {sorted(known)}")

    def _judge(self, text: str, piece: dict[str, Any] | None, confidence: str) -> None:
        if piece is None:
            self._add(text, "names nothing of the evidence")
            return
        if piece["effect"] <= 0:
            self._add(text, f"praises what has the effect {piece['effect']:.3f}")
            return
        effect = self._contrast(piece) if self.in_contrast else piece["effect"]
        self._add(
            text, None if effect >= CONFIDENCE[confidence] else f"says {confidence!r} of an effect of {effect:.3f}"
        )

    def _contrast(self, piece: dict[str, Any]) -> float:
        """By how much the same reason counts more for this item than for the other one."""
        if self.other is None or piece["kind"] not in {"history", "popularity", "new_item"}:
            return piece["effect"]
        same = (p for p in self.other["evidence"] if p["kind"] == piece["kind"])
        return piece["effect"] - next((p["effect"] for p in same if p.get("item_id") == piece.get("item_id")), 0.0)

    def _named(self, name: str) -> dict[str, Any] | None:
        """The piece of evidence that goes by this name."""
        if re.fullmatch(_N, name):
            title = self._name(name)
            return self._first(lambda p: p["kind"] == "history" and p["title"] == title)
        value = re.fullmatch(rf"(?P<value>{_N}) \((?P<column>.+)\)", name)
        value = value or re.fullmatch(rf"the word (?P<value>{_N}) in its (?P<column>.+)", name)
        if value is not None:
            wanted = (value["column"], self._name(value["value"]))
            return self._first(lambda p: p["kind"] == "attribute" and (p["attribute"], p["value"]) == wanted)
        if name == "the choices of other people":
            return self._first(lambda p: p["kind"] == "modality" and p["modality_kind"] == "id")
        if name == "the weight of popularity":
            return self._first(lambda p: p["kind"] == "popularity")
        if name == "the weight of new items":
            return self._first(lambda p: p["kind"] == "new_item")
        if name in RETRIEVED:
            return self._first(lambda p: p["kind"] == "retrieved" and p["source"] == RETRIEVED[name])
        return self._first(lambda p: p["kind"] == "modality" and f"its {p['modality']}" == name)

    def _first(self, wanted: Any) -> dict[str, Any] | None:
        # Items may share a title: the strongest evidence of that name is meant.
        return max((p for p in self.record["evidence"] if wanted(p)), key=lambda p: abs(p["effect"]), default=None)


__all__ = ["CONFIDENCE", "Claim", "check_claims"]
