"""The last fit of a state eraser: on the states of the finished model, near the end of train histories."""

from __future__ import annotations

import numpy as np
import torch

from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ..data.prepared import Interactions
from ..trainer import ModelScorer

LATEST_EVENTS = 20
"""A user's state is taken after one of this many latest train events."""


def fit_eraser(
    model: LLM4RecForCausalLM, processor: LLM4RecProcessor, train: Interactions, labels: np.ndarray, seed: int = 0
) -> None:
    """Fit the projection of `model.model.state_eraser` on train histories.

    Args:
        labels: (users, attributes) of the attributes that are erased, -1 where unknown.
        seed: of the moment at which each user's state is taken.
    """
    eraser = model.model.state_eraser
    users = np.flatnonzero(train.lengths > 0)
    lengths = train.lengths[users]
    back = np.random.default_rng(seed).integers(0, LATEST_EVENTS, len(users))
    histories = train.take(users, first=np.maximum(lengths - back, 1))
    reads = eraser.reads.clone()
    eraser.reads.zero_()  # the states as they are before the projection
    states = ModelScorer(model, processor).states(histories)
    eraser.reads.copy_(reads)
    eraser.fit(states.to(model.device), torch.from_numpy(labels[users]).to(model.device))
