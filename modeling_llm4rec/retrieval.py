"""Retrieval: the steps between a user's state and the scores at which a memory speaks.

`LLM4RecForCausalLM` inherits :class:`RetrievalMixin`: attach a memory, remember an event, condition states.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import cached_file

from .adapter_checkpoint import HUB_KEYS
from .configuration_llm4rec import LLM4RecConfig, RetrievalConfig
from .memory import FOLDER, RetrievalMemory
from .retrieval_adapter import RetrievalAdapter
from .retrieved_context import RetrievedContext

PROBES, PROBE_LENGTH = 8, 4
"""Histories of the first items of the catalog whose states tell whether an encoder has changed, and their length."""


@dataclass
class Conditioned:
    """User states after they read the memory, and what it adds to the scores.

    Attributes:
        states: (batch, width).
        context: what was retrieved; `None` without a memory.
        temperature: (batch, 1) factor of the model's own scores.
        gain: (batch, sources, k) log-odds of the retrieved items.
    """

    states: torch.Tensor
    context: RetrievedContext | None = None
    temperature: torch.Tensor | None = None
    gain: torch.Tensor | None = None

    def rows(self, index: torch.Tensor) -> Conditioned:
        """Some of the users."""
        if self.context is None:
            return Conditioned(self.states[index])
        return Conditioned(self.states[index], self.context.rows(index), self.temperature[index], self.gain[index])

    def add_to(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores (batch, items) of the model with what the memory adds."""
        if self.context is None:
            return scores
        items = self.context.items.flatten(1)
        gain = self.gain.flatten(1).to(scores.dtype)
        return (scores * self.temperature).scatter_add(1, items.clamp(min=0), gain)

    def add_to_candidates(self, scores: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """The same for scores (batch, n) of some `candidates` (batch, n)."""
        if self.context is None:
            return scores
        items = self.context.items.flatten(1)
        same = (candidates.unsqueeze(-1) == items.unsqueeze(1)) & (items >= 0).unsqueeze(1)
        return scores * self.temperature + (same * self.gain.flatten(1).unsqueeze(1)).sum(-1).to(scores.dtype)


class RetrievalMixin:
    """What a recommender with a memory can do; without one everything stays as it is.

    Attributes:
        memory: the [`RetrievalMemory`], or `None`.
    """

    config: LLM4RecConfig
    memory: RetrievalMemory | None = None

    def add_retrieval(self, config: RetrievalConfig | None = None) -> None:
        """Give the model an untrained retrieval adapter; it changes nothing until it is trained.

        Args:
            config: which sources, and how they are searched; by default all.
        """
        self.config.retrieval = config if config is not None else RetrievalConfig()
        adapter = RetrievalAdapter(self.config.retrieval, self.config.text_config.hidden_size)
        self.model.retrieval_adapter = adapter.to(self.device)
        self.memory = None

    def attach_memory(self, memory: RetrievalMemory) -> None:
        """Use this memory from now on.

        Raises:
            ValueError: if the model has no retrieval adapter, or the memory is of another catalog.
        """
        if self.config.retrieval is None:
            raise ValueError("The model has no retrieval adapter; call `add_retrieval()` first.")
        if memory.num_items != self.num_items:
            raise ValueError(
                f"The memory knows {memory.num_items} items, the model {self.num_items}. Build it on this catalog."
            )
        self.memory = memory
        self.config.retrieval.has_memory = True

    def content_vectors(self, first: int = 0) -> torch.Tensor | None:
        """(items, width) what is written about the items, as keys of a memory; `None` if nothing is.

        Texts and given vectors; where there are neither, categories, each value by a random direction that its number
        decides.

        Args:
            first: of the items to take; those before it are left out.
        """
        kinds = [modality.kind for modality in self.config.modalities]
        wanted = ("text", "vector") if {"text", "vector"} & set(kinds) else ("categorical",)
        items = self.model.item_embedding
        parts = []
        for index, modality in enumerate(self.config.modalities):
            if modality.kind not in wanted:
                continue
            values = items.stored_feature(index)[first:].cpu()
            vectors = values.float() if modality.kind != "categorical" else _directions(values)
            present = items.present[first:, index].cpu().unsqueeze(1)
            parts.append(torch.nn.functional.normalize(vectors, dim=1) * present)
        return torch.cat(parts, dim=1) if parts else None

    def probe_sequences(self) -> torch.Tensor:
        """(n, length) token sequences of the first items, for `RetrievalMemory.probe`."""
        places = torch.arange(PROBES * PROBE_LENGTH).view(PROBES, PROBE_LENGTH) % max(1, self.num_probe_items)
        return places + self.config.text_vocab_size

    @property
    def num_probe_items(self) -> int:
        """Items that the probe may use: those there were before any was appended."""
        for modality in self.config.modalities:
            if modality.kind == "id":
                return min(modality.num_embeddings, self.num_items)
        return min(self.num_items, PROBE_LENGTH)

    @torch.no_grad()
    def remember(
        self,
        input_ids: torch.LongTensor,
        items: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        rating_ids: torch.Tensor | None = None,
        time_gap_ids: torch.Tensor | None = None,
        seen_items: torch.Tensor | None = None,
        *,
        times: torch.Tensor | None = None,
        credibility: torch.Tensor | None = None,
        owners: torch.Tensor | None = None,
    ) -> None:
        """Take events into the memory: what these users chose next. The next recommendation knows it, untrained.

        Args:
            input_ids, attention_mask, rating_ids, time_gap_ids, seen_items: the histories before the events, from
                the processor.
            items: (batch,) item indices.
            times: (batch,) unix seconds. credibility: (batch,) in (0, 1]. owners: (batch,) user indices.

        Raises:
            ValueError: without a memory, or if an event is refused; then none of them was taken in.
        """
        if self.memory is None:
            raise ValueError("The model has no memory. Build one with `training.retrieval.build_memory`.")
        items = torch.as_tensor(items)
        if ((items < 0) | (items >= self.num_items)).any():
            raise ValueError(f"remember got item {int(items.max())}, expected indices below {self.num_items}.")
        states = None
        if "behaviour" in self.memory.sources:
            was_training = self.training
            self.eval()  # keys are compared with the states of requests, which know no dropout
            states = self.user_states(input_ids, attention_mask, rating_ids, time_gap_ids)
            self.train(was_training)
        histories = [row[row >= 0].cpu() for row in input_ids - self.config.text_vocab_size]
        given = (None if values is None else torch.as_tensor(values).cpu() for values in (times, credibility, owners))
        self.memory.add_events(histories, states, items.cpu(), *given)

    def retrieve(
        self, states: torch.Tensor, input_ids: torch.Tensor, now: torch.Tensor | None = None, **limits: Any
    ) -> RetrievedContext | None:
        """What the memory holds for users in these states; `None` without a memory.

        Args:
            states: (batch, width); input_ids: (batch, length) their histories.
            now: (batch,) unix seconds of the request, for the time decay.
            limits: `before owners own_events` of `RetrievalMemory.retrieve`.
        """
        if self.memory is None:
            return None
        self.memory.check_encoder(self._probe_states, self._encoder_version())
        return self.memory.retrieve(latest_first(input_ids - self.config.text_vocab_size), states, now=now, **limits)

    def condition(self, states: torch.Tensor, table: torch.Tensor, context: RetrievedContext | None) -> Conditioned:
        """States that have read what was retrieved.

        Args:
            states: (batch, width); table: (items, width) item embeddings.
        """
        if context is None:
            return Conditioned(states)
        adapter = self.model.retrieval_adapter
        own = states.float()
        if float(adapter.attention_gate.detach()) == 0.0 and not self.training:
            read = own  # a closed gate: what stands behind it need not be computed
        else:
            read = adapter.condition(own, table[context.items.clamp(min=0)].float(), context)
        temperature, gain = adapter.evidence(own, context)
        return Conditioned(read.to(states.dtype), context, temperature, gain)

    def _encoder_version(self) -> tuple:
        """Of all weights that a user's state depends on; another one after any change of one of them."""
        weights = (weight for module in self.model.modules() for weight in module._parameters.values())
        return self.model.optimizer_steps, *((w.data_ptr(), w._version) for w in weights if w is not None)

    @torch.no_grad()
    def _probe_states(self, input_ids: torch.Tensor) -> torch.Tensor:
        was_training = self.training
        self.eval()
        states = self.user_states(input_ids.to(self.device))
        if was_training:
            self.train()
        return states

    def _load_memory(self, name: str | os.PathLike, kwargs: dict[str, Any]) -> None:
        """Read the memory of a checkpoint whose configuration asks for one."""
        hub = {key: kwargs[key] for key in HUB_KEYS if key in kwargs}

        def find(file: str) -> str | None:
            return cached_file(str(name), f"{FOLDER}/{file}", _raise_exceptions_for_missing_entries=False, **hub)

        self.attach_memory(RetrievalMemory.load(self.config.retrieval, find))


def latest_first(items: torch.Tensor) -> torch.Tensor:
    """Histories (batch, length), negative where there is no item, as (batch, length) latest first, -1 at the end."""
    is_item = items >= 0
    length = items.shape[1]
    # Later items first, what is no item last; the order among equals does not matter.
    rank = torch.where(is_item, torch.arange(length, device=items.device).expand_as(items), -1)
    order = rank.argsort(dim=1, descending=True)
    return items.masked_fill(~is_item, -1).gather(1, order)


def _directions(values: torch.Tensor, width: int = 64) -> torch.Tensor:
    """Sums of the random directions (n, width) of sets of values (n, most), 0 for none."""
    count = int(values.max()) + 1 if values.numel() else 1
    generator = torch.Generator().manual_seed(0)
    # Drawn in the order of the values, so that those known later do not move the others.
    directions = torch.randint(0, 2, (count, width), generator=generator).float() * 2 - 1
    directions[0] = 0
    return directions[values.cpu().long()].sum(1)


__all__ = ["Conditioned", "RetrievalMixin"]
