"""Training loss of item tokens: softmax over the whole catalog, or over sampled negatives with logQ correction.

Called by `LLM4RecForCausalLM.forward` with the states before item positions; text positions have their own softmax.
"""

import math
from typing import Any

import torch

MAX_LOGITS_AT_ONCE = 2**24
"""Logits that the full softmax holds at once (64 MB in float32), whatever the batch and the catalog."""


class _FullSoftmax(torch.autograd.Function):
    """Summed cross-entropy whose gradients are computed block by block in the forward pass.

    The logits of all positions and all items are never held together, and no block is visited twice.
    """

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, table: torch.Tensor, targets: torch.Tensor, label_smoothing: float
    ) -> torch.Tensor:
        needs_states, needs_table = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_states = torch.empty_like(states) if needs_states else None
        grad_table = torch.zeros_like(table) if needs_table else None
        device = states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        states, table = states.to(dtype), table.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        num_items = len(table)
        for rows in torch.arange(len(states), device=states.device).split(max(1, MAX_LOGITS_AT_ONCE // num_items)):
            block, wanted = states[rows], targets[rows, None]
            logits = (block @ table.T).float()
            total += torch.logsumexp(logits, dim=-1).sum() - (1 - label_smoothing) * logits.gather(1, wanted).sum()
            if label_smoothing:
                total -= label_smoothing / num_items * logits.sum()
            if not (needs_states or needs_table):
                continue
            error = torch.softmax(logits, dim=-1)
            if label_smoothing:
                error -= label_smoothing / num_items
            error.scatter_add_(1, wanted, torch.full_like(wanted, label_smoothing - 1, dtype=error.dtype))
            error = error.to(dtype)
            if needs_states:
                grad_states[rows] = (error @ table).to(grad_states.dtype)
            if needs_table:
                grad_table += error.T @ block
        ctx.save_for_backward(grad_states, grad_table)
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        return *(None if grad is None else grad * grad_output.to(grad.dtype) for grad in ctx.saved_tensors), None, None


def full_softmax_loss(
    states: torch.Tensor, table: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Summed cross-entropy of the targets among all items, in blocks of bounded memory.

    Shape:
        - states: (n, d); table: (items, d); targets: (n,) item indices
        - returns: scalar, the sum over n
    """
    return _FullSoftmax.apply(states, table, targets, label_smoothing)


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
    positive_logit = (states * positive.to(states.dtype)).sum(-1, keepdim=True).float()
    negative_logits = (states @ negative.to(states.dtype).T).float()
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
