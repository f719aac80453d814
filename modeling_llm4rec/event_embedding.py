"""Event embedding: what is known of an interaction besides its item, added to the item's embedding.

The processor and the training data turn ratings and times into the ids that are embedded here.
"""

import numpy as np
import torch
from torch import nn

from .configuration_llm4rec import LLM4RecConfig


class EventEmbedding(nn.Module):
    """Sum of a rating embedding and a time-gap embedding; id 0 (unknown) adds nothing.

    Shape:
        - rating_ids, time_gap_ids: (batch, length) long, or `None`
        - returns: (batch, length, hidden), or `None` if neither is there
    """

    def __init__(self, config: LLM4RecConfig):
        super().__init__()
        hidden = config.text_config.hidden_size
        ratings, gaps = len(config.rating_levels), config.num_time_gaps
        self.rating = nn.Embedding(ratings + 1, hidden, padding_idx=0) if ratings else None
        self.time_gap = nn.Embedding(gaps + 1, hidden, padding_idx=0) if gaps else None

    def forward(self, rating_ids: torch.Tensor | None, time_gap_ids: torch.Tensor | None) -> torch.Tensor | None:
        """Embed what this model was trained to read; the rest is ignored."""
        parts = [
            embedding(ids)
            for embedding, ids in ((self.rating, rating_ids), (self.time_gap, time_gap_ids))
            if embedding is not None and ids is not None
        ]
        return sum(parts) if parts else None


def rating_ids(ratings: np.ndarray, levels: list[float]) -> np.ndarray:
    """Ids 1 … len(levels) of the nearest level of each rating; 0 where the rating is NaN.

    Shape:
        - ratings: (events,) float; returns: (events,) int64
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    nearest = np.abs(ratings[:, None] - np.asarray(levels)[None, :]).argmin(-1) + 1 if len(ratings) else np.array([])
    return np.where(np.isnan(ratings), 0, nearest).astype(np.int64)


def time_gap_ids(timestamps: np.ndarray, num_time_gaps: int) -> np.ndarray:
    """Ids 1 … num_time_gaps: log2 bucket of the seconds since the previous event of the same history.

    The first event and events of unknown time (negative timestamp, or after one) get 0. A bucket doubles the gap:
    1 is the same second, 18 about a day and a half, 26 about a year.

    Shape:
        - timestamps: (events,) int64 unix seconds, -1 where unknown; returns: (events,) int64
    """
    timestamps = np.asarray(timestamps, dtype=np.int64)
    ids = np.zeros(len(timestamps), dtype=np.int64)
    if len(timestamps) > 1:
        gaps = np.diff(timestamps).clip(min=0)
        known = (timestamps[1:] >= 0) & (timestamps[:-1] >= 0)
        ids[1:] = np.where(known, 1 + np.log2(1.0 + gaps).astype(np.int64).clip(max=num_time_gaps - 1), 0)
    return ids
