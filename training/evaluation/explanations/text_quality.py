"""Text quality: how varied explanations are, and whether they contradict their evidence.

The ratios follow Li, Zhang and Chen, *Generate neural template explanations for recommendation* (CIKM 2020): unique
sentences, coverage of features, diversity of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....modeling_llm4rec.explanation_text import REASONS, reasons_for
from .claims import check_claims


def text_quality(
    texts: Sequence[str], records: Sequence[dict[str, Any]], others: Sequence[dict[str, Any] | None] | None = None
) -> dict[str, float]:
    """Figures of English explanations.

    Args:
        texts: (n,) one an explanation; records: (n,) what each speaks of; others: (n,) what each is set against.

    Returns:
        `unique_sentence_ratio`: distinct texts over texts. `feature_coverage`: features named in any text over the
        features of all evidence. `feature_overlap`: mean share of features that two texts have in common; less is more
        varied. `claims` and `unresolved_claims`: how many there are. `contradictions`: texts with praise for what did
        not raise the score. `broken`: texts that are empty or not sentences. `longest`: characters.

    Raises:
        ValueError: if there are no texts, or another number of records.
    """
    if not texts or len(texts) != len(records):
        raise ValueError(f"text_quality got {len(texts)} texts and {len(records)} records, expected as many, above 0.")
    others = [None] * len(texts) if others is None else others
    named, known = [], set()
    claims = unresolved = contradictions = broken = 0
    for text, record, other in zip(texts, records, others, strict=True):
        checked = check_claims(text, record, other)
        claims += len(checked)
        unresolved += sum(claim.problem is not None for claim in checked)
        contradictions += any(claim.praises and (claim.problem or "").startswith("praises") for claim in checked)
        broken += any(
            "broken" in (claim.problem or "") or "does not end" in (claim.problem or "") for claim in checked
        )
        named.append({_feature(piece) for piece in reasons_for(record, REASONS["short"])})
        known |= {_feature(piece) for piece in record["evidence"]}
    return {
        "unique_sentence_ratio": len(set(texts)) / len(texts),
        "feature_coverage": len(set().union(*named)) / max(1, len(known)),
        "feature_overlap": _overlap(named),
        "claims": float(claims),
        "unresolved_claims": float(unresolved),
        "contradictions": float(contradictions),
        "broken": float(broken),
        "longest": float(max(map(len, texts))),
    }


def _feature(piece: dict[str, Any]) -> tuple:
    names = ("item_id", "modality", "value", "source")
    return (piece["kind"], *(piece.get(name) for name in names))


def _overlap(named: list[set]) -> float:
    """Mean Jaccard similarity of all pairs, from a thousand of them at most."""
    pairs = [(i, j) for i in range(len(named)) for j in range(i)]
    if len(pairs) > 1000:
        pairs = [pairs[k] for k in np.random.default_rng(0).choice(len(pairs), 1000, replace=False)]
    shares = [len(named[i] & named[j]) / max(1, len(named[i] | named[j])) for i, j in pairs]
    return float(np.mean(shares)) if shares else 0.0


__all__ = ["text_quality"]
