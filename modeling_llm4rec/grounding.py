"""Grounding: does a freely written English sentence say only what an explanation record holds?

Called by `phrasing.py` before a generated sentence is shown. The judgement is by a closed vocabulary, not by a model:
a word is a name of the evidence, a number of it, a word bound to a kind of evidence, or one of a fixed list that
claims nothing. Any other word could be a claim, so it is one. What is judged are the words and names, not the grammar:
a sentence may still be clumsy.
"""

from __future__ import annotations

import re
from typing import Any

from .explanation_record import STRENGTHS
from .explanation_text import ranked_support

MAX_CHARACTERS = 400
"""A longer text is rejected."""

NEUTRAL = frozenset(
    re.findall(
        r"\w+",
        """a about along also an and are as at be because been before but by can choose choosing
        chose chosen could do does else enjoy enjoyed especially example fit fits for from given
        goes had has have here history how i in into is it item items its itself just kept like
        liked likely listed looked makes may might more my named of on one or other our out over
        pick picked picking picks previous previously rather reason reasons recommend recommendation
        recommended recommending recommends reflects seem seems selected shares should since so some
        such suggest suggested suggests than that the their them then there these they thing things
        this those though through tie tied to too under up us was we were what when where which
        while who why will with would you your yours""",
    )
)
"""Words that claim nothing by themselves."""

CONFIDENCE = {
    "mainly": "decisive", "mostly": "decisive", "strongly": "decisive", "largely": "decisive", "primarily": "decisive",
    "partly": "clear", "partially": "clear", "slightly": "slight", "little": "slight", "somewhat": "slight",
}  # fmt: skip
"""Least strength of the evidence behind a confidence word."""

_PEOPLE = frozenset({"people", "others", "customers", "viewers", "readers", "users", "buyers", "shoppers"})
_POPULAR = frozenset({"popular", "popularity"})
_NEW = frozenset({"new"})
_DESCRIBED = frozenset({"described", "description", "descriptions"})
_FORBIDDEN = re.compile(r"[<>{}\[\]|`\\#@]|https?:|www\.|\n|\r")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,]\d+)*")


def ungrounded(text: str, record: dict[str, Any]) -> list[str]:
    """What a text says that the evidence does not.

    Args:
        text: English, without markup.
        record: of the item that it speaks of, from `decode_explanations`.

    Returns:
        the problems, each a short sentence; none if the text is grounded. Names in quotation marks and names of more
        than one word count as a whole: the title “Great Best Seller” may be named, the word "great" may not be used.
    """
    if not text.strip():
        return ["it is empty"]
    problems = []
    if len(text) > MAX_CHARACTERS:
        problems.append(f"it has {len(text)} characters, more than {MAX_CHARACTERS}")
    if _FORBIDDEN.search(text) or not text.isprintable():
        problems.append("it holds markup, a link or a line break")
    support = ranked_support(record)
    against = {piece["title"] for piece in record["evidence"] if piece["kind"] == "history" and piece["effect"] <= 0}
    names = {name: pieces for name, pieces in _names(support).items() if name not in against}
    names.setdefault(record["title"], [])
    rest, named = _without_names(text, names, problems)
    for word in _WORD.findall(rest):
        problem = _problem(word, record, support, named)
        if problem is not None:
            problems.append(problem)
    if not named:
        problems.append("it names no evidence")
    return problems


def _names(support: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Every name that supporting evidence goes by, and the pieces that it names."""
    names: dict[str, list[dict[str, Any]]] = {}
    for piece in support:
        own = [piece.get("title"), piece.get("value"), *(item["title"] for item in piece.get("shared_with", ()))]
        for name in filter(None, own):
            names.setdefault(name, []).append(piece)
        if piece["kind"] in {"modality", "attribute"} and piece["modality_kind"] != "id":
            names.setdefault(piece.get("attribute", piece["modality"]), []).append(piece)
    return names


def _without_names(
    text: str, names: dict[str, list[dict[str, Any]]], problems: list[str]
) -> tuple[str, list[dict[str, Any]]]:
    """The text with every known name taken out, and the evidence that was named; unknown quotations are problems."""
    named: list[dict[str, Any]] = []
    known = {name.casefold(): pieces for name, pieces in names.items()}

    def quoted(match: re.Match) -> str:
        name = match.group(1).strip().rstrip(".,;:!?").casefold()
        if name not in known:
            problems.append(f"it names “{match.group(1)}”, which is not in the evidence")
        named.extend(known.get(name, []))
        return " "

    rest = re.sub(r"[“\"]([^“”\"]*)[”\"]", quoted, text)
    for name in sorted(names, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(name)}(?!\w)"
        if re.search(pattern, rest, flags=re.IGNORECASE):
            named.extend(names[name])
            rest = re.sub(pattern, " ", rest, flags=re.IGNORECASE)
    return rest, named


def _problem(
    word: str, record: dict[str, Any], support: list[dict[str, Any]], named: list[dict[str, Any]]
) -> str | None:
    """Why a word may not stand there; evidence that it speaks of is added to `named`."""
    small = word.casefold().replace("’", "'")
    if word[0].isdigit():
        return None if word in _numbers(record, support) else f"the number {word} is not in the evidence"
    if small in CONFIDENCE:
        least = STRENGTHS[CONFIDENCE[small]]
        strong = any(piece["effect"] >= least for piece in named or support)
        return None if strong else f"{word!r} claims more than the evidence"
    bound = {
        _PEOPLE: lambda p: p.get("modality_kind") == "id" or p.get("source") in {"transitions", "behaviour"},
        _POPULAR: lambda p: p["kind"] == "popularity" and p["popular"],
        _NEW: lambda p: p["kind"] == "new_item",
        _DESCRIBED: lambda p: p.get("source") == "metadata" or p.get("modality_kind") == "text",
    }
    for words, speaks in bound.items():
        if small in words:
            found = [piece for piece in support if speaks(piece)]
            named.extend(found)
            return None if found else f"{word!r} is borne out by no evidence"
    return None if small.removesuffix("'s") in NEUTRAL else f"{word!r} is no word of the evidence"


def _numbers(record: dict[str, Any], support: list[dict[str, Any]]) -> set[str]:
    """Numbers that may be told: places, counts, and factors to two digits."""
    numbers = {str(record["rank"]), *(str(piece["rank_without"]) for piece in support)}
    numbers |= {str(piece["shared_count"]) for piece in support if "shared_count" in piece}
    numbers |= {f"{piece['factor']:.1f}" for piece in support if piece["factor"] < 10}
    numbers |= {f"{piece['factor']:.0f}" for piece in support if piece["factor"] >= 10}
    if record["history"] is not None:
        numbers |= {str(record["history"]["rank_without"]), str(record["history"]["items"])}
    return numbers


__all__ = ["MAX_CHARACTERS", "NEUTRAL", "ungrounded"]
