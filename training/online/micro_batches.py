"""What one step of online learning reads: histories whose new events are to be predicted.

Histories stand as they do when the model is asked (`history_batch`): what is learned is what will be asked for.
"""

from __future__ import annotations

import numpy as np
import torch

from ...modeling_llm4rec import LLM4RecProcessor
from ..data.prepared import Interactions
from ..data.sequences import history_batch

NOT_PREDICTED = -100


def micro_batch(
    histories: Interactions,
    learned: np.ndarray,
    processor: LLM4RecProcessor,
    weights: np.ndarray | None = None,
) -> dict[str, torch.Tensor]:
    """Model inputs and labels of histories that end in new events.

    Of a history longer than the model reads, the oldest event that is read only gives context.

    Args:
        histories: of the users, new events at their ends.
        learned: (events,) bool: the events to predict, each from what came before it.
        weights: (events,) of the events in the loss; all count alike if not given.

    Shape:
        - returns: `input_ids attention_mask labels`, event ids and, with weights, `loss_weights`: (users, longest)
    """
    batch = history_batch(histories, processor)
    lengths = np.minimum(histories.lengths, processor.max_history)
    longest = int(lengths.max(initial=0))
    back = np.arange(longest, 0, -1)[None, :]
    there = back <= lengths[:, None]
    events = (histories.offsets[1:, None] - back)[there]
    wanted = np.zeros((len(lengths), longest), dtype=bool)
    wanted[there] = learned[events]
    wanted &= ~((back == lengths[:, None]) & (histories.lengths > processor.max_history)[:, None])
    labels = batch["input_ids"].clone()
    labels[:, 0] = NOT_PREDICTED
    labels[:, 1:][~torch.from_numpy(wanted)] = NOT_PREDICTED
    batch["labels"] = labels
    if weights is not None:
        placed = np.ones((len(lengths), longest + 1), dtype=np.float32)
        placed[:, 1:][there] = weights[events]
        batch["loss_weights"] = torch.from_numpy(placed)
    return batch


__all__ = ["micro_batch"]
