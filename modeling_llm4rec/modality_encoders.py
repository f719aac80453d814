"""Modality encoders: each turns one stored feature of an item into a token of width d.

Called by the item embedding (`item_embedding.py`) for the items a step needs; their tokens meet in `fusion.py`.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_llm4rec import ModalityConfig


class IdEncoder(nn.Module):
    """A free embedding per item: what collaborative signal adds beyond content.

    Shape:
        - items: (n,) item indices below `num_embeddings`
        - returns: (n, d)
    """

    def __init__(self, modality: ModalityConfig, width: int):
        super().__init__()
        self.embedding = nn.Embedding(modality.num_embeddings, width)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Look up the items' embeddings; items without one are masked out by the caller."""
        return self.embedding(items.clamp(max=self.embedding.num_embeddings - 1))


class VectorEncoder(nn.Module):
    """Two-layer perceptron on a given vector: a text encoder's output or any precomputed embedding.

    Shape:
        - vectors: (n, feature_size)
        - returns: (n, d)
    """

    def __init__(self, modality: ModalityConfig, width: int):
        super().__init__()
        self.feature_size = modality.feature_size
        self.hidden = nn.Linear(modality.feature_size, width)
        self.output = nn.Linear(width, width)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Encode vectors of any scale: they are brought to zero mean and unit variance first."""
        vectors = F.layer_norm(vectors.to(self.hidden.weight.dtype), (self.feature_size,))
        return self.output(F.gelu(self.hidden(vectors)))


class CategoricalEncoder(nn.Module):
    r"""Attention pooling over the item's set of values: the first level of the fusion hierarchy.

    .. math:: h = \sqrt{n} \sum_j a_j v_j, \quad a = \mathrm{softmax}_j(q^\top v_j)

    The factor √n keeps the length of a sum of n independent values instead of that of their mean.

    Shape:
        - values: (n, max_values) value indices, 0 where there is none
        - returns: (n, d)
    """

    def __init__(self, modality: ModalityConfig, width: int):
        super().__init__()
        self.embedding = nn.Embedding(modality.num_embeddings, width, padding_idx=0)
        self.query = nn.Linear(width, 1, bias=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Pool the embeddings of the values that are there."""
        present = values > 0
        # q·v once for each value that exists, not for each item that has it.
        scores = self.query(self.embedding.weight).squeeze(-1)[values]
        weights = scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(-1)
        count = present.sum(-1, keepdim=True).clamp(min=1).to(scores.dtype)
        weights = (weights * present * count.sqrt()).to(self.embedding.weight.dtype)
        return F.embedding_bag(values, self.embedding.weight, per_sample_weights=weights, mode="sum", padding_idx=0)


class NumericalEncoder(nn.Module):
    r"""Periodic features of a standardised number, then a linear layer.

    .. math:: h = W\,[x, \sin(2^k \pi x / 4), \cos(2^k \pi x / 4)]_{k<K} + b

    after the periodic embeddings of Gorishniy et al. (arXiv 2203.05556), with fixed frequencies.

    Shape:
        - numbers: (n,) standardised
        - returns: (n, d)
    """

    num_frequencies = 6

    def __init__(self, modality: ModalityConfig, width: int):
        super().__init__()
        self.output = nn.Linear(1 + 2 * self.num_frequencies, width)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Encode numbers; outliers beyond four standard deviations count as four."""
        x = numbers.to(self.output.weight.dtype).clamp(-4, 4).unsqueeze(-1)
        exponents = torch.arange(self.num_frequencies, device=x.device, dtype=x.dtype)
        phases = x * torch.exp2(exponents) * (math.pi / 4)
        return self.output(torch.cat([x, phases.sin(), phases.cos()], dim=-1))


ENCODERS = {
    "id": IdEncoder,
    "text": VectorEncoder,
    "vector": VectorEncoder,
    "categorical": CategoricalEncoder,
    "numerical": NumericalEncoder,
    "words": CategoricalEncoder,
}
"""Encoder class of each modality kind."""
