"""Counterfactuals: each possible reason for an item taken away, and the item scored again.

Asked by `explanation.py` for a batch of users and items. All shortened histories go through the backbone together;
items that lack a modality or a value need no forward pass at all, only a product with the user's state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .event_removal import without_events
from .evidence import Evidence
from .next_item_loss import ItemRows
from .popularity_prior import PopularityBias
from .recommendation import MAX_SCORES_AT_ONCE
from .retrieval import Conditioned
from .retrieved_context import RetrievedContext

if TYPE_CHECKING:
    from .modeling_llm4rec import LLM4RecForCausalLM

MAX_TOKENS_AT_ONCE = 2**15
"""Tokens of shortened histories that go through the backbone together."""

MAX_ITEMS_AT_ONCE = 4096
"""Changed items that are embedded at once."""


@dataclass
class ExplanationRequest:
    """A batch of users and the items to explain to them.

    Attributes:
        batch: `input_ids attention_mask rating_ids time_gap_ids` from the processor.
        targets: (batch, n) items, -1 for none.
        left_out: (batch, items) float, -inf where an item may not be recommended, else 0; 0 at the targets.
        bias: what popularity adds.
        now: (batch,) unix seconds of the request, or `None`.
        retrieval: whether the memory is asked.
        states: (batch, width) of the users where they are known already.
    """

    batch: dict[str, torch.Tensor | None]
    targets: torch.Tensor
    left_out: torch.Tensor
    bias: PopularityBias | None
    now: torch.Tensor | None
    retrieval: bool
    states: torch.Tensor | None = None


@dataclass
class Measured:
    """What scoring says of the targets, a row a counterfactual.

    Attributes:
        scores, log_probabilities: (rows, n) float32; ranks: (rows, n) long, 1 is the best.
        normalisers: (rows,) log of the sum of exp(score).
    """

    scores: torch.Tensor
    log_probabilities: torch.Tensor
    ranks: torch.Tensor
    normalisers: torch.Tensor


@dataclass
class Effects:
    """What a counterfactual takes from the targets, as plain numbers, each (rows, n): see [`Evidence`]."""

    effects: list[list[float]]
    score_changes: list[list[float]]
    ranks: list[list[int]]

    def evidence(self, row: int, place: int, kind: str, **names: object) -> Evidence:
        """One cell as evidence."""
        return Evidence(
            kind, self.effects[row][place], self.score_changes[row][place], self.ranks[row][place], **names
        )


class Counterfactuals:
    """Measurements for one request.

    Args:
        model: in evaluation mode, without gradients.
        request: what to explain.

    Attributes:
        base: the targets as they are.
        history: distinct items of every user's history, the latest first.
    """

    def __init__(self, model: LLM4RecForCausalLM, request: ExplanationRequest):
        self.model = model
        self.request = request
        self.ids: torch.Tensor = request.batch["input_ids"]
        self.table = model.model.item_table()
        self.users = torch.arange(len(self.ids), device=self.ids.device)
        self.targets = request.targets.clamp(min=0)
        self.states = self._all_states() if request.states is None else request.states
        self.read = self._conditioned(self.states, self.ids, self.users)
        self.base_scores = self._all_scores(self.read, self.ids, request.bias, self.users)
        self.base = self._measured(self.base_scores, self.users)
        items = (self.ids - model.config.text_vocab_size).flip(1).tolist()
        self.history = [list(dict.fromkeys(item for item in row if item >= 0)) for row in items]

    # What the history brings ----------------------------------------------------------------------------------------

    def without_items(self, removals: list[tuple[int, int | None]]) -> Effects:
        """Effects of (user, item of the history) pairs; `None`: of the whole history."""
        if not removals:
            return Effects([], [], [])
        owner = torch.tensor([user for user, _ in removals], device=self.ids.device)
        item = torch.tensor([-1 if one is None else one for _, one in removals], device=self.ids.device).unsqueeze(1)
        parts = []
        for rows in _blocks(len(removals), MAX_TOKENS_AT_ONCE // self.ids.shape[1], self.ids.device):
            users = owner[rows]
            there = self.ids[users] - self.model.config.text_vocab_size
            removed = torch.where(item[rows] < 0, there >= 0, there == item[rows])
            batch = without_events(self.request.batch, users, removed, self.model.config.num_time_gaps)
            states = self.model.user_states(**batch, item_rows=ItemRows(self.table))
            read = self._conditioned(states, batch["input_ids"], users)
            parts.append(self._measure(read, batch["input_ids"], self.request.bias, users))
        return self._effects(_concatenated(parts), owner)

    @torch.enable_grad()
    def gradient_weights(self, user: int) -> dict[int, float]:
        r"""How much the targets' log-probabilities depend on each item of a history, to first order.

        For event j with embedding :math:`x_j` and target i, :math:`|x_j^\top \partial \ln p_i / \partial x_j|`; the
        most over targets, summed over the events of an item.
        """
        targets = self.request.targets[user]
        targets = targets[targets >= 0]
        one = torch.full((len(targets),), user, device=self.ids.device)
        part = {name: None if values is None else values[one] for name, values in self.request.batch.items()}
        table = self.table.detach()
        expected = self.base_scores[user].softmax(-1) @ table.float()
        directions = table[targets].float() - expected
        core = self.model.model
        with torch.no_grad():
            embeds = core.embed_events(part["input_ids"], part["rating_ids"], part["time_gap_ids"], ItemRows(table))
        embeds = embeds.detach().requires_grad_(True)
        mask = part["attention_mask"]
        ends = core(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state
        ends = self.model.last_states(ends, mask)
        (gradient,) = torch.autograd.grad((ends.float() * directions).sum(), embeds)
        weights = (gradient * embeds).sum(-1).abs().amax(0).tolist()
        total: dict[int, float] = {}
        for token, weight in zip(part["input_ids"][0].tolist(), weights, strict=True):
            item = token - self.model.config.text_vocab_size
            if item >= 0:
                total[item] = total.get(item, 0.0) + weight
        return total

    # What the item brings -------------------------------------------------------------------------------------------

    def item_evidence(self) -> Iterator[tuple[int, int, Evidence]]:
        """Evidence (user, place, evidence) of the targets' modalities, and of the values they share with the history.

        An item with a single modality has none: nothing of it would be left.
        """
        embedding = self.model.model.item_embedding
        if len(embedding.modalities) < 2:
            return
        alpha = embedding.embed(self.targets.flatten())[1].view(*self.targets.shape, -1).tolist()
        present = embedding.present[self.targets].tolist()
        # User, place, modality, value (0: all of it), items of the history that share the value.
        cases: list[tuple[int, int, int, int, tuple[int, ...]]] = []
        for user, targets in enumerate(self.request.targets.tolist()):
            shared = self._shared_values(targets, self.history[user])
            for place, item in enumerate(targets):
                if item >= 0 and sum(present[user][place]) > 1:
                    cases += [(user, place, m, 0, ()) for m, there in enumerate(present[user][place]) if there]
                    cases += [(user, place, *one) for one in shared[place]]
        if not cases:
            return
        user, place, modality, value = torch.tensor([case[:4] for case in cases], device=self.ids.device).T
        items = self.targets[user, place]
        before = self.base.scores[user, place]
        after = before + self._score_change(user, items, modality, value)
        effects, ranks = self._with_another_score(user, before, after)
        changes = (before - after).tolist()
        for row, (one, at, m, v, owners) in enumerate(cases):
            kind = "attribute" if v else "modality"
            names = {"modality": m, "value": v or None, "shared_with": owners, "alpha": alpha[one][at][m]}
            yield one, at, Evidence(kind, effects[row], changes[row], ranks[row], **names)

    def _score_change(
        self, user: torch.Tensor, items: torch.Tensor, modality: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """(n,) what the score of each item becomes more by when less is known of it."""
        embedding = self.model.model.item_embedding
        parts = [
            embedding.embed_without(items[rows], modality[rows], value[rows])[0]
            for rows in _blocks(len(items), MAX_ITEMS_AT_ONCE, self.ids.device)
        ]
        states = self.read.states[user]
        difference = (torch.cat(parts).to(self.table.dtype) - self.table[items]).to(states.dtype)
        change = (states * difference).sum(-1).float()
        return change if self.read.temperature is None else change * self.read.temperature[user, 0].float()

    def _shared_values(self, targets: list[int], history: list[int]) -> list[list[tuple[int, int, tuple[int, ...]]]]:
        """For each target (modality, value, items of the history that have the value too)."""
        out: list[list[tuple[int, int, tuple[int, ...]]]] = [[] for _ in targets]
        if not history:
            return out
        embedding = self.model.model.item_embedding
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

    def _with_another_score(
        self, users: torch.Tensor, before: torch.Tensor, after: torch.Tensor
    ) -> tuple[list[float], list[int]]:
        """Effects (n,) and ranks (n,) if only the score of one item were another: all others stay where they are."""
        total = self.base.normalisers[users].double()
        before, after = before.double(), after.double()
        others = torch.log1p((torch.exp(after - total) - torch.exp(before - total)).clamp(min=-1 + 1e-12))
        effects = before - after + others
        ranks = torch.empty(len(users), dtype=torch.long, device=users.device)
        for user in users.unique():
            mine = users == user
            ordered = _sorted(self.base_scores[user])
            at_least = len(ordered) - torch.searchsorted(ordered, after[mine].float(), right=True)
            ranks[mine] = 1 + at_least - (before[mine] > after[mine]).long()
        return effects.tolist(), ranks.tolist()

    # What the memory and popularity bring ---------------------------------------------------------------------------

    def retrieved_evidence(self) -> Iterator[tuple[int, int, Evidence]]:
        """Evidence (user, place, evidence) of the memory's entries that speak for the targets."""
        context = self.read.context
        if context is None:
            return
        same = context.items.unsqueeze(1) == self.request.targets[:, :, None, None]
        same &= (self.request.targets >= 0)[:, :, None, None]
        cases = same.nonzero().tolist()  # user, place, source, slot
        if not cases:
            return
        users = torch.tensor([case[0] for case in cases], device=self.ids.device)
        without = _without_entries(context.rows(users), [case[2:] for case in cases])
        read = self.model.condition(self.states[users], self.table, without)
        found = self._effects(self._measure(read, self.ids[users], self.request.bias, users), users)
        for row, (user, place, source, _) in enumerate(cases):
            yield user, place, found.evidence(row, place, "retrieved", source=context.sources[source])

    def popularity_evidence(self) -> Iterator[tuple[int, int, Evidence]]:
        """Evidence (user, place, evidence) of the popularity that serving adds."""
        bias = self.request.bias
        if bias is None:
            return
        found = self._effects(self._measure(self.read, self.ids, None, self.users), self.users)
        own = bias.prior.log_popularity[bias.periods].gather(1, self.targets).tolist()
        for user, targets in enumerate(self.request.targets.tolist()):
            for place in range(len(targets)):
                yield user, place, found.evidence(user, place, "popularity", log_popularity=own[user][place])

    def new_item_evidence(self) -> Iterator[tuple[int, int, Evidence]]:
        """Evidence (user, place, evidence) of the bonus, for the targets that are new items."""
        new = self.model.model.item_embedding.new_items() if self.model.config.new_item_bonus else None
        if new is None or not new[self.targets].any():
            return
        without = self._measure(self.read, self.ids, self.request.bias, self.users, new_item_bonus=False)
        found = self._effects(without, self.users)
        for user, place in (new[self.targets] & (self.request.targets >= 0)).nonzero().tolist():
            yield user, place, found.evidence(user, place, "new_item")

    # Scores ---------------------------------------------------------------------------------------------------------

    def _all_states(self) -> torch.Tensor:
        parts = []
        for rows in _blocks(len(self.ids), MAX_TOKENS_AT_ONCE // self.ids.shape[1], self.ids.device):
            part = {name: None if values is None else values[rows] for name, values in self.request.batch.items()}
            parts.append(self.model.user_states(**part, item_rows=ItemRows(self.table)))
        return torch.cat(parts)

    def _conditioned(self, states: torch.Tensor, input_ids: torch.Tensor, users: torch.Tensor) -> Conditioned:
        """States that have read what the memory holds for these histories."""
        if not self.request.retrieval or self.model.memory is None:
            return Conditioned(states)
        now = None if self.request.now is None else self.request.now[users]
        return self.model.condition(states, self.table, self.model.retrieve(states, input_ids, now))

    def _all_scores(
        self,
        read: Conditioned,
        input_ids: torch.Tensor,
        bias: PopularityBias | None,
        users: torch.Tensor,
        new_item_bonus: bool = True,
    ) -> torch.Tensor:
        """(rows, items) scores as `recommend` ranks by, -inf where an item may not be recommended."""
        scores = self.model._scores(read, self.table, input_ids, new_item_bonus)
        if bias is not None:
            scores = scores + bias.rows(users)
        return scores + self.request.left_out[users]

    def _measure(
        self,
        read: Conditioned,
        input_ids: torch.Tensor,
        bias: PopularityBias | None,
        users: torch.Tensor,
        new_item_bonus: bool = True,
    ) -> Measured:
        """The targets of `users` (rows,) among all candidates, after conditioned states of the rows."""
        parts = []
        for rows in _blocks(len(input_ids), MAX_SCORES_AT_ONCE // self.model.num_items, input_ids.device):
            scores = self._all_scores(read.rows(rows), input_ids[rows], bias, users[rows], new_item_bonus)
            parts.append(self._measured(scores, users[rows]))
        return _concatenated(parts)

    def _measured(self, scores: torch.Tensor, users: torch.Tensor) -> Measured:
        own = scores.gather(1, self.targets[users])
        normalisers = scores.logsumexp(-1)
        # Counted in 32 bits: sums of bool in 64 are a dozen times slower on a CPU.
        above = [(scores > column.unsqueeze(1)).sum(-1, dtype=torch.int32) for column in own.T]
        return Measured(own, own - normalisers.unsqueeze(1), torch.stack(above, dim=1).long() + 1, normalisers)

    def _effects(self, without: Measured, users: torch.Tensor) -> Effects:
        return Effects(
            (self.base.log_probabilities[users] - without.log_probabilities).tolist(),
            (self.base.scores[users] - without.scores).tolist(),
            without.ranks.tolist(),
        )


def _sorted(values: torch.Tensor) -> torch.Tensor:
    """(n,) ascending; numpy sorts on a CPU several times as fast as torch."""
    return values.sort().values if values.device.type != "cpu" else torch.from_numpy(np.sort(values.numpy()))


def _concatenated(parts: list[Measured]) -> Measured:
    names = ("scores", "log_probabilities", "ranks", "normalisers")
    return parts[0] if len(parts) == 1 else Measured(*(torch.cat([getattr(p, n) for p in parts]) for n in names))


def _blocks(count: int, size: int, device: torch.device) -> Iterator[torch.Tensor]:
    yield from torch.arange(count, device=device).split(max(1, size))


def _without_entries(context: RetrievedContext, entries: list[list[int]]) -> RetrievedContext:
    """A context whose row r lacks its entry (source, slot), with the relevance of the others normalised anew."""
    rows = torch.arange(len(entries))
    source, slot = torch.tensor(entries).T
    parts = (context.items, context.similarity, context.decay, context.credibility)
    columns = [values.clone() for values in parts]
    for values, nothing in zip(columns, (-1, 0.0, 0.0, 0.0), strict=True):
        values[rows, source, slot] = nothing
    return RetrievedContext.of(
        {name: tuple(values[:, place] for values in columns) for place, name in enumerate(context.sources)}
    )


__all__ = ["Counterfactuals", "ExplanationRequest"]
