"""Building a memory from the training events of a data set.

Called by `training/train.py` after training and by the experiments; hands a `RetrievalMemory` to the model.
"""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor, RetrievalMemory
from ...modeling_llm4rec.next_item_loss import ItemRows
from ..data.prepared import Interactions
from ..data.sequences import SequenceCollator, training_windows, window_ranges

WINDOWS_AT_ONCE = 64
LEAST_CREDIBILITY = 0.1


def build_memory(
    model: LLM4RecForCausalLM,
    processor: LLM4RecProcessor,
    train: Interactions,
    behaviour_entries: int = 200_000,
    progress: bool = False,
) -> RetrievalMemory:
    """The memory of what happened in train, with the sources that the model's configuration names.

    Args:
        model: with a retrieval adapter (`model.add_retrieval()`); its states become the keys of behaviour.
        processor: its processor.
        train: all users of the data set in their order; nothing else goes into the memory.
        behaviour_entries: keep this many events, the latest of every user first.
        progress: show a progress bar.

    Raises:
        ValueError: if the model has no retrieval adapter.
    """
    config = model.config.retrieval
    if config is None:
        raise ValueError("The model has no retrieval adapter; call `model.add_retrieval()` first.")
    content = model.content_vectors() if "metadata" in config.sources else None
    memory = RetrievalMemory(config, model.num_items, model.config.text_config.hidden_size, content)
    items = torch.from_numpy(train.items.astype(np.int64))
    times = None if train.timestamps is None else torch.from_numpy(train.timestamps.astype(np.int64))
    trust = rating_agreement(train)
    credibility = None if trust is None else torch.from_numpy(trust)
    memory.transitions.learn(items, torch.from_numpy(train.lengths.astype(np.int64)), times, credibility)
    if "behaviour" in config.sources and behaviour_entries:
        kept = latest_events(train, behaviour_entries)
        owners = np.repeat(np.arange(train.num_users), train.lengths)
        memory.behaviour.add(
            event_states(model, processor, train, progress)[kept],
            items[kept],
            None if times is None else times[kept],
            None if credibility is None else credibility[kept],
            torch.from_numpy(owners)[kept],
        )
    probe = model.probe_sequences()
    memory.probe = {"input_ids": probe, "states": model._probe_states(probe).float().cpu()}
    return memory


def rating_agreement(interactions: Interactions) -> np.ndarray | None:
    """Credibility of events by their ratings: 1 where a rating is the item's mean, less the further it is from it.

    Shape:
        - returns: (events,) float32 in [0.1, 1]; `None` if no event has a rating
    """
    ratings = interactions.ratings
    if ratings is None or np.isnan(ratings).all():
        return None
    known = ~np.isnan(ratings)
    counts = np.bincount(interactions.items[known], minlength=interactions.num_items)
    sums = np.bincount(interactions.items[known], weights=ratings[known], minlength=interactions.num_items)
    mean = sums / np.maximum(counts, 1)
    spread = max(float(np.nanmax(ratings) - np.nanmin(ratings)), 1e-9)
    agreement = 1 - np.abs(ratings - mean[interactions.items]) / spread
    return np.where(known, np.clip(agreement, LEAST_CREDIBILITY, 1), 1).astype(np.float32)


def latest_events(interactions: Interactions, count: int) -> torch.Tensor:
    """Numbers of at most `count` events, ascending: every user's latest one before anybody's second latest."""
    age = np.repeat(interactions.offsets[1:], interactions.lengths) - np.arange(len(interactions.items))
    return torch.from_numpy(np.sort(np.argsort(age, kind="stable")[:count]))


@torch.no_grad()
def event_states(
    model: LLM4RecForCausalLM, processor: LLM4RecProcessor, interactions: Interactions, progress: bool = False
) -> torch.Tensor:
    """(events, hidden) float32 state that the user was in before each event."""
    model.eval()
    windows = training_windows(interactions, processor)
    starts, stops, first = window_ranges(interactions, processor.max_history)
    tokenizer = processor.tokenizer
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else processor.start_id
    collate, table = SequenceCollator(pad_id), model.model.item_table()
    states = torch.zeros(len(interactions.items), model.config.text_config.hidden_size)
    order = np.argsort(windows["length"], kind="stable")
    blocks = range(0, len(order), WINDOWS_AT_ONCE)
    for block in tqdm(blocks, desc="remember", leave=False, disable=None if progress else True):
        chosen = order[block : block + WINDOWS_AT_ONCE]
        batch = collate([windows[int(window)] for window in chosen])
        batch.pop("labels")
        batch = {name: values.to(model.device) for name, values in batch.items()}
        hidden = model.model(**batch, item_rows=ItemRows(table), use_cache=False).last_hidden_state.float().cpu()
        for row, window in enumerate(chosen):
            begin = starts[window] if first[window] else starts[window] + 1
            states[begin : stops[window]] = hidden[row, : stops[window] - begin]
    return states


__all__ = ["build_memory", "event_states", "rating_agreement"]
