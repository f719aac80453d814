"""Evidence: what moved the score of a recommended item, each piece with the effect that was measured.

Made by `explanation.py` from what `counterfactuals.py` measures by taking each piece away and scoring again; the
processor turns it into words.
"""

from __future__ import annotations

from dataclasses import dataclass, field

EVIDENCE_KINDS = ("history", "attribute", "modality", "retrieved", "popularity", "new_item")
"""What a piece of evidence can be, see [`Evidence`]."""


@dataclass(frozen=True)
class Evidence:
    r"""One reason, and what becomes of the item without it.

    .. math:: \text{effect} = \ln p(i \mid \text{all}) - \ln p(i \mid \text{all but this})

    with p the probability of item i among the items that may be recommended. Raw scores would not do: they may all
    rise and fall together without any change in what is recommended. `exp(effect)` is how many times as probable the
    reason makes the item; below 0 it speaks against it.

    Attributes:
        kind: `history`, an item of the user's history (all its events); `attribute`, a value that the item shares
            with items of the history; `modality`, one of the item's modalities as a whole; `retrieved`, what one
            source of the memory found for this item; `popularity`, the popularity that serving adds (γ′); `new_item`,
            what `config.new_item_bonus` gives to new items, of which this is one.
        effect: in nats.
        score_change: fall of the raw score without it; scores are compared within one ranking only.
        rank_without: place of the item without it; 1 is the best.
        item: history: index of the item.
        modality: attribute, modality: its index in `config.modalities`.
        value: attribute: the value's index in the modality's vocabulary.
        shared_with: attribute: the items of the history that have the value too, the latest first.
        source: retrieved: name of the source.
        log_popularity: popularity: the item's, relative to the average item; above 0 it is a popular one.
        alpha: attribute, modality: weight of the modality in the item's embedding, see `AdaptiveFusion`.
    """

    kind: str
    effect: float
    score_change: float
    rank_without: int
    item: int | None = None
    modality: int | None = None
    value: int | None = None
    shared_with: tuple[int, ...] = ()
    source: str | None = None
    log_popularity: float | None = None
    alpha: float | None = None


@dataclass(frozen=True)
class Explanation:
    """Why an item stands where it does for a user.

    Attributes:
        item: its index.
        score: as `recommend` gives it.
        log_probability: among the items that may be recommended, and this one.
        rank: its place among them.
        excluded: why it could not be recommended at this place: `seen`, `denied` or `not allowed`; `None` if it could.
        evidence: strongest support first, what speaks most against the item last; equal to 1e-4 nats, in the order of
            `EVIDENCE_KINDS`.
        history_effect: effect of the whole history together; `None` if it is empty.
        rank_without_history: its place for a user of whom nothing is known; `None` if the history is empty.
        history_items: distinct items of the history that the model read.
        measured_items: how many of them were taken away one by one; fewer only in long histories.
    """

    item: int
    score: float
    log_probability: float
    rank: int
    excluded: str | None = None
    evidence: tuple[Evidence, ...] = field(default=())
    history_effect: float | None = None
    rank_without_history: int | None = None
    history_items: int = 0
    measured_items: int = 0


__all__ = ["EVIDENCE_KINDS", "Evidence", "Explanation"]
