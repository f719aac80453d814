r"""Doubly robust joint learning: a relevance model and an imputation model that are trained side by side.

Put in the place of the relevance model by `training/relevance/fit.py`; only the relevance model is kept.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ...modeling_llm4rec.debiasing import sampled_doubly_robust_error
from ...modeling_llm4rec.relevance import LLM4RecForRelevance, RelevanceOutput, cumulative_logit_losses


class JointLearning(nn.Module):
    r"""The loss of doubly robust joint learning, for predictions of relevance.

    After Wang et al., *Doubly robust joint learning for recommendation on data missing not at random*, ICML 2019. The
    imputation model is a second relevance model. Its probabilities q of exceeding each level stand in for a rating
    that nobody gave, so the imputed error of the predictions is their cross-entropy with q. The relevance model learns
    from :func:`sampled_doubly_robust_error`, with q held fixed; the imputation model from

    .. math:: \sum_{(u, i) \in O} w_{ui} (e_{ui} - \hat e_{ui})^2 \Big/ \sum_{O} w_{ui}

    with the predictions held fixed. w are inverse propensities in any unit. Pairs of the history are given, not
    predicted: the mean is over all other pairs.

    Args:
        model: the relevance model; the imputation model starts as its copy.
    """

    def __init__(self, model: LLM4RecForRelevance):
        super().__init__()
        self.prediction = model
        self.imputation = copy.deepcopy(model)

    def forward(
        self,
        candidates: torch.Tensor,
        sampled: torch.Tensor,
        labels: torch.Tensor,
        loss_weights: torch.Tensor,
        **known: torch.Tensor,
    ) -> RelevanceOutput:
        """Both losses, summed; arguments as :class:`~.rated_users.RandomSplits` makes them."""
        count = candidates.shape[1]
        pairs = torch.cat([candidates, sampled.clamp(min=0)], dim=1)
        output = self.prediction(pairs, **known)
        imputed = self.imputation(pairs, **known).logits.sigmoid()
        logits, observed, drawn = output.member_logits, labels > 0, sampled >= 0
        errors = cumulative_logit_losses(logits[:, :, :count], labels[None]).mean(0)
        guesses = soft_losses(logits, imputed.detach())
        loss = sampled_doubly_robust_error(
            errors[observed], guesses[:, :count][observed], loss_weights[observed], guesses[:, count:][drawn]
        )
        learned = soft_losses(logits.detach(), imputed)[:, :count][observed]
        weights = loss_weights[observed]
        output.loss = loss + (weights * (errors.detach()[observed] - learned) ** 2).sum() / weights.sum()
        return output


def soft_losses(logits: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of predictions with probabilities instead of ratings, mean over levels and members.

    Shape:
        - logits: (members, batch, candidates, levels - 1); probabilities: (batch, candidates, levels - 1)
        - returns: (batch, candidates)
    """
    losses = F.binary_cross_entropy_with_logits(logits, probabilities.expand_as(logits), reduction="none")
    return losses.mean(-1).mean(0)
