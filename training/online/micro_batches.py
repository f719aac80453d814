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
    place = np.arange(len(histories.items)) - np.repeat(histories.offsets[1:], histories.lengths)
    without_context = (place == -processor.max_history) & np.repeat(
        histories.lengths > processor.max_history, histories.lengths
    )
    columns = {"labels": learned & ~without_context}
    if weights is not None:
        columns["loss_weights"] = weights.astype(np.float32)
    batch = history_batch(histories, processor, columns)
    batch["labels"] = torch.where(batch["labels"], batch["input_ids"], NOT_PREDICTED)
    return batch


__all__ = ["micro_batch"]
