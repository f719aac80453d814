"""Training loss of item tokens: softmax over the whole catalog, or over sampled negatives with logQ correction.

Called by `LLM4RecForCausalLM.forward` with the states before item positions; text positions have their own softmax.
"""

import math

import torch
import torch.nn.functional as F


def full_softmax_loss(
    states: torch.Tensor, table: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Summed cross-entropy of the targets among all items.

    Shape:
        - states: (n, d); table: (items, d); targets: (n,) item indices
        - returns: scalar, the sum over n
    """
    logits = states @ table.T
    return F.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=label_smoothing)


def sampled_softmax_loss(
    states: torch.Tensor,
    positive: torch.Tensor,
    negative: torch.Tensor,
    targets: torch.Tensor,
    negative_items: torch.Tensor,
    num_items: int,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    r"""Summed cross-entropy of the targets among themselves and uniformly drawn negatives shared by the batch.

    .. math:: \ell = -s_t + \log\Big(e^{s_t} + \frac{N - 1}{n_t} \sum_{j \neq t} e^{s_j}\Big)

    where :math:`n_t` counts the drawn negatives that are not the target: the logQ correction of sampled softmax
    (Bengio and Senécal 2008; Yi et al. 2019) for a uniform proposal, so the sum estimates the full partition function.

    Shape:
        - states, positive: (n, d); negative: (negatives, d)
        - targets: (n,) and negative_items: (negatives,) item indices
        - returns: scalar, the sum over n
    """
    positive_logit = (states * positive).sum(-1, keepdim=True).float()
    negative_logits = (states @ negative.T).float()
    accidental = negative_items[None, :] == targets[:, None]
    drawn = (~accidental).sum(-1, keepdim=True).clamp(min=1)
    correction = math.log(max(num_items - 1, 1)) - drawn.log()
    negative_logits = (negative_logits + correction).masked_fill(accidental, float("-inf"))
    logits = torch.cat([positive_logit, negative_logits], dim=-1)
    loss = torch.logsumexp(logits, dim=-1) - positive_logit.squeeze(-1)
    if label_smoothing:
        spread = negative_logits.masked_fill(accidental, 0).sum(-1) / drawn.squeeze(-1)
        loss = loss + label_smoothing * (positive_logit.squeeze(-1) - spread + correction.squeeze(-1))
    return loss.sum()
