"""Paired comparison of two evaluations of the same users: is the difference more than chance?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .evaluation_result import EvaluationResult
from .intervals import CHUNK, bootstrap_interval, one_case_per_user


@dataclass(frozen=True)
class Comparison:
    """Outcome of a paired comparison of `a` and `b`.

    Attributes:
        metric: what was compared.
        a: mean of the first.
        b: mean of the second.
        difference: a minus b.
        low: lower end of the bootstrap interval of the difference.
        high: upper end.
        confidence: of the interval.
        p_value: two-sided, of the hypothesis that a and b are interchangeable.
        cases: number of pairs.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    confidence: float
    p_value: float
    cases: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every attribute by its name."""
        return asdict(self)


def compare(
    a: EvaluationResult,
    b: EvaluationResult,
    metric: str = "filtered/ndcg@10",
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two results on the same cases, user by user.

    Args:
        metric: one that has a value per case, see :meth:`EvaluationResult.values`.

    Raises:
        ValueError: if users or catalogs differ, or a user has several cases.
    """
    if a.num_items != b.num_items:
        raise ValueError(
            f"The first result ranked {a.num_items:,} items, the second {b.num_items:,}: ranks in different catalogs "
            "do not compare. Evaluate both on the same prepared data."
        )
    if not np.array_equal(a.users, b.users):
        common = len(np.intersect1d(a.users, b.users))
        raise ValueError(
            f"The users differ: {len(a.users):,} cases in the first result, {len(b.users):,} in the second, "
            f"{common:,} users in both, and the order counts. Evaluate both on the same evaluation set."
        )
    one_case_per_user(a)
    return compare_values(a.values(metric), b.values(metric), metric, confidence, resamples, seed)


def compare_values(
    a: np.ndarray,
    b: np.ndarray,
    metric: str = "metric",
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    r"""Compare two metrics case by case, also those of lists, such as diversity.

    The interval of the mean difference is the percentile bootstrap over cases. The p-value is that of Fisher's
    randomisation test, with signs of the differences flipped at random (Smucker, Allan and Carterette, *A comparison
    of statistical significance tests for information retrieval evaluation*, CIKM 2007):

    .. math:: p = \frac{1 + \lvert \{ r : \lvert \bar d_r \rvert \ge \lvert \bar d \rvert \} \rvert}{1 + R}

    Shape:
        - a, b: (cases,) finite, in the same order of cases
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"Values of shapes {a.shape} and {b.shape}: expected a pair for every case.")
    interval = bootstrap_interval(a - b, None, confidence, resamples, seed)
    return Comparison(
        metric=metric,
        a=float(a.mean()),
        b=float(b.mean()),
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        confidence=confidence,
        p_value=randomisation_p_value(a - b, resamples, seed),
        cases=len(a),
    )


def randomisation_p_value(differences: np.ndarray, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of Fisher's randomisation test, see :func:`compare_values`.

    Equal magnitudes are exchangeable: how many of them keep their sign is one binomial number. Memory: some 2^21
    numbers, or one resample if larger.

    Shape:
        - differences: (cases,) float
    """
    magnitudes, counts = np.unique(np.abs(differences), return_counts=True)
    observed = abs(float(np.sum(differences)))
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // len(magnitudes))
    tolerance = 1e-12 * float(magnitudes @ counts)
    extreme = 0
    for start in range(0, resamples, step):
        positive = generator.binomial(counts, 0.5, size=(min(step, resamples - start), len(counts)))
        sums = (2 * positive - counts) @ magnitudes
        extreme += int((np.abs(sums) >= observed - tolerance).sum())
    return (1 + extreme) / (1 + resamples)
