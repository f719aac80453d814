r"""Weights that correct a loss for how its events came to be observed.

An event of a log was seen with some chance p, its propensity; rare ones stand for many that nobody saw. The trainer
hands over a weight w = c / p for every event (`training/propensity/`); :func:`target_weights` turns them into the
coefficients of the item loss (`item_loss.py`). :func:`doubly_robust_error` is the estimator for pairs of user and
item.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

LOSS_WEIGHTINGS = ("none", "ips", "snips", "doubly_robust")
"""How events are weighted; clipping is done where the weights are made."""


@dataclass
class Background:
    r"""A distribution over items that takes part in every prediction's target.

    The loss of a row becomes :math:`w \, \ell_t + c \, \sum_i b_i \ell_i` with the target t and
    :math:`\ell_i = -\log \mathrm{softmax}_i`. Label smoothing ε is w = 1 - ε, c = ε and b uniform.

    Attributes:
        weights: (n,) float32 c, which may be negative.
        distribution: (items,) float32 b, sums to 1.
    """

    weights: torch.Tensor
    distribution: torch.Tensor


def target_weights(weights: torch.Tensor, method: str, imputed: torch.Tensor | None = None) -> tuple:
    r"""Coefficients of the observed targets, and of what is imputed beside them.

    With weights w of mean 1 over the log and the loss ℓ of an event,

    - `ips`: :math:`\sum w \ell`, inverse propensity scoring; clipped weights make it clipped IPS.
    - `snips`: :math:`n \sum w \ell / \sum w` over the batch, self-normalised (Swaminathan and Joachims, NeurIPS 2015):
      a batch of rare events takes no larger step than another.
    - `doubly_robust`: :math:`\sum \hat\ell + w (\ell - \hat\ell)` with the imputed loss :math:`\hat\ell = \sum_i m_i
      \ell_i` of a target drawn from m, the debiased popularity of the items (Dudík et al., ICML 2011; for
      recommendation Wang et al., ICML 2019). Right on average if the weights are right, and also if m is what the
      user would have chosen; the coefficient of log Z is 1 in every row, whatever its weight, which is why it stays
      calm where IPS does not.

    Args:
        imputed: (items,) m, for `doubly_robust`.

    Shape:
        - weights: (n,) float32, 0 or more

    Returns:
        (n,) float32 coefficients of the targets, and the [`Background`] or `None`.

    Raises:
        ValueError: for an unknown method, or `doubly_robust` without `imputed`.
    """
    weights = weights.float()
    if method in ("none", "ips"):
        return weights, None
    if method == "snips":
        return weights * (len(weights) / weights.sum().clamp(min=1e-12)), None
    if method != "doubly_robust":
        raise ValueError(f"Unknown loss weighting {method!r}, expected one of {', '.join(LOSS_WEIGHTINGS)}.")
    if imputed is None:
        raise ValueError("doubly_robust needs the distribution of imputed targets: call `model.set_imputed_targets`.")
    return weights, Background(1 - weights, imputed.float())


def doubly_robust_error(
    errors: torch.Tensor, imputed: torch.Tensor, observed: torch.Tensor, propensities: torch.Tensor
) -> torch.Tensor:
    r"""Mean error over all pairs, from the errors of those that were observed and a guess for every one.

    .. math:: \frac{1}{|D|} \sum_{(u, i) \in D} \hat e_{ui} + \frac{o_{ui}}{p_{ui}} (e_{ui} - \hat e_{ui})

    of Wang et al., *Doubly robust joint learning for recommendation on data missing not at random*, ICML 2019: right
    on average if the propensities are right or the guesses are.

    Shape:
        - errors, imputed, observed, propensities: (pairs,); errors of pairs that were not observed do not matter
        - returns: scalar
    """
    correction = torch.where(observed.bool(), (errors - imputed) / propensities, torch.zeros_like(imputed))
    return (imputed + correction).mean()


def sampled_doubly_robust_error(
    errors: torch.Tensor, imputed: torch.Tensor, weights: torch.Tensor, sampled: torch.Tensor
) -> torch.Tensor:
    r"""Mean error over all pairs, where those that were not observed are too many to impute every one.

    .. math:: \frac{1}{|S|} \sum_{(u, i) \in S} \hat e_{ui}
              + \frac{\sum_{(u, i) \in O} w_{ui} (e_{ui} - \hat e_{ui})}{\sum_{(u, i) \in O} w_{ui}}

    :func:`doubly_robust_error` with a uniform sample S of all pairs in its first part, and a correction that is
    self-normalised: it needs propensities up to a factor only and is bounded by the largest difference of an error
    and its guess (Swaminathan and Joachims, NeurIPS 2015). With right guesses it is right on average, with right
    propensities in large samples.

    Args:
        errors: of the observed pairs.
        imputed: guesses for the observed pairs.
        weights: of the observed pairs, inverse propensities in any unit.
        sampled: guesses for a uniform sample of all pairs.

    Shape:
        - errors, imputed, weights: (observed,); sampled: (sample,)
        - returns: scalar
    """
    correction = (weights * (errors - imputed)).sum() / weights.sum().clamp(min=1e-12)
    return sampled.mean() + correction


__all__ = ["LOSS_WEIGHTINGS", "Background", "doubly_robust_error", "sampled_doubly_robust_error", "target_weights"]
