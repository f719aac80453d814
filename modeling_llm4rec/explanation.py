"""Explanation: why items stand where they do in a user's ranking.

`LLM4RecForCausalLM` inherits :class:`ExplanationMixin`. What is measured by `counterfactuals.py` becomes one
[`Explanation`] an item; the processor puts it into words.
"""

from __future__ import annotations

import torch

from .counterfactuals import Counterfactuals, ExplanationRequest
from .evidence import EVIDENCE_KINDS, Evidence, Explanation
from .popularity_prior import PopularityBias
from .recommendation import MAX_SCORES_AT_ONCE, candidate_mask, exclude, exclude_seen, mask_rows

MAX_REMOVALS = 50
"""Distinct items of a history that are taken away one by one."""


class ExplanationMixin:
    """What a recommender can say about why."""

    @torch.no_grad()
    def explain(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        rating_ids: torch.LongTensor | None = None,
        time_gap_ids: torch.LongTensor | None = None,
        seen_items: torch.LongTensor | None = None,
        *,
        items: torch.LongTensor,
        filter_seen: bool = True,
        allow: torch.Tensor | None = None,
        deny: torch.Tensor | None = None,
        retrieval: bool = True,
        popularity: float | torch.Tensor | None = None,
        request_time: torch.LongTensor | None = None,
        max_removals: int = MAX_REMOVALS,
        states: torch.Tensor | None = None,
    ) -> list[list[Explanation]]:
        """Why these items stand where they do: what each reason adds, measured by taking it away.

        Works for any items, recommended or not ("why not this one?"). Pass what `recommend` was given, so that both
        speak of the same ranking.

        Args:
            input_ids, attention_mask, rating_ids, time_gap_ids, seen_items, filter_seen, allow, deny, retrieval,
                popularity, request_time: as of `recommend`.
            items: (batch, n) item indices, -1 for none.
            max_removals: distinct items of a history that are taken away one by one. Of longer histories those are
                taken on which the score depends most by its gradient; the others are not named, never guessed.
            states: (batch, width) of the users, where `user_states` gave them already.

        Returns:
            per user a list of [`Explanation`], in the order of `items`, without the places that are -1.

        Raises:
            ValueError: if `items` has another shape or an index that the catalog does not have, `max_removals` is
                negative, or as of `recommend`.
        """
        users = len(input_ids)
        items = torch.as_tensor(items, device=input_ids.device)
        if items.dim() != 2 or len(items) != users or items.dtype != torch.long or not items.shape[1]:
            raise ValueError(
                f"explain got items of shape {tuple(items.shape)} and {items.dtype}, expected int64 of shape "
                f"({users}, n): at least one item for each of the {users} users."
            )
        if items.max() >= self.num_items or items.min() < -1:
            wrong = items[(items >= self.num_items) | (items < -1)][0]
            raise ValueError(
                f"explain got item {int(wrong)}, expected indices below {self.num_items}, or -1 for none."
            )
        if max_removals < 0:
            raise ValueError(f"explain got max_removals={max_removals}, expected 0 or more.")
        seen = self._seen(input_ids, seen_items)
        allow = candidate_mask(allow, users, self.num_items, "allow")
        deny = candidate_mask(deny, users, self.num_items, "deny")
        bias = self._popularity_bias(popularity, request_time, users)
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "rating_ids": rating_ids,
            "time_gap_ids": time_gap_ids,
        }
        was_training = self.training
        if was_training:
            self.eval()
        out = []
        for rows in torch.arange(users, device=input_ids.device).split(max(1, MAX_SCORES_AT_ONCE // self.num_items)):
            masks = [mask_rows(mask, rows) for mask in (allow, deny)]
            had = seen[rows] if filter_seen else None
            request = ExplanationRequest(
                {name: None if values is None else values[rows] for name, values in batch.items()},
                items[rows],
                self._left_out(items[rows], had, *masks),
                None if bias is None else PopularityBias(bias.prior, bias.strength[rows], bias.periods[rows]),
                None if request_time is None else request_time[rows],
                retrieval,
                None if states is None else states[rows],
            )
            out += _explanations(Counterfactuals(self, request), _exclusions(items[rows], had, *masks), max_removals)
        if was_training:
            self.train()
        return out

    def _left_out(
        self, items: torch.Tensor, seen: torch.Tensor | None, allow: torch.Tensor | None, deny: torch.Tensor | None
    ) -> torch.Tensor:
        """(batch, items of the catalog) -inf where an item may not be recommended, 0 at `items` (batch, n) anyway."""
        left_out = exclude(torch.zeros(len(items), self.num_items, device=items.device), allow, deny)
        if seen is not None:
            left_out = exclude_seen(left_out, seen)
        user, place = (items >= 0).nonzero(as_tuple=True)
        left_out[user, items[user, place]] = 0.0
        return left_out


def _explanations(
    measure: Counterfactuals, exclusions: list[list[str | None]], max_removals: int
) -> list[list[Explanation]]:
    targets = measure.request.targets.tolist()
    found: list[list[list[Evidence]]] = [[[] for _ in row] for row in targets]
    chosen = [_items_to_remove(measure, user, max_removals) for user in range(len(targets))]
    single = [(user, item) for user, items in enumerate(chosen) for item in items]
    known = [user for user, items in enumerate(measure.history) if items]
    effects = measure.without_items([*single, *((user, None) for user in known)])
    for row, (user, item) in enumerate(single):
        for place, pieces in enumerate(found[user]):
            pieces.append(effects.evidence(row, place, "history", item=item))
    whole = {user: len(single) + row for row, user in enumerate(known)}
    sources = (
        measure.item_evidence,
        measure.retrieved_evidence,
        measure.popularity_evidence,
        measure.new_item_evidence,
    )
    for source in sources:
        for user, place, piece in source():
            found[user][place].append(piece)
    base = measure.base
    scores, logs, ranks = base.scores.tolist(), base.log_probabilities.tolist(), base.ranks.tolist()
    return [
        [
            Explanation(
                item=item,
                score=scores[user][place],
                log_probability=logs[user][place],
                rank=ranks[user][place],
                excluded=exclusions[user][place],
                evidence=tuple(sorted(found[user][place], key=_strongest_first)),
                history_effect=effects.effects[whole[user]][place] if user in whole else None,
                rank_without_history=effects.ranks[whole[user]][place] if user in whole else None,
                history_items=len(measure.history[user]),
                measured_items=len(chosen[user]),
            )
            for place, item in enumerate(row)
            if item >= 0
        ]
        for user, row in enumerate(targets)
    ]


def _strongest_first(piece: Evidence) -> tuple[float, int]:
    # An item's only value and the modality that holds it are one and the same: rounding must not decide between them.
    return -round(piece.effect, 4), EVIDENCE_KINDS.index(piece.kind)


def _items_to_remove(measure: Counterfactuals, user: int, most: int) -> list[int]:
    """Distinct items of a history to take away one by one: all, or those of the largest gradients."""
    history = measure.history[user]
    if len(history) <= most or not most or not (measure.request.targets[user] >= 0).any():
        return history[:most]
    weights = measure.gradient_weights(user)
    return sorted(history, key=lambda item: -weights[item])[:most]


def _exclusions(
    items: torch.Tensor, seen: torch.Tensor | None, allow: torch.Tensor | None, deny: torch.Tensor | None
) -> list[list[str | None]]:
    """Why each item (batch, n) may not be recommended; `None` if it may, and where there is no item."""
    at = items.clamp(min=0)
    nothing = torch.zeros_like(items, dtype=torch.bool)
    reasons = {  # the last that holds is said
        "not allowed": nothing if allow is None else ~allow.to(at.device).expand(len(items), -1).gather(1, at),
        "denied": nothing if deny is None else deny.to(at.device).expand(len(items), -1).gather(1, at),
        "seen": nothing if seen is None else (items.unsqueeze(-1) == seen.unsqueeze(1)).any(-1),
    }
    out: list[list[str | None]] = [[None] * items.shape[1] for _ in items]
    for reason, holds in reasons.items():
        for user, place in (holds & (items >= 0)).nonzero().tolist():
            out[user][place] = reason
    return out


__all__ = ["MAX_REMOVALS", "ExplanationMixin"]
