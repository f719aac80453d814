"""Retrieval adapter: how much a recommender listens to what its memory found.

Called by `LLM4RecForCausalLM` between the user's state and the item scores.
"""

from __future__ import annotations

import torch
from torch import nn

from .configuration_llm4rec import RetrievalConfig
from .retrieved_context import RetrievedContext


class RetrievalAdapter(nn.Module):
    r"""Conditions user states on retrieved items, and adds their evidence to the scores.

    The state reads the retrieved items by cross-attention behind a gate,

    .. math:: h' = h + \tanh(g)\, W_o \sum_e a_e W_v x_e, \quad
        a = \mathrm{softmax}_e(\tfrac{(W_q h)^\top W_k x_e}{\sqrt{d}} + \log \mathrm{relevance}_e)

    and an item that source s found with strength :math:`\phi_{s,i}` gains log-odds:

    .. math:: s_i = t(h)\, e_i^\top h' + \sum_s w_s(h) \log(1 + c_s \phi_{s,i})

    a product of experts with learned weights per user. The mixture of distributions of kNN-LM (arXiv 1911.00172),
    which it replaces, gained a fifth as much (`docs/design.md`). g and w start at 0 and t at 1: a model is unchanged
    until it was trained to listen.

    Args:
        config: sources and widths.
        width: of user states and item embeddings.

    Shape:
        - states: (batch, width); keys, values: (batch, sources, k, attention_width) of the retrieved items
    """

    def __init__(self, config: RetrievalConfig, width: int):
        super().__init__()
        sources, inner = len(config.sources), config.attention_width
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.output = nn.Linear(inner, width, bias=False)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        self.gate = nn.Sequential(
            nn.Linear(width + 2 * sources, config.gate_width),
            nn.ReLU(),
            nn.Dropout(config.gate_dropout),
            nn.Linear(config.gate_width, sources + 1),
        )
        nn.init.zeros_(self.gate[-1].weight)
        nn.init.zeros_(self.gate[-1].bias)
        self.source_weight = nn.Parameter(torch.zeros(sources))
        self.sharpness = nn.Parameter(torch.full((sources,), INITIAL_SHARPNESS))
        self.temperature = nn.Parameter(torch.zeros(1))

    def condition(self, states: torch.Tensor, vectors: torch.Tensor, context: RetrievedContext) -> torch.Tensor:
        """States (batch, width) that have read the retrieved items; the same where there are none.

        Args:
            vectors: (batch, sources, k, width) embeddings of the retrieved items.
        """
        return states + self.output(self.read(states, self.key(vectors), self.value(vectors), context))

    def read(
        self, states: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, context: RetrievedContext
    ) -> torch.Tensor:
        """(batch, attention_width) what attention takes from the retrieved items, behind the gate."""
        there = (context.items >= 0).flatten(1)
        logits = torch.einsum("bd,bed->be", self.query(states), keys.flatten(1, 2)) / self.query.out_features**0.5
        logits = logits + context.relevance.flatten(1).clamp(min=1e-6).log()
        lowest = torch.finfo(logits.dtype).min
        attention = logits.masked_fill(~there, lowest).softmax(-1) * there  # all zero where nothing was found
        return torch.tanh(self.attention_gate) * torch.einsum("be,bed->bd", attention, values.flatten(1, 2))

    def evidence(self, states: torch.Tensor, context: RetrievedContext) -> tuple[torch.Tensor, torch.Tensor]:
        """What the memory adds.

        Returns:
            temperature (batch, 1) by which the model's own scores are multiplied, and the log-odds (batch, sources, k)
            that retrieved items gain, 0 where there is no item.
        """
        strength = context.strength.to(states.dtype)
        best = strength.amax(-1)
        there = (context.items >= 0).to(states.dtype).mean(-1)
        summary = torch.cat([torch.log1p(20 * best), there], dim=-1)
        direction = nn.functional.normalize(states, dim=-1) * 3
        gates = self.gate(torch.cat([direction, summary], dim=-1))
        temperature = torch.exp(self.temperature + 0.3 * gates[:, -1:])
        weights = self.source_weight * gates[:, :-1].exp()
        gain = weights.unsqueeze(-1) * torch.log1p(strength * self.sharpness.exp().view(1, -1, 1))
        return temperature, gain.masked_fill(context.items < 0, 0.0)


INITIAL_SHARPNESS = 3.0

__all__ = ["RetrievalAdapter"]
