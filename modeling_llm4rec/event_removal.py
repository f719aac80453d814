"""Event removal: the same histories with some of their events taken out, as the processor would have made them.

Called by `counterfactuals.py`, which scores the shortened histories.
"""

from __future__ import annotations

import torch

REMOVED_TOKEN = 0
"""Text token that stands where an event was; attention does not see it."""


def without_events(
    batch: dict[str, torch.Tensor | None], rows: torch.Tensor, removed: torch.Tensor, num_time_gaps: int
) -> dict[str, torch.Tensor | None]:
    """Sequences without some of their places; what is left stands together, padded on the left.

    Only what the model read is shortened: events before the latest `max_history` do not move up.

    Args:
        batch: `input_ids attention_mask`, and `rating_ids time_gap_ids` where the model reads them, from the
            processor, each (batch, length) or `None`.
        rows: (n,) which sequence each shortened one is made from.
        removed: (n, length) bool.
        num_time_gaps: of the model.

    Returns:
        the same four, each (n, length) or `None`.
    """
    ids = batch["input_ids"][rows]
    mask = batch["attention_mask"]
    kept = ~removed if mask is None else mask[rows].bool() & ~removed
    # Not kept first, then what is kept, each in its order.
    order = kept.to(torch.uint8).argsort(dim=1, stable=True)
    kept = kept.gather(1, order)
    out: dict[str, torch.Tensor | None] = {
        "input_ids": ids.gather(1, order).masked_fill(~kept, REMOVED_TOKEN),
        "attention_mask": kept.long(),
        "rating_ids": None,
        "time_gap_ids": None,
    }
    if batch.get("rating_ids") is not None:
        out["rating_ids"] = batch["rating_ids"][rows].gather(1, order).masked_fill(~kept, 0)
    if batch.get("time_gap_ids") is not None:
        out["time_gap_ids"] = _joined_gaps(batch["time_gap_ids"][rows], order, kept, num_time_gaps)
    return out


def _joined_gaps(gaps: torch.Tensor, order: torch.Tensor, kept: torch.Tensor, most: int) -> torch.Tensor:
    """Time-gap ids (n, length) after removal: the gap over a removed event is the sum of the gaps around it.

    A bucket stands for the middle of its range, so a joined gap may be one bucket off; kept neighbours keep theirs.
    """
    middle = torch.where(gaps > 0, 1.5 * torch.exp2(gaps.double() - 1) - 1, 0.0)
    middle[gaps == 1] = 0.0  # the same second
    time = middle.cumsum(1).gather(1, order)
    unknown = (gaps <= 0).cumsum(1).gather(1, order)
    gaps = gaps.gather(1, order)
    joined = gaps.clone()
    follows = order[:, 1:] == order[:, :-1] + 1
    summed = (1 + torch.log2(1 + (time[:, 1:] - time[:, :-1]).clamp(min=0) + 1e-9).long()).clamp(max=most)
    summed = summed.masked_fill((unknown[:, 1:] != unknown[:, :-1]) | ~kept[:, :-1], 0)
    joined[:, 1:] = torch.where(follows & kept[:, :-1], gaps[:, 1:], summed)
    joined[:, :1] = joined[:, :1].masked_fill(order[:, :1] != 0, 0)
    return joined.masked_fill(~kept, 0)


__all__ = ["without_events"]
