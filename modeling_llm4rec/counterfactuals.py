"""Counterfactuals: each possible reason for an item taken away, and the item scored again.

`LLM4RecForCausalLM` inherits :class:`ExplanationMixin`. All shortened histories of a batch go through the backbone
together; items that lack a modality or a value need no forward pass at all, only a product with the user's state. What
is measured becomes [`Evidence`].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .event_removal import without_events
from .evidence import Evidence, Explanation
from .next_item_loss import ItemRows
from .popularity_prior import PopularityBias
from .recommendation import candidate_mask, exclude, exclude_seen
from .retrieval import Conditioned
from .retrieved_context import RetrievedContext

MAX_TOKENS_AT_ONCE = 2**15
"""Tokens of shortened histories that go through the backbone together."""

MAX_SCORES_AT_ONCE = 2**26
"""Scores of the catalog that are held at once (256 MB in float32)."""


@dataclass
class _Request:
    """A batch of users and the items to explain to them; everything that the measurements share.

    Attributes:
        batch: `input_ids attention_mask rating_ids time_gap_ids`.
        targets: (batch, n) items, -1 for none.
        left_out: (batch, items) float, -inf where an item may not be recommended, else 0; 0 at the targets.
        bias: what popularity adds.
        now: (batch,) time of the request, or `None`.
    """

    batch: dict[str, torch.Tensor | None]
    targets: torch.Tensor
    left_out: torch.Tensor
    bias: PopularityBias | None
    now: torch.Tensor | None
    retrieval: bool


@dataclass
class _Measured:
    """What scoring says of the targets, a row a counterfactual.

    Attributes:
        scores, log_probabilities: (rows, n) float32; ranks: (rows, n) long, 1 is the best.
        normalisers: (rows,) log of the sum of exp(score).
    """

    scores: torch.Tensor
    log_probabilities: torch.Tensor
    ranks: torch.Tensor
    normalisers: torch.Tensor


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
        max_removals: int = 50,
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

        Returns:
            per user a list of [`Explanation`], in the order of `items`, without the places that are -1.

        Raises:
            ValueError: if `items` has another shape or an index that the catalog does not have, `max_removals` is
                negative, or as of `recommend`.
        """
        users = len(input_ids)
        items = torch.as_tensor(items, device=input_ids.device)
        if items.dim() != 2 or len(items) != users or items.dtype != torch.long:
            raise ValueError(
                f"explain got items of shape {tuple(items.shape)} and {items.dtype}, expected int64 of shape "
                f"({users}, n): some items for each of the {users} users."
            )
        if items.numel() and (items.max() >= self.num_items or items.min() < -1):
            raise ValueError(f"explain got item {int(items.max())}, expected indices below {self.num_items}.")
        if max_removals < 0:
            raise ValueError(f"explain got max_removals={max_removals}, expected 0 or more.")
        was_training = self.training
        self.eval()
        try:
            seen = (input_ids - self.config.text_vocab_size).clamp(min=-1) if seen_items is None else seen_items
            masks = [
                candidate_mask(mask, users, self.num_items, name) for mask, name in ((allow, "allow"), (deny, "deny"))
            ]
            batch = {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "rating_ids": rating_ids,
                "time_gap_ids": time_gap_ids,
            }
            left_out = exclude(torch.zeros(users, self.num_items, device=input_ids.device), *masks)
            if filter_seen:
                left_out = exclude_seen(left_out, seen)
            reasons = _exclusions(items, seen if filter_seen else None, *masks)
            left_out.scatter_(1, items.clamp(min=0), 0.0)
            request = _Request(
                batch, items, left_out, self._popularity_bias(popularity, request_time, users), request_time, retrieval
            )
            return self._explanations(request, reasons, max_removals)
        finally:
            self.train(was_training)

    def _explanations(
        self, request: _Request, exclusions: list[list[str | None]], max_removals: int
    ) -> list[list[Explanation]]:
        table = self.model.item_table()
        history = [list(dict.fromkeys(row)) for row in self._histories_latest_first(request.batch["input_ids"])]
        states = self._states_in_parts(request.batch, table)
        read = self._conditioned(states, table, request, torch.arange(len(states), device=states.device))
        base = self._measure(read, request.batch["input_ids"], table, request, request.bias)
        found: list[list[list[Evidence]]] = [[[] for _ in row] for row in request.targets.tolist()]

        measured = self._removed_items(history, states, table, request, max_removals)
        whole = [user for user, items in enumerate(history) if items]
        removals = [(user, item) for user, items in enumerate(measured) for item in items]
        removals += [(user, -1) for user in whole]
        without = self._without_history(removals, table, request)
        effects, ranks = _differences(base, without, [user for user, _ in removals])
        for (user, item), effect, rank in zip(removals, effects, ranks, strict=True):
            for place, pieces in enumerate(found[user]):
                if item >= 0:
                    pieces.append(Evidence("history", effect[place], rank[place], item=item))
        together = {
            user: row for row, (user, item) in enumerate(removals) if item < 0
        }  # rows in which the whole history is gone

        self._add_item_evidence(found, history, read, base, table, request)
        self._add_retrieved(found, states, read, base, table, request)
        self._add_popularity(found, read, base, table, request)

        scores, logs, places = base.scores.tolist(), base.log_probabilities.tolist(), base.ranks.tolist()
        out = []
        for user, targets in enumerate(request.targets.tolist()):
            row = together.get(user)
            out.append(
                [
                    Explanation(
                        item=item,
                        score=scores[user][place],
                        log_probability=logs[user][place],
                        rank=places[user][place],
                        excluded=exclusions[user][place],
                        evidence=tuple(sorted(found[user][place], key=lambda piece: -piece.effect)),
                        history_effect=None if row is None else effects[row][place],
                        rank_without_history=None if row is None else ranks[row][place],
                        history_items=len(history[user]),
                        measured_items=len(measured[user]),
                    )
                    for place, item in enumerate(targets)
                    if item >= 0
                ]
            )
        return out

    # Users' histories -----------------------------------------------------------------------------------------------

    def _histories_latest_first(self, input_ids: torch.Tensor) -> list[list[int]]:
        items = (input_ids - self.config.text_vocab_size).flip(1).tolist()
        return [[item for item in row if item >= 0] for row in items]

    def _removed_items(
        self,
        history: list[list[int]],
        states: torch.Tensor,
        table: torch.Tensor,
        request: _Request,
        max_removals: int,
    ) -> list[list[int]]:
        """Distinct items of each history to take away one by one."""
        long = [user for user, items in enumerate(history) if len(items) > max_removals]
        chosen = list(history)
        for user in long:
            weights = self._gradient_weights(user, states, table, request) if max_removals else {}
            chosen[user] = sorted(history[user], key=lambda item: -weights.get(item, 0.0))[:max_removals]
        return chosen

    @torch.enable_grad()
    def _gradient_weights(
        self, user: int, states: torch.Tensor, table: torch.Tensor, request: _Request
    ) -> dict[int, float]:
        r"""How much the targets' scores depend on each item of a history, to first order.

        For event j with embedding :math:`x_j` and target i, :math:`|x_j^\top \partial \ln p_i / \partial x_j|`; the
        most over targets, summed over the events of an item.
        """
        targets = request.targets[user]
        targets = targets[targets >= 0]
        one = torch.full((len(targets),), user, device=states.device)
        part = {name: None if values is None else values[one] for name, values in request.batch.items()}
        table = table.detach()
        expected = (states[user].float() @ table.float().T + request.left_out[user]).softmax(-1) @ table.float()
        directions = table[targets].float() - expected
        with torch.no_grad():
            embeds = self.model._embed_tokens(part["input_ids"], ItemRows(table))
            events = self.model.event_embedding(part["rating_ids"], part["time_gap_ids"])
            embeds = embeds if events is None else embeds + events.to(embeds.dtype)
        embeds.requires_grad_(True)
        ends = self._last_states(
            self.model(inputs_embeds=embeds, attention_mask=part["attention_mask"], use_cache=False).last_hidden_state,
            part["attention_mask"],
        )
        (gradient,) = torch.autograd.grad((ends.float() * directions).sum(), embeds)
        weights = (gradient * embeds).sum(-1).abs().amax(0).tolist()
        total: dict[int, float] = {}
        for token, weight in zip(part["input_ids"][0].tolist(), weights, strict=True):
            item = token - self.config.text_vocab_size
            if item >= 0:
                total[item] = total.get(item, 0.0) + weight
        return total

    def _without_history(
        self, removals: list[tuple[int, int]], table: torch.Tensor, request: _Request
    ) -> _Measured | None:
        """The targets after the removal of an item (-1: of all items) from a user's history."""
        if not removals:
            return None
        ids = request.batch["input_ids"]
        owner, item = torch.tensor(removals, device=ids.device).T
        parts = []
        step = max(1, MAX_TOKENS_AT_ONCE // ids.shape[1])
        for rows in torch.arange(len(owner), device=ids.device).split(step):
            users = owner[rows]
            there = ids[users] - self.config.text_vocab_size
            removed = torch.where(item[rows, None] < 0, there >= 0, there == item[rows, None])
            batch = without_events(request.batch, users, removed, self.config.num_time_gaps)
            states = self.user_states(**batch, item_rows=ItemRows(table))
            read = self._conditioned(states, table, request, users, batch["input_ids"])
            parts.append(self._measure(read, batch["input_ids"], table, request, request.bias, users))
        return _concatenated(parts)

    def _states_in_parts(self, batch: dict[str, torch.Tensor | None], table: torch.Tensor) -> torch.Tensor:
        ids = batch["input_ids"]
        rows = torch.arange(len(ids), device=ids.device).split(max(1, MAX_TOKENS_AT_ONCE // ids.shape[1]))
        parts = [
            self.user_states(
                **{name: None if values is None else values[part] for name, values in batch.items()},
                item_rows=ItemRows(table),
            )
            for part in rows
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _conditioned(
        self,
        states: torch.Tensor,
        table: torch.Tensor,
        request: _Request,
        users: torch.Tensor,
        input_ids: torch.Tensor | None = None,
    ) -> Conditioned:
        if not request.retrieval or self.memory is None:
            return Conditioned(states)
        ids = request.batch["input_ids"][users] if input_ids is None else input_ids
        now = None if request.now is None else request.now[users]
        return self.condition(states, table, self.retrieve(states, ids, now))

    # What the item brings -------------------------------------------------------------------------------------------

    def _add_item_evidence(
        self,
        found: list[list[list[Evidence]]],
        history: list[list[int]],
        read: Conditioned,
        base: _Measured,
        table: torch.Tensor,
        request: _Request,
    ) -> None:
        """Evidence of the targets' modalities, and of the values that they share with the history."""
        embedding = self.model.item_embedding
        if len(embedding.modalities) < 2:
            return
        wanted = request.targets.clamp(min=0).flatten()
        alpha = embedding.embed(wanted)[1].view(*request.targets.shape, -1).tolist()
        present = embedding.present[request.targets.clamp(min=0)].tolist()
        cases = []  # user, place, modality, value (0: all of it), items that share it
        for user, targets in enumerate(request.targets.tolist()):
            shared = self._shared_values(targets, history[user])
            for place, item in enumerate(targets):
                if item < 0 or sum(present[user][place]) < 2:
                    continue
                cases += [(user, place, m, 0, ()) for m, there in enumerate(present[user][place]) if there]
                cases += [(user, place, m, value, owners) for m, value, owners in shared[place]]
        if not cases:
            return
        user, place, modality, value = torch.tensor([case[:4] for case in cases], device=wanted.device).T
        items = request.targets[user, place]
        parts = []
        for rows in torch.arange(len(cases), device=wanted.device).split(4096):
            changed, _ = embedding.embed_without(items[rows], modality[rows], value[rows])
            parts.append(changed)
        states = read.states[user]
        change = (torch.cat(parts).to(table.dtype) - table[items]).to(states.dtype)
        change = (states * change).sum(-1).float()
        if read.temperature is not None:
            change = change * read.temperature[user, 0].float()
        scores = base.scores[user, place] + change
        effects, ranks = self._as_if(scores, user, items, read, base, base.scores[user, place], table, request)
        for (one, at, m, v, owners), effect, rank in zip(cases, effects, ranks, strict=True):
            found[one][at].append(
                Evidence(
                    "attribute" if v else "modality",
                    effect,
                    rank,
                    modality=m,
                    value=v or None,
                    shared_with=owners,
                    alpha=alpha[one][at][m],
                )
            )

    def _shared_values(self, targets: list[int], history: list[int]) -> list[list[tuple[int, int, tuple[int, ...]]]]:
        """For each target (modality, value, items of the history that have the value too)."""
        out: list[list[tuple[int, int, tuple[int, ...]]]] = [[] for _ in targets]
        if not history:
            return out
        embedding = self.model.item_embedding
        for index, modality in enumerate(embedding.modalities):
            if modality.kind not in {"categorical", "words"}:
                continue
            stored = embedding.stored_feature(index)
            owners: dict[int, list[int]] = {}
            for item, values in zip(history, stored[history].tolist(), strict=True):
                for value in values:
                    if value:
                        owners.setdefault(value, []).append(item)
            for place, values in enumerate(stored[[max(0, item) for item in targets]].tolist()):
                out[place] += [(index, value, tuple(owners[value])) for value in values if value in owners]
        return out

    def _as_if(
        self,
        scores: torch.Tensor,
        users: torch.Tensor,
        items: torch.Tensor,
        read: Conditioned,
        base: _Measured,
        before: torch.Tensor,
        table: torch.Tensor,
        request: _Request,
    ) -> tuple[list[float], list[int]]:
        """Effects and ranks if only the score of one item were another, `scores` (n,) instead of `before` (n,)."""
        lse = base.normalisers[users].double()
        change = torch.exp(scores.double() - lse) - torch.exp(before.double() - lse)
        others = torch.log1p(change.clamp(min=-1 + 1e-12))
        effects = (before.double() - lse) - (scores.double() - lse - others)
        ranks = torch.empty(len(scores), dtype=torch.long, device=scores.device)
        for user in users.unique():
            mine = (users == user).nonzero().squeeze(1)
            all_scores = self._all_scores(
                read.rows(user[None]), request.batch["input_ids"][user[None]], table, request, request.bias, user[None]
            )[0]
            ordered = all_scores.sort().values
            above = len(ordered) - torch.searchsorted(ordered, scores[mine].contiguous(), right=True)
            ranks[mine] = 1 + above - (before[mine] > scores[mine]).long()
        return effects.tolist(), ranks.tolist()

    # What the memory found ------------------------------------------------------------------------------------------

    def _add_retrieved(
        self,
        found: list[list[list[Evidence]]],
        states: torch.Tensor,
        read: Conditioned,
        base: _Measured,
        table: torch.Tensor,
        request: _Request,
    ) -> None:
        """Evidence of the entries that speak for the targets: the memory without them is asked again."""
        context = read.context
        if context is None:
            return
        same = context.items.unsqueeze(1) == request.targets.clamp(min=-2)[:, :, None, None]
        same &= (request.targets >= 0)[:, :, None, None]
        cases = [tuple(case) for case in same.nonzero().tolist()]  # user, place, source, slot
        if not cases:
            return
        users = torch.tensor([case[0] for case in cases], device=states.device)
        without = _without_entries(context.rows(users), [case[2:] for case in cases])
        conditioned = self.condition(states[users], table, without)
        measured = self._measure(conditioned, request.batch["input_ids"][users], table, request, request.bias, users)
        effects, ranks = _differences(base, measured, users.tolist())
        for row, (user, place, source, _) in enumerate(cases):
            found[user][place].append(
                Evidence("retrieved", effects[row][place], ranks[row][place], source=context.sources[source])
            )

    def _add_popularity(
        self,
        found: list[list[list[Evidence]]],
        read: Conditioned,
        base: _Measured,
        table: torch.Tensor,
        request: _Request,
    ) -> None:
        """Evidence of the popularity that serving adds: the ranking without it."""
        bias = request.bias
        if bias is None:
            return
        users = list(range(len(request.targets)))
        measured = self._measure(read, request.batch["input_ids"], table, request, None)
        effects, ranks = _differences(base, measured, users)
        own = bias.prior.log_popularity[bias.periods].gather(1, request.targets.clamp(min=0)).tolist()
        for user in users:
            for place, pieces in enumerate(found[user]):
                piece = Evidence(
                    "popularity", effects[user][place], ranks[user][place], log_popularity=own[user][place]
                )
                pieces.append(piece)

    # Scores ---------------------------------------------------------------------------------------------------------

    def _measure(
        self,
        read: Conditioned,
        input_ids: torch.Tensor,
        table: torch.Tensor,
        request: _Request,
        bias: PopularityBias | None,
        users: torch.Tensor | None = None,
    ) -> _Measured:
        """The targets among all candidates.

        Args:
            read: conditioned states of the rows; input_ids: (rows, length) their histories.
            users: (rows,) whose request each is; by default the users in their order.
        """
        count = len(input_ids)
        users = torch.arange(count, device=input_ids.device) if users is None else users
        parts = []
        for rows in _blocks(count, MAX_SCORES_AT_ONCE // self.num_items, input_ids.device):
            scores = self._all_scores(read.rows(rows), input_ids[rows], table, request, bias, users[rows])
            normalisers = scores.logsumexp(-1)
            targets = request.targets[users[rows]].clamp(min=0)
            own = scores.gather(1, targets)
            ranks = torch.stack([(scores > column.unsqueeze(1)).sum(-1) for column in own.T], dim=1) + 1
            parts.append(_Measured(own, own - normalisers.unsqueeze(1), ranks, normalisers))
        return _concatenated(parts)

    def _all_scores(
        self,
        read: Conditioned,
        input_ids: torch.Tensor,
        table: torch.Tensor,
        request: _Request,
        bias: PopularityBias | None,
        users: torch.Tensor,
    ) -> torch.Tensor:
        """(rows, items) scores as `recommend` ranks by, -inf where an item may not be recommended."""
        scores = self._scores(read, table, input_ids)
        if bias is not None:
            scores = scores + bias.rows(users)
        return scores + request.left_out[users]


def _differences(base: _Measured, other: _Measured | None, users: list[int]) -> tuple[list[list[float]], list]:
    """Effects (rows, n) in nats and ranks (rows, n) of counterfactuals of these users."""
    if other is None:
        return [], []
    effects = base.log_probabilities[users] - other.log_probabilities
    return effects.tolist(), other.ranks.tolist()


def _concatenated(parts: list[_Measured]) -> _Measured:
    names = ("scores", "log_probabilities", "ranks", "normalisers")
    return parts[0] if len(parts) == 1 else _Measured(*(torch.cat([getattr(p, n) for p in parts]) for n in names))


def _blocks(count: int, size: int, device: torch.device) -> Iterator[torch.Tensor]:
    yield from torch.arange(count, device=device).split(max(1, size))


def _without_entries(context: RetrievedContext, entries: list[tuple[int, ...]]) -> RetrievedContext:
    """A context whose row r lacks its entry (source, slot), with the relevance of the others normalised anew."""
    rows = torch.arange(len(entries))
    source, slot = torch.tensor(entries).T
    columns: list[Any] = [
        values.clone() for values in (context.items, context.similarity, context.decay, context.credibility)
    ]
    for values, nothing in zip(columns, (-1, 0.0, 0.0, 0.0), strict=True):
        values[rows, source, slot] = nothing
    return RetrievedContext.of(
        {name: tuple(values[:, place] for values in columns) for place, name in enumerate(context.sources)}
    )


def _exclusions(
    items: torch.Tensor, seen: torch.Tensor | None, allow: torch.Tensor | None, deny: torch.Tensor | None
) -> list[list[str | None]]:
    """Why each item (batch, n) may not be recommended."""
    out: list[list[str | None]] = []
    for user, row in enumerate(items.tolist()):
        had = set() if seen is None else set(seen[user].tolist())
        reasons: list[str | None] = []
        for item in row:
            denied = deny is not None and bool((deny if deny.dim() == 1 else deny[user])[item])
            missing = allow is not None and not bool((allow if allow.dim() == 1 else allow[user])[item])
            reasons.append(
                None
                if item < 0
                else "seen"
                if item in had
                else "denied"
                if denied
                else "not allowed"
                if missing
                else None
            )
        out.append(reasons)
    return out


__all__ = ["ExplanationMixin"]
