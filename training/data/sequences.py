"""Token sequences: histories as the model reads them, in windows for training and in padded batches for scoring.

Stands between `Interactions` and the model: the trainer takes :func:`training_windows` and :class:`SequenceCollator`,
the evaluator scores with :func:`history_batch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch

from ...modeling_llm4rec import LLM4RecProcessor
from ...modeling_llm4rec.event_embedding import rating_ids, time_gap_ids
from .prepared import Interactions


def event_ids(interactions: Interactions, processor: LLM4RecProcessor) -> dict[str, np.ndarray]:
    """Event ids that the model reads, each (events,) int64; empty where it reads none.

    Ratings or times that the data lacks count as unknown (id 0).
    """
    ids = {}
    count = len(interactions.items)
    if processor.rating_levels:
        known = interactions.ratings if interactions.ratings is not None else np.full(count, np.nan)
        ids["rating_ids"] = rating_ids(known, processor.rating_levels)
    if processor.num_time_gaps:
        known = interactions.timestamps if interactions.timestamps is not None else np.full(count, -1)
        gaps = time_gap_ids(known, processor.num_time_gaps)
        starts = interactions.offsets[:-1]
        gaps[starts[starts < count]] = 0  # a user's first event has no predecessor
        ids["time_gap_ids"] = gaps
    return ids


def training_windows(
    interactions: Interactions,
    processor: LLM4RecProcessor,
    windows: str = "all",
    event_columns: dict[str, np.ndarray] | None = None,
    user_columns: dict[str, np.ndarray] | None = None,
) -> datasets.Dataset:
    """Training sequences of at most `max_history + 1` tokens, the first of which is context only.

    A history, with the start token before it, is cut from its end into windows that overlap by one token, so that
    every event is predicted exactly once (the first from the start token alone); `windows="last"` keeps the last
    window of each user only.

    Args:
        event_columns: (events,) each, cut along with the events: `loss_weights`, `popularity_periods`.
        user_columns: (users, …) each, repeated for every window of a user: `sensitive_labels`.

    Returns:
        columns `input_ids` (int32), `rating_ids` and `time_gap_ids` (int16) where the model reads them, the columns
        that were given, and `length`.

    Raises:
        ValueError: if there is no event to train on.
    """
    starts, stops, first = window_ranges(interactions, processor.max_history, last_only=windows == "last")
    extra = {name: ids.astype(np.int16) for name, ids in event_ids(interactions, processor).items()}
    extra |= event_columns or {}
    for name, values in extra.items():
        if len(values) != len(interactions.items):
            raise ValueError(
                f"{name} has {len(values)} values, expected one for each of the {len(interactions.items)} events."
            )
    owners = np.searchsorted(interactions.offsets, stops - 1, side="right") - 1
    tokens = interactions.items.astype(np.int64) + processor.text_vocab_size

    def rows() -> Any:
        cuts = zip(starts.tolist(), stops.tolist(), first.tolist(), owners.tolist(), strict=True)
        for start, stop, is_first, owner in cuts:
            prefix = [processor.start_id] if is_first else []
            row = {"input_ids": np.concatenate([prefix, tokens[start:stop]]).astype(np.int32)}
            for name, ids in extra.items():
                row[name] = np.concatenate([[0] if is_first else [], ids[start:stop]]).astype(ids.dtype)
            for name, values in (user_columns or {}).items():
                row[name] = values[owner]
            row["length"] = len(row["input_ids"])
            yield row

    table = list(rows())
    if not table:
        raise ValueError("There is nothing to train on: no history has an event outside validation and test.")
    return datasets.Dataset.from_dict({name: [row[name] for row in table] for name in table[0]})


def window_ranges(
    interactions: Interactions, length: int, last_only: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Event ranges `start:stop` of the windows, and whether the start token stands before them.

    A history of n events is the sequence start, e_1 … e_n; it is cut from its end into pieces of `length + 1` tokens
    that share their border token.
    """
    begin, lengths = interactions.offsets[:-1], interactions.lengths
    counts = -(-lengths // length)
    if last_only:
        counts = np.minimum(counts, 1)
    user = np.repeat(np.arange(len(counts)), counts)
    back = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    first_token = lengths[user] - (back + 1) * length
    starts = begin[user] + np.maximum(first_token - 1, 0)
    stops = begin[user] + lengths[user] - back * length
    return starts, stops, first_token <= 0


OF_EVENTS = {
    "input_ids": np.int64,
    "rating_ids": np.int64,
    "time_gap_ids": np.int64,
    "loss_weights": np.float32,
    "popularity_periods": np.int64,
}
"""Columns of training windows with a value per token, and how the model takes them."""

OF_USERS = ("sensitive_labels",)
"""Columns with values per user."""


@dataclass
class SequenceCollator:
    """Pads training windows on the right and makes labels; -100 is not predicted.

    Args:
        pad_id: token at padding.

    Returns of a call: `input_ids attention_mask labels` and what else is known of events, each (batch, longest), long
    but for `loss_weights`; what is known of users, (batch, …) long.
    """

    pad_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate rows of :func:`training_windows`."""
        longest = max(len(row["input_ids"]) for row in rows)
        names = [name for name in OF_EVENTS if name in rows[0]]
        batch = {
            name: np.full((len(rows), longest), self.pad_id if name == "input_ids" else 0, dtype=kind)
            for name, kind in OF_EVENTS.items()
            if name in rows[0]
        }
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            mask[index, :size] = 1
            for name in names:
                batch[name][index, :size] = row[name]
        batch |= {name: np.asarray([row[name] for row in rows]) for name in OF_USERS if name in rows[0]}
        labels = np.where(mask > 0, batch["input_ids"], -100)
        labels[:, 0] = -100
        return {
            name: torch.from_numpy(values)
            for name, values in {**batch, "attention_mask": mask, "labels": labels}.items()
        }


def history_batch(
    histories: Interactions, processor: LLM4RecProcessor, event_columns: dict[str, np.ndarray] | None = None
) -> dict[str, torch.Tensor]:
    """Model inputs for whole histories, padded on the left: start token, then the latest `max_history` events.

    Args:
        event_columns: (events,) each, placed beside their events; 0 elsewhere.

    Shape:
        - returns: `input_ids attention_mask` and the event ids, each (users, longest) long; event columns as they come
    """
    lengths = np.minimum(histories.lengths, processor.max_history)
    longest = int(lengths.max(initial=0))
    # Place of each cell's event, counted back from the end of the user's history.
    back = np.arange(longest, 0, -1)[None, :]
    there = back <= lengths[:, None]
    events = (histories.offsets[1:, None] - back)[there]
    columns = {"input_ids": histories.items.astype(np.int64) + processor.text_vocab_size}
    columns |= event_ids(histories, processor) | (event_columns or {})
    pad_id = processor.tokenizer.pad_token_id if processor.tokenizer.pad_token_id is not None else processor.start_id
    batch = {}
    for name, values in columns.items():
        kind = values.dtype if name in (event_columns or {}) else np.int64
        padded = np.full((len(lengths), longest + 1), pad_id if name == "input_ids" else 0, dtype=kind)
        padded[:, 1:][there] = values[events]
        batch[name] = padded
    start = longest - lengths
    rows = np.arange(len(lengths))
    batch["input_ids"][rows, start] = processor.start_id
    batch["attention_mask"] = (np.arange(longest + 1)[None, :] >= start[:, None]).astype(np.int64)
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def request_times(histories: Interactions) -> torch.Tensor | None:
    """(users,) long unix seconds of the latest event of each history, -1 where it is empty; `None` without times."""
    if histories.timestamps is None:
        return None
    last = np.full(histories.num_users, -1, dtype=np.int64)
    some = histories.lengths > 0
    last[some] = histories.timestamps[histories.offsets[1:][some] - 1]
    return torch.from_numpy(last)
