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
        - states: (n, width); labels: (n, attributes) long, -1 where unknown
        - returns: scalar, the sum over attributes of the mean cross-entropy over known labels
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

    def forward(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The classifiers' loss; its gradient into the states comes reversed."""
        read = self.normalise(reverse_gradient(states.float(), self.strength))
        total = read.new_zeros(())
        for classifier, wanted in zip(self.classifiers, labels.unbind(-1), strict=True):
            if (wanted >= 0).any():  # a mean over nothing is NaN
                total = total + F.cross_entropy(classifier(read).float(), wanted, ignore_index=-1)
        return total


__all__ = ["SensitiveAttributeAdversary", "reverse_gradient"]
