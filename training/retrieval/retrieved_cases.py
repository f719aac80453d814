"""Cases with what the memory found for them: what the retrieval adapter learns from and is judged by.

Between the model and `fit.py`: the model's own part of the scores is computed once, for the likely candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from tqdm.auto import tqdm

from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ...modeling_llm4rec.next_item_loss import ItemRows
from ...modeling_llm4rec.retrieval import Conditioned, latest_first
from ...modeling_llm4rec.retrieved_context import RetrievedContext
from ..data.prepared import Interactions
from ..data.sequences import history_batch, request_times
from ..data.splits import EvaluationSet

CANDIDATES = 250
"""Best items by the model alone that compete with those that were retrieved."""

CASES_AT_ONCE = 64


@dataclass
class RetrievedCases:
    """Cases, their candidates, and what was retrieved.

    Attributes:
        states: (cases, hidden) user states.
        scores: (cases, candidates) the model's own scores, -1e4 at padding.
        items: (cases, candidates) int32 item indices, -1 for padding: the model's best, then what else was retrieved.
        slots: (cases, sources × k) int16 place among the candidates of each retrieved item, -1 for none.
        seen: (cases, candidates) bool, items of the case's history other than its target.
        targets: (cases,) long item indices.
        place: (cases,) long place of the target among the candidates, -1 if it is none.
        context: what was retrieved.
    """

    states: torch.Tensor
    scores: torch.Tensor
    items: torch.Tensor
    slots: torch.Tensor
    seen: torch.Tensor
    targets: torch.Tensor
    place: torch.Tensor
    context: RetrievedContext

    def __len__(self) -> int:
        return len(self.targets)

    def shortened(self, k: int) -> RetrievedCases:
        """The same cases as if every source had found at most k items; candidates stay."""
        sources, depth = self.context.items.shape[1:]
        slots = self.slots.view(len(self), sources, depth)[:, :, :k].flatten(1)
        return replace(self, slots=slots, context=self.context.shortened(k))

    def rows(self, index: torch.Tensor) -> RetrievedCases:
        """Some of the cases."""
        return RetrievedCases(
            **{
                entry.name: value.rows(index) if isinstance(value, RetrievedContext) else value[index]
                for entry in fields(self)
                for value in [getattr(self, entry.name)]
            }
        )


@torch.no_grad()
def retrieve_cases(
    model: LLM4RecForCausalLM,
    processor: LLM4RecProcessor,
    cases: EvaluationSet,
    *,
    train: Interactions | None = None,
    progress: bool = False,
) -> RetrievedCases:
    """Ask the model and its memory about all cases.

    Args:
        train: the events that the memory learned, where the cases are among them: then neither a case itself, nor
            anything else of its user, nor anything that happened later is retrieved for it.
    """
    model.eval()
    table = model.model.item_table()
    parts = []
    blocks = range(0, len(cases), CASES_AT_ONCE)
    for start in tqdm(blocks, desc="retrieve", leave=False, disable=None if progress else True):
        chosen = slice(start, min(start + CASES_AT_ONCE, len(cases)))
        histories = cases.histories.rows(chosen.start, chosen.stop)
        batch = {name: values.to(model.device) for name, values in history_batch(histories, processor).items()}
        states = model.user_states(**batch, item_rows=ItemRows(table))
        limits = {} if train is None else hidden_from_itself(cases, chosen, train)
        now = request_times(histories)
        own = model._scores(Conditioned(states), table, batch["input_ids"], new_item_bonus=False).cpu()
        context = model.retrieve(states, batch["input_ids"], now, **limits).to("cpu")
        history = latest_first(batch["input_ids"].cpu() - model.config.text_vocab_size)
        targets = torch.from_numpy(cases.targets[chosen].astype(np.int64))
        parts.append(_cases(states.float().cpu(), own, context, _all_seen(histories, history), targets))
    joined = {
        entry.name: torch.cat([_padded(getattr(part, entry.name), parts, entry.name) for part in parts])
        for entry in fields(RetrievedCases)
        if entry.name != "context"
    }
    return RetrievedCases(**joined, context=RetrievedContext.concatenate([part.context for part in parts]))


def hidden_from_itself(cases: EvaluationSet, chosen: slice, train: Interactions) -> dict[str, torch.Tensor | None]:
    """What must not be retrieved for cases that are train events: limits for `RetrievalMemory.retrieve`."""
    users = cases.users[chosen]
    own = train.take(users)
    events = torch.full((len(users), max(1, int(own.lengths.max(initial=0)))), -1)
    filled = torch.arange(events.shape[1])[None] < torch.from_numpy(own.lengths)[:, None]
    events[filled] = torch.from_numpy(own.items.astype(np.int64))
    before = None
    if cases.target_timestamps is not None and (cases.target_timestamps >= 0).all():
        before = torch.from_numpy(cases.target_timestamps[chosen].astype(np.int64))
    return {"owners": torch.from_numpy(users.astype(np.int64)), "own_events": events, "before": before}


def train_cases(train: Interactions, count: int, seed: int) -> EvaluationSet:
    """At most `count` events of train as cases, drawn by the seed: what came before each in its user's history."""
    owners = np.repeat(np.arange(train.num_users), train.lengths)
    position = np.arange(len(train.items)) - np.repeat(train.offsets[:-1], train.lengths)
    able = np.flatnonzero(position > 0)  # drawn before histories are copied: those of all events are very many
    drawn = np.sort(np.random.default_rng(seed).choice(able, min(count, len(able)), replace=False))
    return EvaluationSet(
        users=owners[drawn],
        targets=train.items[drawn],
        histories=train.take(owners[drawn], position[drawn]),
        target_timestamps=None if train.timestamps is None else train.timestamps[drawn],
    )


def _all_seen(histories: Interactions, read: torch.Tensor) -> torch.Tensor:
    """(cases, n) all items of the histories, also those before what the model reads; -1 for padding."""
    longest = max(int(histories.lengths.max(initial=0)), read.shape[1])
    seen = torch.full((histories.num_users, longest), -1)
    filled = torch.arange(longest)[None] < torch.from_numpy(histories.lengths)[:, None]
    seen[filled] = torch.from_numpy(histories.items.astype(np.int64))
    return seen


def _cases(
    states: torch.Tensor, own: torch.Tensor, context: RetrievedContext, seen: torch.Tensor, targets: torch.Tensor
) -> RetrievedCases:
    best = own.topk(min(CANDIDATES, own.shape[1]), dim=1).indices
    retrieved = context.items.flatten(1)
    ordered, order = retrieved.sort(dim=1)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    again = torch.zeros_like(again).scatter(1, order, again)
    known = (retrieved[:, :, None] == best[:, None, :]).any(-1)
    further = retrieved.masked_fill(again | known, -1)
    items = torch.cat([best, further], dim=1)
    same = retrieved[:, :, None] == items[:, None, :]
    slots = same.int().argmax(-1).masked_fill((retrieved < 0) | ~same.any(-1), -1)
    hit = items == targets[:, None]
    # The scores of all seen pairs at once would be large; a lookup in the catalog is not.
    marks = torch.zeros(len(items), own.shape[1] + 1, dtype=torch.bool)
    marks.scatter_(1, seen.masked_fill(seen < 0, own.shape[1]), True)
    marks.scatter_(1, targets[:, None], False)
    return RetrievedCases(
        states=states,
        scores=own.gather(1, items.clamp(min=0)).masked_fill(items < 0, -1e4),
        items=items.int(),
        slots=slots.short(),
        seen=marks.gather(1, items.clamp(min=0)) & (items >= 0),
        targets=targets,
        place=hit.int().argmax(1).masked_fill(~hit.any(1), -1),
        context=context,
    )


def _padded(values: torch.Tensor, parts: list[RetrievedCases], name: str) -> torch.Tensor:
    """Batches may differ in width where the catalog is smaller than the candidates; they do not otherwise."""
    widest = max(getattr(part, name).shape[-1] for part in parts) if values.dim() > 1 else 0
    return torch.nn.functional.pad(values, (0, widest - values.shape[-1]), value=-1) if values.dim() > 1 else values
