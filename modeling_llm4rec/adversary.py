"""Adversary against sensitive attributes: it guesses them from the user's state, and the state learns to give nothing
away.

Part of the model in training only; a finished recommender is saved without it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_llm4rec import FairnessConfig


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, strength: float) -> torch.Tensor:
        ctx.strength = strength
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(states: torch.Tensor, strength: float) -> torch.Tensor:
    """`states`, whose gradient is multiplied by -`strength` on its way back (Ganin et al., JMLR 2016)."""
    return _ReverseGradient.apply(states, strength)


def history_weights(marked: torch.Tensor) -> torch.Tensor:
    """What each marked place counts for, so that all histories count the same, however many places of theirs are.

    The state that serves is one a user. A mean over places would make them those of the busiest users, whose states
    tell other things (docs/design.md).

    Shape:
        - marked: (histories, places) bool, or (places,) of one history
        - returns: (marked places,) float32, sums to 1, empty where nothing is marked
    """
    histories = marked.any(-1).sum()
    return (marked / (marked.sum(-1, keepdim=True) * histories).clamp(min=1))[marked]


class SensitiveAttributeAdversary(nn.Module):
    r"""A classifier per sensitive attribute on user states, behind gradient reversal.

    .. math:: \min_\theta \max_\phi \; \mathcal L_\mathrm{items}(\theta)
              - \lambda \sum_a \mathrm{CE}\big(f_{\phi, a}(h_\theta), y_a\big)

    A state h from which no attribute can be told is the same for all groups, and with it what is recommended
    (demographic parity): Zhang, Lemoine and Mitchell, *Mitigating unwanted biases with adversarial learning*, AIES
    2018; for recommenders Bose and Hamilton, *Compositional fairness constraints*, ICML 2019. The classifiers learn at
    full rate whatever λ is, so that they stay good enough to be worth fooling; beyond λ = 1 states move faster than
    the classifiers can follow, and fresh ones tell more again (docs/design.md).

    Args:
        config: names and sizes of the attributes, λ, width.
        width: of the states.

    Attributes:
        strength: λ of the present step; `training/` lets it grow during warm-up.

    Shape:
        - states: (n, width); labels: (n, attributes) long, -1 where unknown; weights: (n,), by default all the same
        - returns: scalar, the sum over attributes of the weighted mean cross-entropy over known labels
    """

    def __init__(self, config: FairnessConfig, width: int):
        super().__init__()
        self.strength = config.strength
        self.normalise = nn.LayerNorm(width, elementwise_affine=False)
        self.classifiers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, config.adversary_width),
                nn.GELU(),
                nn.Linear(config.adversary_width, config.adversary_width),
                nn.GELU(),
                nn.Linear(config.adversary_width, size),
            )
            for size in config.sizes
        )

    def forward(self, states: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """The classifiers' loss; its gradient into the states comes reversed."""
        weights = states.new_ones(len(states), dtype=torch.float32) if weights is None else weights
        read = self.normalise(reverse_gradient(states.float(), self.strength))
        total = read.new_zeros(())
        for classifier, wanted in zip(self.classifiers, labels.unbind(-1), strict=True):
            losses = F.cross_entropy(classifier(read).float(), wanted, ignore_index=-1, reduction="none")
            known = weights * (wanted >= 0)
            total = total + (known * losses).sum() / known.sum().clamp(min=1e-12)
        return total


__all__ = ["SensitiveAttributeAdversary", "history_weights", "reverse_gradient"]
