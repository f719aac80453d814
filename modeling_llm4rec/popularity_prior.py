"""Popularity as a confounder: a prior on items, there while the model learns, to be taken away when it serves.

Read by the loss (`next_item_loss.py`) and by the ranking; the numbers come from `training/debiasing/`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .configuration_llm4rec import LLM4RecConfig
from .item_loss import LogitOffsets

STEP_SCALE = 10.0
"""An optimiser like Adam moves a weight by about the learning rate a step; γ, of size 1, is ten times its weight."""


class PopularityPrior(nn.Module):
    r"""Log popularity of the items at the time of a request, weighted by γ in training and by γ′ in serving.

    .. math:: P(i \mid u, t) = \mathrm{softmax}_i\big(s_{ui} + \gamma \log p_i(t)\big), \qquad
              P(i \mid u, do(\cdot)) = \mathrm{softmax}_i\big(s_{ui} + \gamma' \log p_i(t)\big)

    What is popular is shown more, and what is shown more is chosen more: popularity lies on a back-door path from
    exposure to choice. With the prior in the softmax, the scores s need not explain it; γ′ = 0 leaves them alone, the
    intervention of Zhang et al., *Causal intervention for leveraging popularity bias in recommendation*, SIGIR 2021,
    in the form of a softmax, and γ′ > 0 puts a wanted popularity back in. Sampling negatives is another matter: its
    logQ correction undoes the sampling, never this prior.

    γ can be told from what items are like only where popularity changes over time: constant popularity is as good a
    reason for a constant difference of scores as any property of the item.

    Popularity is relative to the average item, log p = 0. Row 0 holds the whole log and serves where the time is
    unknown; row r >= 1 holds what was known at the start of period r.

    Args:
        config: its `popularity` says how many periods, γ, and whether γ is learned.

    Attributes:
        log_popularity: (1 + periods, items) float32.
        unseen: (1 + periods,) float32, of an item without events: those of items that are appended.
        period_starts: (periods,) int64 unix seconds, ascending.
    """

    def __init__(self, config: LLM4RecConfig):
        super().__init__()
        settings = config.popularity
        weight = torch.tensor(settings.strength / STEP_SCALE)
        if settings.learn_strength:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self.register_buffer("log_popularity", torch.zeros(settings.periods + 1, config.num_items))
        self.register_buffer("unseen", torch.zeros(settings.periods + 1))
        self.register_buffer("period_starts", torch.zeros(settings.periods, dtype=torch.long))

    @property
    def strength(self) -> torch.Tensor:
        """γ, scalar."""
        return self.weight * STEP_SCALE

    def set_popularity(self, log_popularity: torch.Tensor, unseen: torch.Tensor, period_starts: torch.Tensor) -> None:
        """Replace the popularity of all items.

        Raises:
            ValueError: if a shape is not that of the configuration, a number is not finite, or periods do not ascend.
        """
        given = {"log_popularity": log_popularity, "unseen": unseen, "period_starts": period_starts}
        for name, values in given.items():
            held = getattr(self, name)
            if values.shape != held.shape:
                raise ValueError(f"{name} has shape {tuple(values.shape)}, expected {tuple(held.shape)}.")
            if not torch.isfinite(values).all():
                raise ValueError(f"{name} holds {int((~torch.isfinite(values)).sum())} numbers that are not finite.")
        if (period_starts[1:] <= period_starts[:-1]).any():
            raise ValueError("period_starts must ascend, each later than the one before.")
        for name, values in given.items():
            getattr(self, name).copy_(values)

    def append(self, count: int) -> None:
        """Add items without events."""
        columns = self.unseen[:, None].expand(-1, count)
        self.log_popularity = torch.cat([self.log_popularity, columns], dim=1)

    def periods_of(self, times: torch.Tensor) -> torch.Tensor:
        """Row of the popularity at each time (unix seconds, negative: unknown), of any shape."""
        return torch.bucketize(times, self.period_starts, right=True)

    def latest(self, batch: int) -> torch.Tensor:
        """(batch,) row of the last period: that of a request which does not say when it is made."""
        return torch.full((batch,), len(self.period_starts), device=self.period_starts.device)

    def offsets(self, periods: torch.Tensor) -> LogitOffsets:
        """What the prior adds to the logits of predictions (n,) at the times of these rows."""
        return LogitOffsets(self.log_popularity, periods, self.strength)


@dataclass
class PopularityBias:
    """What popularity adds to the scores of a batch of requests.

    Attributes:
        prior: whose popularity it is.
        strength: (batch,) γ′; periods: (batch,) row of the prior.
    """

    prior: PopularityPrior
    strength: torch.Tensor
    periods: torch.Tensor

    def rows(self, index: torch.Tensor | slice) -> torch.Tensor:
        """(n, items) γ′ log p of some of the requests."""
        return self.strength[index].unsqueeze(1) * self.prior.log_popularity[self.periods[index]]


__all__ = ["PopularityBias", "PopularityPrior"]
