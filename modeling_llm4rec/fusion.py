"""Fusion of an item's modality tokens into one embedding: cross-modal attention, then adaptive weights.

Called by the item embedding with the tokens of the modality encoders; hands on item embeddings and their weights α.

The whole catalog goes through here at every step of a full softmax, and what costs time are passes over all tokens. So
what a modality reads from the others stays in the r = d / 4 dimensions of the attention: the tokens after attention,
:math:`h'_m = h_m + O_m r_m`, are never put together, since all that is done with them is linear.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class CrossModalAttention(nn.Module):
    r"""Asymmetric attention between the modalities of an item: the second level of the fusion hierarchy.

    .. math:: h'_m = h_m + O_m r_m, \quad r_m = \sum_{n \text{ present}} \mathrm{softmax}_n\!\left(
              \frac{(Q_m h_m)^\top K_n h_n}{\sqrt{r/H}}\right) V_n h_n

    Every modality has its own Q, K, V and O, so what text takes from category is not what category takes from text
    (LLM4Rec, arXiv 2510.01622, cross-modal attention). O starts at zero: before training, tokens pass unchanged.

    Args:
        num_modalities: M.
        width: size d of a modality token.
        heads: H, divides r.

    Shape:
        - tokens: M tensors (items, d); present: (M, items) bool
        - returns: (M, r, items), what every modality reads; `output_projection` (M, r, d) takes it to the tokens
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

    def forward(self, tokens: Sequence[torch.Tensor], present: torch.Tensor) -> torch.Tensor:
        """Let every present modality read the other present ones."""
        # Items last: two or three modalities make matrices too small for a matrix product per item, and sums over
        # whole rows of items are what is fast then.
        projected = [weight.T @ token.T for weight, token in zip(self.input_projection, tokens, strict=True)]
        query, key, value = (
            part.unflatten(1, (self.heads, -1)) for part in torch.stack(projected).split(self.inner, dim=1)
        )
        scores = torch.stack([(one * key).sum(-2) for one in query]) / math.sqrt(self.inner // self.heads)
        scores = scores.masked_fill(~present[None, :, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(1).unsqueeze(-2)
        read = torch.stack([(one * value).sum(0) for one in weights]).flatten(1, 2)
        return F.dropout(read, self.dropout, self.training)


class AdaptiveFusion(nn.Module):
    r"""Weighted sum of modality tokens, with weights learned per item.

    .. math:: e_i = M_i \sum_m \alpha_{im} h'_{im}, \quad
              \alpha_i = \mathrm{softmax}_m(w^\top \tanh(W h'_{im} + b_m))

    following the adaptive aggregation of LLM4Rec (arXiv 2510.01622, fusion section). :math:`M_i` counts the modalities
    that item i has: with equal weights the sum is then the plain sum of the tokens, and a missing modality takes its
    share away instead of blowing up the others. Absent modalities get weight 0. w starts at zero, hence equal weights.
    W is d / 4 by d.

    Args:
        num_modalities: M.
        width: size d of a modality token.

    Shape:
        - tokens: M tensors (items, d); present: (M, items) bool
        - read: (M, r, items) and output_projection: (M, r, d) of [`CrossModalAttention`]
        - returns: fused (items, d), alpha (M, items); alpha of an item sums to 1, or to 0 for an item with no modality
    """

    def __init__(self, num_modalities: int, width: int):
        super().__init__()
        inner = max(1, width // 4)
        self.hidden = nn.Linear(width, inner, bias=False)
        self.modality_bias = nn.Parameter(torch.empty(num_modalities, inner))
        self.score = nn.Linear(inner, 1, bias=False)

    def forward(
        self,
        tokens: Sequence[torch.Tensor],
        present: torch.Tensor,
        read: torch.Tensor,
        output_projection: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse the present tokens of each item."""
        hidden = torch.stack([self.hidden.weight @ token.T for token in tokens])
        hidden = hidden + torch.bmm((output_projection @ self.hidden.weight.T).mT, read)
        scores = (self.score.weight.mT * torch.tanh(hidden + self.modality_bias[:, :, None])).sum(1)
        alpha = scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(0) * present
        share = alpha * present.sum(0)
        fused = (share[:, None] * read).flatten(0, 1).mT @ output_projection.flatten(0, 1)
        for weight, token in zip(share, tokens, strict=True):
            fused = torch.addcmul(fused, weight[:, None].to(fused.dtype), token.to(fused.dtype))
        return fused, alpha
