"""Confidence intervals by bootstrap over users: how far would a metric move with other users of the same kind?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .evaluation_result import EvaluationResult
from .metrics import RANK_METRICS

CHUNK = 2**21
"""Random numbers drawn at a time."""


@dataclass(frozen=True)
class Interval:
    """A mean and the range it may well lie in.

    Attributes:
        mean: of the cases themselves.
        low: lower end.
        high: upper end.
        confidence: share of resamples between the ends.
    """

    mean: float
    low: float
    high: float
    confidence: float = 0.95

    @property
    def half_width(self) -> float:
        """The number after ±: half the distance of the ends."""
        return (self.high - self.low) / 2

    def to_dict(self) -> dict[str, float]:
        """For JSON: `mean low high confidence`."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "confidence": self.confidence}


def bootstrap_means(
    values: np.ndarray, weights: np.ndarray | None = None, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Means of resamples of the cases, drawn with replacement.

    Cases of equal value (and weight) are exchangeable, so it is enough to draw how many of each distinct value a
    resample holds, from a multinomial distribution: a metric @10 has at most 11 values, whatever the number of cases.
    Where most values are distinct, indices are drawn instead. Memory: some 2^21 numbers, or one resample if larger.

    Args:
        weights: of the cases in a weighted mean, such as inverse propensities; drawn together with the values.

    Shape:
        - values: (cases,) finite; weights: (cases,) above 0
        - returns: (resamples,) float64
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"values of shape {values.shape}: expected one finite number per case and at least one case. "
            "Leave out cases whose metric is not defined (NaN)."
        )
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, expected at least 1.")
    if weights is None:
        distinct, counts = np.unique(values, return_counts=True)
        weights, rows = np.ones(len(values)), np.stack([distinct, np.ones(len(distinct))], axis=1)
    else:
        weights = np.asarray(weights, dtype=np.float64)
        rows, counts = np.unique(np.stack([values, weights], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    few = len(rows) * 8 <= len(values)
    sums = []
    step = max(1, CHUNK // (len(rows) if few else len(values)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        if few:
            drawn = generator.multinomial(len(values), counts / len(values), size=size)
            sums.append(drawn @ np.stack([rows[:, 0] * rows[:, 1], rows[:, 1]], axis=1))
        else:
            drawn = generator.integers(len(values), size=(size, len(values)))
            sums.append(np.stack([(values * weights)[drawn].sum(axis=1), weights[drawn].sum(axis=1)], axis=1))
    weighted, total = np.concatenate(sums).T
    return weighted / total


def bootstrap_interval(
    values: np.ndarray,
    weights: np.ndarray | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    r"""Percentile interval of a mean over cases.

    The ends are the :math:`(1 \mp c) / 2` quantiles of the means of resamples (Efron and Tibshirani, *An introduction
    to the bootstrap*, 1993, chapter 13). With one case per user, cases are users. It covers the choice of users, not
    that of the model's seed.

    Args:
        values: (cases,) of a metric.
        weights: (cases,) of a weighted mean.
        confidence: share of resamples inside, in (0, 1).
        resamples: how many; 1,000 give the ends to about a twentieth of the width.
        seed: the same seed gives the same interval.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a share in (0, 1), such as 0.95.")
    means = bootstrap_means(values, weights, resamples, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(np.average(values, weights=weights)), float(low), float(high), confidence)


def intervals(
    result: EvaluationResult,
    metrics: Iterable[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of a result's metrics.

    Args:
        metrics: names such as `filtered/ndcg@10`; by default all accuracy metrics of the result.

    Raises:
        ValueError: if a metric has no value per case, or a user has several cases, which are then not independent.
    """
    one_case_per_user(result)
    if metrics is None:
        metrics = [name for name in result.metrics if name.split("/")[-1].split("@")[0] in RANK_METRICS]
    return {name: bootstrap_interval(result.values(name), None, confidence, resamples, seed) for name in metrics}


def one_case_per_user(result: EvaluationResult) -> None:
    """Raise a ValueError if a user has several cases: not independent, they would make the interval too narrow."""
    users, counts = np.unique(result.users, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{(counts > 1).sum()} users have several cases (the first: user index {users[counts > 1][0]}); the "
            "bootstrap draws users and expects one case each. Average each user's values, then call "
            "bootstrap_interval on them."
        )
