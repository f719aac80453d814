"""Erasure of sensitive attributes from user states: what can be read off them linearly is projected away.

The last step of `LLM4RecModel`; it needs nobody's attribute when it serves. Its numbers follow the states in training,
so that the model learns to do with what they leave.
"""

from __future__ import annotations

import torch
from torch import nn

from .adversary import history_weights

MEMORY = 0.995
"""Share of the moments that a training step leaves as they were."""

RIDGE = 1e-4
"""Added to the covariance, in units of its mean variance: directions in which states hardly vary tell nothing."""


class StateEraser(nn.Module):
    r"""Least change of the states after which no linear classifier can tell the attributes.

    .. math:: r(h) = h - \Sigma_{hz} \big(\Sigma_{hz}^\top \Sigma_{hh}^{-1} \Sigma_{hz}\big)^{+}
              \Sigma_{hz}^\top \Sigma_{hh}^{-1} (h - \mu)

    with the indicators z of the attributes' values: the oblique projection of Belrose et al., *LEACE: perfect linear
    concept erasure in closed form*, NeurIPS 2023, which makes the mean state of all groups the same. What is left is
    for the adversary, which without it chases a moving target.

    In training mode and with labels, a call takes the states into running moments first, every history for the same.

    Args:
        width: of the states.
        sizes: number of values of each attribute.

    Attributes:
        mean: (width,) μ; reads, writes: (width, values - attributes) the two sides of the projection, 0 until fitted.

    Shape:
        - states: (…, width); labels: (…, attributes) long, -1: leave this state out
        - returns: (…, width)
    """

    def __init__(self, width: int, sizes: list[int]):
        super().__init__()
        self.sizes = list(sizes)
        indicators = sum(size - 1 for size in sizes)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("reads", torch.zeros(width, indicators))
        self.register_buffer("writes", torch.zeros(width, indicators))
        # Of training alone: first and second moments of states and indicators together.
        self.register_buffer("first", torch.zeros(width + indicators))
        self.register_buffer("second", torch.zeros(width + indicators, width + indicators))
        self.register_buffer("share", torch.zeros(()))

    def keep_moments(self, kept: bool) -> None:
        """Whether checkpoints hold the running moments, from which an interrupted training goes on."""
        for name in ("first", "second", "share"):
            self.register_buffer(name, getattr(self, name), persistent=kept)

    def forward(self, states: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """States without what the attributes could be told by."""
        if self.training and labels is not None:
            self._follow(states, labels)
        told = (states.float() - self.mean) @ self.reads
        return states - (told @ self.writes.T).to(states.dtype)

    @torch.no_grad()
    def fit(self, states: torch.Tensor, labels: torch.Tensor) -> None:
        """Fit the projection on these states (n, width) that were not projected, with labels (n, attributes)."""
        for moment in (self.first, self.second, self.share):
            moment.zero_()
        self._follow(states, labels)

    @torch.no_grad()
    def _follow(self, states: torch.Tensor, labels: torch.Tensor) -> None:
        known = (labels >= 0).all(-1)
        if known.any():
            with torch.autocast(states.device.type, enabled=False):  # moments are kept in single precision
                self._learn(states[known], labels[known], history_weights(known)[:, None])

    def _learn(self, states: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> None:
        both = torch.cat([states.detach().float(), self._indicators(labels)], dim=1)
        self.first.lerp_((weights * both).sum(dim=0), 1 - MEMORY)
        self.second.lerp_(both.T @ (weights * both), 1 - MEMORY)
        self.share.lerp_(torch.ones_like(self.share), 1 - MEMORY)
        # Moments start at 0; dividing by what they hold so far makes them means (as Adam does).
        mean = self.first / self.share
        covariance = self.second / self.share - torch.outer(mean, mean)
        width = len(self.mean)
        own, cross = covariance[:width, :width], covariance[:width, width:]
        ridge = RIDGE * own.diagonal().mean().clamp(min=1e-12)
        own = own + ridge * torch.eye(width, device=own.device)
        self.mean.copy_(mean[:width])
        self.reads.copy_(torch.linalg.solve(own, cross))
        self.writes.copy_(cross @ torch.linalg.pinv(cross.T @ self.reads, hermitian=True))

    def _indicators(self, labels: torch.Tensor) -> torch.Tensor:
        """(n, values - attributes) a column for every value but each attribute's last, which follows from the rest."""
        columns = [
            torch.nn.functional.one_hot(said, size)[:, : size - 1]
            for said, size in zip(labels.unbind(1), self.sizes, strict=True)
        ]
        return torch.cat(columns, dim=1).float()


__all__ = ["StateEraser"]
