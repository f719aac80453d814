"""Fusion of an item's modality tokens into one embedding: cross-modal attention, then adaptive weights.

Called by the item embedding with the tokens of the modality encoders; hands on item embeddings and their weights α.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class CrossModalAttention(nn.Module):
    r"""Asymmetric attention between the modalities of an item: the second level of the fusion hierarchy.

    .. math:: h'_m = h_m + O_m \sum_{n \text{ present}} \mathrm{softmax}_n\!\left(\frac{(Q_m h_m)^\top K_n h_n}
              {\sqrt{r/H}}\right) V_n h_n

    Every modality has its own Q, K, V and O, so what text takes from category is not what category takes from text
    (LLM4Rec, arXiv 2510.01622, cross-modal attention). They pass through r = d / 4 dimensions: the whole catalog goes
    through here at every step of a full softmax, and a quarter of the width costs a quarter of the time. O starts at
    zero: before training, tokens pass unchanged.

    Args:
        num_modalities: M.
        width: size d of a modality token.
        heads: H, divides r.

    Shape:
        - tokens: (M, items, d); present: (M, items) bool
        - returns: (M, items, d)
    """

    def __init__(self, num_modalities: int, width: int, heads: int, dropout: float):
        super().__init__()
        self.inner = max(heads, width // 4)
        if self.inner % heads:
            raise ValueError(f"fusion_heads={heads} must divide a quarter of the fusion width, {self.inner}.")
        self.heads = heads
        self.dropout = dropout
        self.input_projection = nn.Parameter(torch.empty(num_modalities, width, 3 * self.inner))
        self.output_projection = nn.Parameter(torch.empty(num_modalities, self.inner, width))

    def forward(self, tokens: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Let every present modality read the other present ones."""
        modalities, items, _ = tokens.shape
        # Items last: two or three modalities make matrices too small for a matrix product per item, and sums over
        # whole rows of items are what is fast then.
        query, key, value = (
            part.view(modalities, self.heads, -1, items)
            for part in torch.bmm(self.input_projection.mT, tokens.mT).split(self.inner, dim=1)
        )
        scores = torch.stack([(query[m] * key).sum(-2) for m in range(modalities)])
        scores = scores / math.sqrt(self.inner // self.heads)
        scores = scores.masked_fill(~present[None, :, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(1).unsqueeze(-2)
        read = torch.stack([(weights[m] * value).sum(0) for m in range(modalities)]).flatten(1, 2)
        return tokens + F.dropout(torch.bmm(read.mT, self.output_projection), self.dropout, self.training)


class AdaptiveFusion(nn.Module):
    r"""Weighted sum of modality tokens, with weights learned per item.

    .. math:: e_i = M_i \sum_m \alpha_{im} h_{im}, \quad
              \alpha_i = \mathrm{softmax}_m(w^\top \tanh(W h_{im} + b_m))

    following the adaptive aggregation of LLM4Rec (arXiv 2510.01622, fusion section). :math:`M_i` counts the modalities
    that item i has: with equal weights the sum is then the plain sum of the tokens, and a missing modality takes its
    share away instead of blowing up the others. Absent modalities get weight 0. w starts at zero, hence equal weights.
    W is d / 4 by d, for the reason given in [`CrossModalAttention`].

    Args:
        num_modalities: M.
        width: size d of a modality token.

    Shape:
        - tokens: (M, items, d); present: (M, items) bool
        - returns: fused (items, d), alpha (M, items); alpha of an item sums to 1, or to 0 for an item with no modality
    """

    def __init__(self, num_modalities: int, width: int):
        super().__init__()
        inner = max(1, width // 4)
        self.hidden = nn.Linear(width, inner, bias=False)
        self.modality_bias = nn.Parameter(torch.empty(num_modalities, inner))
        self.score = nn.Linear(inner, 1, bias=False)

    def forward(self, tokens: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse the present tokens of each item."""
        scores = self.score(torch.tanh(self.hidden(tokens) + self.modality_bias[:, None])).squeeze(-1)
        alpha = scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(0) * present
        count = present.sum(0).to(tokens.dtype)
        return ((alpha * count).unsqueeze(-1) * tokens).sum(0), alpha
