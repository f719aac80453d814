r"""Off-policy evaluation: what another policy would have earned, from the log of the one that ran.

The log says what was shown, with which probability, and what came of it. A round t shows action :math:`a_t` to
:math:`x_t` with probability :math:`p_t` and earns :math:`r_t`; the new policy would have shown the same action with
probability :math:`\pi(a_t | x_t)`, and the importance weight is

.. math:: w_t = \min\Bigl( \frac{\pi(a_t | x_t)}{p_t}, c \Bigr)

with c = `clip`, or infinite. Clipping trades variance for bias (Ionides, *Truncated importance sampling*, Journal of
Computational and Graphical Statistics 17(2), 2008). All of it needs :math:`p_t > 0` wherever the new policy would act;
the mean weight of a sound log is near 1.

Standard errors come from the influence function of each estimate. Intervals are percentile bootstrap over rounds, as
those of metrics are: skewed as the estimate is where rewards are rare. They rest on independent rounds, and on the
log's having met the large weights: with a few effective rounds they are too narrow, so look at the effective sample
size first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..propensity.inverse_weights import check_propensities, effective_sample_size
from .intervals import Interval, bootstrap_interval


@dataclass(frozen=True)
class OffPolicyEstimate:
    """Mean reward per round of a policy that did not run.

    Attributes:
        value: the estimate.
        low: lower end of its interval.
        high: upper end.
        standard_error: of the value.
        effective_sample_size: Kish's, of the importance weights: rounds that the estimate is worth.
        mean_weight: of the importance weights, unclipped; far from 1, the propensities are wrong or the log too short.
        rounds: length of the log.
        confidence: of the interval.
    """

    value: float
    low: float
    high: float
    standard_error: float
    effective_sample_size: float
    mean_weight: float
    rounds: int
    confidence: float = 0.95

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every attribute by its name."""
        return asdict(self)


def inverse_propensity_estimate(
    rewards: np.ndarray,
    propensities: np.ndarray,
    target_probabilities: np.ndarray,
    clip: float | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OffPolicyEstimate:
    r"""IPS, and with `clip` clipped IPS.

    .. math:: \hat V = \frac{1}{n} \sum_t w_t r_t

    (Horvitz and Thompson, *A generalization of sampling without replacement from a finite universe*, Journal of the
    American Statistical Association 47, 1952). Without `clip` it is unbiased. It is not invariant to a constant added
    to all rewards, and its variance grows with that constant.

    Args:
        rewards: (rounds,) finite.
        propensities: (rounds,) probability with which the log's policy showed the logged action, in (0, 1].
        target_probabilities: (rounds,) probability with which the new policy would have, in [0, 1].
        clip: largest importance weight, above 0; `None`: no limit.
        confidence: share of resamples inside the interval, in (0, 1).
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: if lengths differ, a number is outside its range, or the new policy shows no logged action.
    """
    log = _checked(propensities, target_probabilities, rewards=rewards)
    weights = _clipped(log["weights"], clip)
    return _mean_of(weights * log["rewards"], weights, log["weights"], confidence, resamples, seed)


def self_normalised_estimate(
    rewards: np.ndarray,
    propensities: np.ndarray,
    target_probabilities: np.ndarray,
    clip: float | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OffPolicyEstimate:
    r"""SNIPS: IPS divided by the mean importance weight, whose expectation is 1.

    .. math:: \hat V = \frac{\sum_t w_t r_t}{\sum_t w_t}, \quad
        \mathrm{se}^2 = \frac{\sum_t w_t^2 (r_t - \hat V)^2}{(\sum_t w_t)^2}

    (Swaminathan and Joachims, *The self-normalized estimator for counterfactual learning*, NeurIPS 2015). It stays
    within the range of the rewards, moves with a constant added to them, and a common factor of all propensities does
    not matter; its bias vanishes like 1/n.

    Arguments and errors are those of :func:`inverse_propensity_estimate`.
    """
    log = _checked(propensities, target_probabilities, rewards=rewards)
    weights = _clipped(log["weights"], clip)
    # A round of weight 0 leaves both sums as they are, and a resample of such rounds alone would have no mean.
    counted = weights > 0
    interval = bootstrap_interval(log["rewards"][counted], weights[counted], confidence, resamples, seed)
    errors = weights * (log["rewards"] - interval.mean)
    error = float(np.sqrt(errors @ errors) / weights.sum())
    return _estimate(interval, error, weights, log["weights"])


def doubly_robust_estimate(
    rewards: np.ndarray,
    propensities: np.ndarray,
    target_probabilities: np.ndarray,
    predicted: np.ndarray,
    expected: np.ndarray,
    clip: float | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OffPolicyEstimate:
    r"""DR: a reward model's guess, corrected by IPS of its errors.

    .. math:: \hat V = \frac{1}{n} \sum_t \Bigl( \sum_a \pi(a | x_t) \hat r(x_t, a)
        + w_t (r_t - \hat r(x_t, a_t)) \Bigr)

    (Dudík, Langford and Li, *Doubly robust policy evaluation and learning*, ICML 2011). Right if either the
    propensities or the reward model is; a good model also takes variance away. The model must not have seen the
    rewards that it predicts, as :func:`~llm4rec.training.evaluation.reward_model.cross_fitted_rewards` sees to.

    The other arguments and the errors are those of :func:`inverse_propensity_estimate`.

    Args:
        predicted: (rounds,) predicted reward of the logged action.
        expected: (rounds,) mean predicted reward of the new policy's actions.
    """
    log = _checked(propensities, target_probabilities, rewards=rewards, predicted=predicted, expected=expected)
    weights = _clipped(log["weights"], clip)
    terms = log["expected"] + weights * (log["rewards"] - log["predicted"])
    return _mean_of(terms, weights, log["weights"], confidence, resamples, seed)


def _mean_of(
    terms: np.ndarray, weights: np.ndarray, unclipped: np.ndarray, confidence: float, resamples: int, seed: int
) -> OffPolicyEstimate:
    """The estimate that is a mean over rounds."""
    interval = bootstrap_interval(terms, None, confidence, resamples, seed)
    return _estimate(interval, float(terms.std() / np.sqrt(len(terms))), weights, unclipped)


def _estimate(interval: Interval, error: float, weights: np.ndarray, unclipped: np.ndarray) -> OffPolicyEstimate:
    return OffPolicyEstimate(
        value=interval.mean,
        low=interval.low,
        high=interval.high,
        standard_error=error,
        effective_sample_size=effective_sample_size(weights),
        mean_weight=float(unclipped.mean()),
        rounds=len(weights),
        confidence=interval.confidence,
    )


def _checked(
    propensities: np.ndarray, target_probabilities: np.ndarray, **columns: np.ndarray
) -> Mapping[str, np.ndarray]:
    """The columns as float64, and the importance weights; a ValueError if a number cannot be used."""
    found = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    found["propensities"] = check_propensities(propensities)
    found["target_probabilities"] = targets = np.asarray(target_probabilities, dtype=np.float64)
    shapes = {name: values.shape for name, values in found.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"Shapes differ: {told}. Expected one number of each per round.")
    for name, values in found.items():
        bad = ~np.isfinite(values)
        if name == "target_probabilities":
            bad |= (values < 0) | (values > 1)
        if bad.any():
            row = int(np.argmax(bad))
            wanted = "a probability in [0, 1]" if name == "target_probabilities" else "a finite number"
            raise ValueError(
                f"{bad.sum():,} of {len(values):,} {name} cannot be used, the first in row {row}: {values[row]:g}, "
                f"expected {wanted}. Mend these rounds or leave them out."
            )
    if not targets.any():
        raise ValueError(
            f"The new policy shows none of the {len(targets):,} logged actions (all target_probabilities are 0): this "
            "log says nothing about it. It takes a log whose policy explores what the new one shows."
        )
    found["weights"] = targets / found["propensities"]
    return found


def _clipped(weights: np.ndarray, clip: float | None) -> np.ndarray:
    if clip is None:
        return weights
    if not clip > 0:
        raise ValueError(f"clip is {clip}, expected a largest importance weight above 0, or None for no limit.")
    return np.minimum(weights, clip)
