"""Repeat bias: how much more, or less, likely an item is because the user had it already.

Whether people come back to an item (groceries, songs) or never do (films, reviews) is a property of the data, not of
an item's content; without a term of its own it must be learned against the content that the next item shares with the
last. Added to the logits of items in the history, by `LLM4RecForCausalLM`, in the loss and when scoring.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class SeenPairs(NamedTuple):
    """Items that stand in the history of a prediction.

    Attributes:
        rows: (pairs,) long index of the prediction, ascending.
        items: (pairs,) long item index.
        ages: (pairs,) long number of items between the item and the prediction; 0 is the latest.
    """

    rows: torch.Tensor
    items: torch.Tensor
    ages: torch.Tensor


def seen_pairs(items: torch.Tensor, predicts: torch.Tensor) -> SeenPairs:
    """All (prediction, earlier item) pairs of a batch of sequences.

    Shape:
        - items: (batch, length) item indices, negative where there is no item
        - predicts: (batch, length) bool, true at positions whose state predicts an item; `rows` counts them in order
    """
    length = items.shape[1]
    is_item = items >= 0
    order = is_item.cumsum(-1)
    earlier = torch.ones(length, length, dtype=torch.bool, device=items.device).tril()
    user, position, past = (predicts[:, :, None] & is_item[:, None, :] & earlier).nonzero(as_tuple=True)
    row_of = (predicts.flatten().cumsum(0) - 1).view_as(predicts)
    return SeenPairs(row_of[user, position], items[user, past], order[user, position] - order[user, past])


class RepeatBias(nn.Module):
    r"""One learned bias per age of the item in the history.

    .. math:: s_{ui} \mathrel{+}= \sum_{j : h_{uj} = i} b_{\lfloor \log_2 (1 + a_j) \rfloor}

    with :math:`a_j` the age of event j, in items. Starts at zero.

    Shape:
        - ages: (pairs,) long; returns: (pairs,) float
    """

    num_buckets = 7
    scale = 10.0  # of the stored weights: an optimizer's small steps must reach "never again", a bias near -20

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(self.num_buckets))

    def forward(self, ages: torch.Tensor) -> torch.Tensor:
        """Bias of items of these ages."""
        buckets = torch.log2(1.0 + ages).long().clamp(max=self.num_buckets - 1)
        return self.scale * self.bias[buckets]
