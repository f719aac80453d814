"""Training loss of item tokens: softmax over the whole catalog, or over sampled negatives with logQ correction.

Called by `LLM4RecForCausalLM.forward` with the states before item positions; text positions have their own softmax.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch

from .debiasing import Background

MAX_LOGITS_AT_ONCE = 2**24
"""Logits that the full softmax holds at once (64 MB in float32), whatever the batch and the catalog."""

CPU_LOGITS_AT_ONCE = 2**20
"""The same on a CPU: what stays in its cache between the passes over a block."""


class _FullSoftmax(torch.autograd.Function):
    """Weighted sum of cross-entropies whose gradients are computed block by block in the forward pass.

    The logits of all positions and all items are never held together, and no block is visited twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        table: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        background_weights: torch.Tensor,
        background: torch.Tensor,
        rows_of_bias: torch.Tensor,
        items_of_bias: torch.Tensor,
        bias: torch.Tensor,
        offsets: torch.Tensor,
        rows_of_offsets: torch.Tensor,
        offset_strength: torch.Tensor,
    ) -> torch.Tensor:
        needs_states, needs_table = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_states = torch.empty_like(states) if needs_states else None
        # Transposed: a product whose last dimension is the items is the faster one on a CPU.
        grad_table = table.new_zeros(table.shape[1], len(table)) if needs_table else None
        grad_bias = torch.zeros_like(bias) if ctx.needs_input_grad[8] else None
        grad_strength = torch.zeros_like(offset_strength) if ctx.needs_input_grad[11] else None
        device = states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        states, table = states.to(dtype), table.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        num_items, has_background, has_offsets = len(table), len(background) > 0, len(offsets) > 0
        added = (offset_strength * offsets).to(dtype)
        mass = weights + background_weights if has_background else weights
        at_once = min(MAX_LOGITS_AT_ONCE, CPU_LOGITS_AT_ONCE) if device == "cpu" else MAX_LOGITS_AT_ONCE
        blocks = torch.arange(len(states), device=states.device).split(max(1, at_once // num_items))
        products = states.new_empty(len(blocks[0]), num_items)  # one piece of memory for all blocks
        for rows in blocks:
            block, wanted, weight = states[rows], targets[rows, None], weights[rows, None]
            product = products[: len(block)]
            if has_offsets:
                torch.index_select(added, 0, rows_of_offsets[rows], out=product).addmm_(block, table.T)
            else:
                torch.mm(block, table.T, out=product)
            logits = product.float()
            first, last = torch.searchsorted(rows_of_bias, torch.stack([rows[0], rows[-1] + 1])).tolist()
            biased = rows_of_bias[first:last] - rows[0], items_of_bias[first:last]
            logits.index_put_(biased, bias[first:last].float(), accumulate=True)
            total -= (weight * logits.gather(1, wanted)).sum()
            if has_background:
                total -= background_weights[rows] @ (logits @ background)
            # One exponential per logit: the sum serves the loss, the rest becomes the gradient in place.
            highest = logits.amax(dim=-1, keepdim=True)
            error = logits.sub_(highest).exp_()
            partition = error.sum(dim=-1, keepdim=True)
            total += mass[rows] @ (partition.log() + highest).squeeze(1)
            if not any(ctx.needs_input_grad):
                continue
            error *= mass[rows, None] / partition
            if has_background:
                error.addr_(background_weights[rows], background, alpha=-1)
            error.scatter_add_(1, wanted, -weight)
            if grad_bias is not None:
                grad_bias[first:last] = error[biased].to(bias.dtype)
            if grad_strength is not None:
                with torch.autocast(device, enabled=False):  # a sum of numbers that nearly cancel
                    moved = error @ offsets.T.float()
                grad_strength += moved.gather(1, rows_of_offsets[rows, None]).sum()
            error = error.to(dtype)
            if needs_states:
                grad_states[rows] = (error @ table).to(grad_states.dtype)
            if needs_table:
                if dtype == grad_table.dtype:
                    grad_table.addmm_(block.T, error)
                else:
                    grad_table += block.T @ error
        ctx.save_for_backward(grad_states, grad_table.T if needs_table else None, grad_bias, grad_strength)
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, table, bias, strength = (
            None if grad is None else grad * grad_output.to(grad.dtype) for grad in ctx.saved_tensors
        )
        return states, table, None, None, None, None, None, None, bias, None, None, strength


@dataclass
class LogitBias:
    """What is added to single logits before the softmax.

    Attributes:
        rows: (pairs,) long index of the prediction, ascending.
        items: (pairs,) long item index.
        values: (pairs,) float, added once for every pair.
    """

    rows: torch.Tensor
    items: torch.Tensor
    values: torch.Tensor


@dataclass
class LogitOffsets:
    """What is added to the logits of all items before the softmax, the same for many predictions.

    Attributes:
        values: (kinds, items) float; no gradient goes into them.
        rows: (n,) long, which of the kinds each prediction has.
        strength: scalar that the values are multiplied by.
    """

    values: torch.Tensor
    rows: torch.Tensor
    strength: torch.Tensor


def full_softmax_loss(
    states: torch.Tensor,
    table: torch.Tensor,
    targets: torch.Tensor,
    bias: LogitBias | None = None,
    weights: torch.Tensor | None = None,
    background: Background | None = None,
    offsets: LogitOffsets | None = None,
) -> torch.Tensor:
    """Weighted sum of the targets' cross-entropies among all items, in blocks of bounded memory.

    Args:
        bias: added to the logits.
        weights: of the targets; 1 by default.
        background: a distribution that takes part in every target.
        offsets: added to the logits, of the table's items.

    Shape:
        - states: (n, d); table: (items, d); targets: (n,) item indices; weights: (n,)
        - returns: scalar, the sum over n
    """
    none, nothing = targets[:0], states.new_zeros(0, dtype=torch.float32)
    if bias is None:
        bias = LogitBias(none, none, nothing)
    if offsets is None:
        offsets = LogitOffsets(nothing.unsqueeze(1), none, nothing)
    weights = states.new_ones(len(states), dtype=torch.float32) if weights is None else weights
    share, distribution = (nothing, nothing) if background is None else (background.weights, background.distribution)
    added = bias.rows, bias.items, bias.values, offsets.values, offsets.rows, offsets.strength
    return _FullSoftmax.apply(states, table, targets, weights, share, distribution, *added)


def sampled_softmax_loss(
    states: torch.Tensor,
    positive: torch.Tensor,
    negative: torch.Tensor,
    targets: torch.Tensor,
    negative_items: torch.Tensor,
    num_items: int,
    bias: LogitBias | None = None,
    weights: torch.Tensor | None = None,
    background: Background | None = None,
    offsets: LogitOffsets | None = None,
) -> torch.Tensor:
    r"""Weighted sum of the targets' cross-entropies among themselves and uniformly drawn negatives of the batch.

    .. math:: \ell = -s_t + \log\Big(e^{s_t} + \frac{N - 1}{n_t} \sum_{j \neq t} e^{s_j}\Big)

    where :math:`n_t` counts the drawn negatives that are not the target: the logQ correction of sampled softmax
    (Bengio and Senécal 2008; Yi et al. 2019) for a uniform proposal, so the sum estimates the full partition function.

    Args:
        negative_items: distinct items, ascending.
        bias: added to the logits of items that are among targets or negatives.
        weights: of the targets; 1 by default.
        background: over the drawn negatives, a distribution that takes part in every target.
        offsets: added to the logits, of the whole catalog.

    Shape:
        - states, positive: (n, d); negative: (negatives, d)
        - targets: (n,) and negative_items: (negatives,) item indices; weights: (n,)
        - returns: scalar, the sum over n
    """
    positive_logit = (states * positive.to(states.dtype)).sum(-1, keepdim=True).float()
    negative_logits = (states @ negative.to(states.dtype).T).float()
    if offsets is not None:
        added = offsets.strength * offsets.values
        positive_logit = positive_logit + added[offsets.rows, targets].unsqueeze(1)
        negative_logits = negative_logits + added[:, negative_items][offsets.rows]
    if bias is not None:
        is_target = targets[bias.rows] == bias.items
        values = bias.values.float()
        positive_logit = positive_logit.index_put(
            (bias.rows[is_target], torch.zeros_like(bias.rows[is_target])), values[is_target], accumulate=True
        )
        column = torch.searchsorted(negative_items, bias.items).clamp(max=len(negative_items) - 1)
        drawn_too = negative_items[column] == bias.items
        negative_logits = negative_logits.index_put(
            (bias.rows[drawn_too], column[drawn_too]), values[drawn_too], accumulate=True
        )
    accidental = negative_items[None, :] == targets[:, None]
    drawn = (~accidental).sum(-1, keepdim=True).clamp(min=1)
    correction = math.log(max(num_items - 1, 1)) - drawn.log()
    competing = (negative_logits + correction).masked_fill(accidental, float("-inf"))
    partition = torch.logsumexp(torch.cat([positive_logit, competing], dim=-1), dim=-1)
    loss = partition - positive_logit.squeeze(-1)
    if weights is not None:
        loss = weights * loss
    if background is not None:
        loss = loss + background.weights * (partition - negative_logits @ background.distribution)
    return loss.sum()
