"""Explanation records: measured evidence with the names that people know, as plain JSON values.

Made by the processor from what `explain` measured; read by `explanation_text.py`, by programs, and by checks. Names
come from the catalog, which anybody may have written, so each becomes one short line of visible characters here.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from .catalog import Catalog
from .configuration_llm4rec import ModalityConfig
from .evidence import Evidence, Explanation
from .item_features import ModalityStatistics

MAX_NAME = 80
"""Characters of a title, a value or a column's name that are shown."""

MAX_SHARED = 2
"""Items that share an attribute, which a record names; the others are counted."""

STRENGTHS = {"decisive": math.log(2.0), "clear": math.log(1.25), "slight": math.log(1.05)}
"""Least effect, in nats, of each confidence word: twice, 1.25 and 1.05 times as probable. Below is `negligible`."""

_QUOTES = str.maketrans(dict.fromkeys('"“”„‟«»‹›', "'"))


class ExplanationRecorder:
    """Turns [`Explanation`]s into records.

    Args:
        catalog: names of the items.
        modalities: of the model's configuration, which evidence counts by.
        statistics: vocabularies of the categorical ones.
    """

    def __init__(
        self, catalog: Catalog, modalities: Sequence[ModalityConfig], statistics: Sequence[ModalityStatistics]
    ):
        self.catalog = catalog
        self.modalities = list(modalities)
        self.statistics = {one.name: one for one in statistics}
        self._names: dict[int, dict[str, str]] = {}
        self._namesakes: set[int] = set()

    def record(self, explanation: Explanation, recommended: bool) -> dict[str, Any]:
        """One explanation as plain values.

        Returns:
            `item_id title rank score probability recommended excluded`; `history`: `items measured effect factor
            strength rank_without`, or `None` for a user of whom nothing is known; `alpha`: weight of each modality;
            `evidence`: per piece `kind effect score_change factor strength rank_without` and what it names, strongest
            support first. `effect` is in nats, `factor` is exp(effect): how many times as probable the piece makes
            the item.
        """
        self._namesakes = self._alike(explanation)
        alpha = {
            name_of(self.modalities[piece.modality].name): piece.alpha
            for piece in explanation.evidence
            if piece.kind == "modality"
        }
        history = None
        if explanation.history_effect is not None:
            history = {
                "items": explanation.history_items,
                "measured": explanation.measured_items,
                "effect": explanation.history_effect,
                "factor": factor_of(explanation.history_effect),
                "strength": strength_of(explanation.history_effect),
                "rank_without": explanation.rank_without_history,
            }
        return {
            **self._item(explanation.item),
            "rank": explanation.rank,
            "score": explanation.score,
            "probability": math.exp(explanation.log_probability),
            "recommended": recommended,
            "excluded": explanation.excluded,
            "history": history,
            "alpha": alpha,
            "evidence": [self._piece(piece) for piece in explanation.evidence],
        }

    def _piece(self, piece: Evidence) -> dict[str, Any]:
        out: dict[str, Any] = {
            "kind": piece.kind,
            "effect": piece.effect,
            "score_change": piece.score_change,
            "factor": factor_of(piece.effect),
            "strength": strength_of(piece.effect),
            "rank_without": piece.rank_without,
        }
        if piece.kind == "history":
            out |= self._item(piece.item)
        elif piece.kind == "retrieved":
            out["source"] = piece.source
        elif piece.kind == "popularity":
            out["popular"] = piece.log_popularity > 0
        elif piece.modality is not None:
            modality = self.modalities[piece.modality]
            out |= {"modality": name_of(modality.name), "modality_kind": modality.kind, "alpha": piece.alpha}
            if piece.kind == "attribute":
                fitted = self.statistics[modality.name]
                out |= {
                    "attribute": name_of(fitted.column),
                    "value": name_of(fitted.values[piece.value - 1]),
                    "shared_with": [self._item(item) for item in piece.shared_with[:MAX_SHARED]],
                    "shared_count": len(piece.shared_with),
                }
        return out

    def _alike(self, explanation: Explanation) -> set[int]:
        """Items of an explanation whose titles do not tell them apart."""
        items = {explanation.item}
        for piece in explanation.evidence:
            items |= {piece.item} if piece.item is not None else set(piece.shared_with[:MAX_SHARED])
        titles: dict[str, list[int]] = {}
        for item in items:
            titles.setdefault(self._title(item), []).append(item)
        return {item for same in titles.values() if len(same) > 1 for item in same}

    def _title(self, index: int) -> str:
        if index not in self._names:
            item_id = self.catalog.item_ids[index]
            title = name_of(self.catalog.title(index)) or name_of(item_id)
            self._names[index] = {"item_id": item_id, "title": title}
        return self._names[index]["title"]

    def _item(self, index: int) -> dict[str, str]:
        """Id and title; where another item of the explanation has the same title, the id stands in it too."""
        title = self._title(index)
        if index not in self._namesakes:
            return self._names[index]
        item_id = self.catalog.item_ids[index]
        return {"item_id": item_id, "title": f"{title} ({name_of(item_id)})"}


def name_of(text: Any) -> str:
    """One short line of visible characters, without double quotation marks: those are ours."""
    text = str(text)
    if len(text) <= MAX_NAME and text.isascii() and text.isprintable() and '"' not in text:
        return " ".join(text.split())  # nearly every name
    text = unicodedata.normalize("NFC", text[: 20 * MAX_NAME])
    text = "".join(" " if unicodedata.category(mark)[0] in "CZ" else mark for mark in text).translate(_QUOTES)
    text = " ".join(text.split())
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1].rstrip() + "…"


def strength_of(effect: float) -> str:
    """Confidence word of an effect in nats, whatever its sign."""
    return next((word for word, least in STRENGTHS.items() if abs(effect) >= least), "negligible")


def factor_of(effect: float) -> float:
    """exp(effect), bounded: beyond a billion the number says nothing more."""
    return math.exp(max(-20.7, min(20.7, effect)))


__all__ = ["MAX_NAME", "STRENGTHS", "ExplanationRecorder", "factor_of", "name_of", "strength_of"]
