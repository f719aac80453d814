"""Which weights the base needs: the diagonal of the Fisher information, for elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from tqdm.auto import tqdm

from ...modeling_llm4rec import LLM4RecProcessor
from ..data.prepared import Interactions
from .micro_batches import micro_batch

HISTORIES = 512


def diagonal_fisher(
    model: torch.nn.Module,
    processor: LLM4RecProcessor,
    histories: Interactions,
    weights: Mapping[str, torch.Tensor],
    seed: int = 0,
    count: int = HISTORIES,
    progress: bool = False,
) -> dict[str, torch.Tensor]:
    r"""Diagonal of the empirical Fisher information, per event, on histories of the base.

    .. math:: F_j = \frac{1}{N} \sum_{n=1}^{N} \frac{1}{T_n}
        \left( \frac{\partial}{\partial \theta_j} \sum_{t=1}^{T_n} \log p_\theta(i_t \mid i_{<t}) \right)^2

    with the :math:`T_n` events of history n. After Kirkpatrick et al., *Overcoming catastrophic forgetting in neural
    networks*, PNAS 2017; the events are those that happened, not drawn from the model.

    Args:
        model: that holds the weights.
        histories: of the base; `count` of them are drawn by the seed.
        weights: by name, those that may move.
        progress: show a progress bar.

    Returns:
        by name, of each weight's shape, float32.

    Raises:
        ValueError: if no history has two events.
    """
    able = np.flatnonzero(histories.lengths > 1)
    if not len(able):
        raise ValueError("The Fisher information needs histories of at least two events, but there are none.")
    drawn = np.random.default_rng(seed).choice(able, min(count, len(able)), replace=False)
    total = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    was_training = model.training
    model.eval()
    for user in tqdm(drawn, desc="Fisher", leave=False, disable=None if progress else True):
        history = histories.take(np.array([user]))
        batch = micro_batch(history, np.ones(len(history.items), dtype=bool), processor)
        events = int((batch["labels"] >= 0).sum())
        batch = {name: values.to(next(iter(weights.values())).device) for name, values in batch.items()}
        loss = model(**batch, num_items_in_batch=1).loss
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.float() ** 2 / (events * len(drawn))
    model.train(was_training)
    return total


__all__ = ["diagonal_fisher"]
