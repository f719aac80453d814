r"""Popularity-debiased accuracy: a metric as if every item were equally likely to be observed.

Logged targets over-represent popular items. Weighting each case by the inverse of its target's propensity to be
observed corrects for that, as far as the propensity model holds.
"""

from __future__ import annotations

import numpy as np


def propensity(item_counts: np.ndarray, power: float = 0.5) -> np.ndarray:
    r"""Relative chance of an item to be observed, by a power law of its popularity.

    .. math:: p_i = \left( \frac{\max(n_i, 1)}{\max_j n_j} \right)^{\eta}

    as in Saito et al., *Unbiased recommender learning from missing-not-at-random implicit feedback*, WSDM 2020, whose
    power of 0.5 is the default. A model, not a measurement: 0 turns debiasing off, and a higher power trusts rare
    targets more.

    Shape:
        - item_counts: (items,) train events of every item
        - returns: (items,) float64 in (0, 1]
    """
    counts = np.maximum(np.asarray(item_counts, dtype=np.float64), 1)
    return (counts / counts.max(initial=1)) ** power


def debiased_mean(values: np.ndarray, propensities: np.ndarray) -> float:
    r"""Self-normalised inverse-propensity mean.

    .. math:: \hat V = \frac{\sum_c v_c / p_c}{\sum_c 1 / p_c}

    the SNIPS estimator of Swaminathan and Joachims, *The self-normalized estimator for counterfactual learning*,
    NeurIPS 2015, applied to offline metrics by Yang et al., *Unbiased offline recommender evaluation for
    missing-not-at-random implicit feedback*, RecSys 2018. A common factor of all propensities does not matter.

    Shape:
        - values: (cases,) a metric
        - propensities: (cases,) of the targets, above 0
    """
    weights = 1 / np.asarray(propensities, dtype=np.float64)
    return float(np.asarray(values, dtype=np.float64) @ weights / weights.sum())
