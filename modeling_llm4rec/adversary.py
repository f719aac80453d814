"""Adversary against sensitive attributes: it guesses them from the user's state, and the state learns to give nothing
away.

Part of the model in training only; a finished recommender is saved without it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from .configuration_llm4rec import FairnessConfig

READ_AT_ONCE = 1024
"""States that the classifiers read a step, and that are kept of each batch for them."""

BATCHES_KEPT = 8
"""Latest batches whose states the classifiers learn from: one batch is of too few users (docs/design.md)."""


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
    2018; for recommenders Bose and Hamilton, *Compositional fairness constraints*, ICML 2019. A call moves the states
    alone; the classifiers learn by `classifier_loss` on states of the latest calls, in several steps for each of the
    model's, so that they stay good enough to be worth fooling (`training/debiasing/adversary_training.py`). Beyond λ
    = 1 states move faster than the classifiers can follow, and fresh ones tell more again (docs/design.md).

    Args:
        config: names and sizes of the attributes, λ, width.
        width: of the states.

    Attributes:
        strength: λ of the present step; `training/` lets it grow during warm-up.
        recent: (states, labels) of the latest batches in training, what the classifiers learn from.

    Shape:
        - states: (n, width); labels: (n, attributes) long, -1 where unknown; weights: (n,), by default all the same
        - returns: scalar, the sum over attributes of the weighted mean cross-entropy over known labels
    """

    def __init__(self, config: FairnessConfig, width: int):
        super().__init__()
        self.strength = config.strength
        self.recent: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=BATCHES_KEPT)
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

        self.requires_grad_(False)  # the model's optimiser has nothing to do with them

    def forward(self, states: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """The classifiers' loss; its gradient into the states comes reversed, and the classifiers get none."""
        weights = states.new_ones(len(states), dtype=torch.float32) if weights is None else weights
        read = self.normalise(reverse_gradient(states.float(), self.strength))
        if self.training and torch.is_grad_enabled() and len(states):
            drawn = torch.multinomial(weights, READ_AT_ONCE, replacement=True)
            self.recent.append((read.detach()[drawn], labels[drawn]))
        total = read.new_zeros(())
        for losses, wanted in zip(self._losses(read, labels), labels.unbind(-1), strict=True):
            known = weights * (wanted >= 0)
            total = total + (known * losses).sum() / known.sum().clamp(min=1e-12)
        return total

    def classifier_loss(self, weights: dict[str, torch.Tensor]) -> torch.Tensor:
        """Loss of the classifiers with these weights on a draw of the recent states; 0 where no label is known.

        Args:
            weights: by the names of `named_parameters`; the gradient goes into them.
        """
        # The same places of every batch, whose order is random: not all that is kept has to be copied.
        drawn = torch.randint(READ_AT_ONCE, (READ_AT_ONCE // len(self.recent),)).to(self.recent[0][0].device)
        states, labels = (torch.cat([part[drawn] for part in parts]) for parts in zip(*self.recent, strict=True))
        losses = torch.stack(self._losses(states, labels, weights))
        known = (labels >= 0).T
        return (losses.sum(-1) / known.sum(-1).clamp(min=1)).sum()

    def _losses(
        self, read: torch.Tensor, labels: torch.Tensor, weights: dict[str, torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """(n,) cross-entropy of every classifier, 0 where the label is unknown."""
        found = []
        for index, (classifier, wanted) in enumerate(zip(self.classifiers, labels.unbind(-1), strict=True)):
            prefix = f"classifiers.{index}."
            own = {name.removeprefix(prefix): w for name, w in (weights or {}).items() if name.startswith(prefix)}
            logits = functional_call(classifier, own, (read,)).float()
            found.append(F.cross_entropy(logits, wanted, ignore_index=-1, reduction="none"))
        return found


__all__ = ["SensitiveAttributeAdversary", "history_weights", "reverse_gradient"]
