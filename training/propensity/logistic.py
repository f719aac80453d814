r"""Propensity from features: a logistic regression of what was observed on who and what it was.

For logs where attributes of users and items, such as a group, a category or popularity, explain what was shown.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ..data.prepared import Interactions
from .propensity_model import PropensityModel, pair_counts

BLOCK = 2**22
"""Numbers of a feature matrix that `predict` holds at a time."""


class LogisticPropensity(PropensityModel):
    r"""Probability that a pair is observed at least once.

    .. math:: P(O_{ui} = 1) = \sigma(b + a^\top x_u + c^\top z_i + x_u^\top D z_i)

    fitted on all observed pairs against the others, with an L2 penalty on everything but b: the logistic regression
    propensities of Schnabel et al., *Recommendations as treatments: debiasing learning and evaluation*, ICML 2016.
    Features are standardised first.

    Of many unobserved pairs a uniform sample is enough. Pairs left out raise the odds of the others by the same
    factor, so that, with a share s of the unobserved pairs kept, :math:`b = b_\mathrm{fit} + \ln s` (King and Zeng,
    *Logistic regression in rare events data*, Political Analysis 9(2), 2001, prior correction).

    It learns what was observed. Where users choose what they like, a feature that tells taste enters as well.

    Args:
        user_features: (users, d_u) float; `None`: none.
        item_features: (items, d_i) float; `None`: none.
        crosses: add all products of a user feature and an item feature (D above).
        log_popularity: add the logarithm of the item's count of observed events as an item feature; an item without
            any counts 1.
        unobserved: most unobserved pairs that are sampled, at least 1; `None`: all of them. Fitting holds a float64
            for every feature of every pair.
        l2: weight λ of the penalty :math:`\lambda \lVert (a, c, D) \rVert^2 / 2` beside the summed log loss, above 0.
        seed: of the sample.

    Raises:
        ValueError: if there is no feature or an argument is outside its range; from `fit`, if features do not match
            the data or all pairs are observed.
    """

    def __init__(
        self,
        user_features: np.ndarray | None = None,
        item_features: np.ndarray | None = None,
        *,
        crosses: bool = False,
        log_popularity: bool = False,
        unobserved: int | None = 200_000,
        l2: float = 1.0,
        seed: int = 0,
    ) -> None:
        if user_features is None and item_features is None and not log_popularity:
            raise ValueError("LogisticPropensity got no feature; pass user_features, item_features or log_popularity.")
        if unobserved is not None and unobserved < 1:
            raise ValueError(f"unobserved is {unobserved}, expected at least 1 pair, or None for all.")
        if not l2 > 0:
            raise ValueError(f"l2 is {l2}, expected a number above 0.")
        self.user_features = user_features
        self.item_features = item_features
        self.crosses = crosses
        self.log_popularity = log_popularity
        self.unobserved = unobserved
        self.l2 = l2
        self.seed = seed

    def _fit(self, interactions: Interactions) -> None:
        counts = interactions.item_counts()
        popularity = np.log(np.maximum(counts, 1))[:, None] if self.log_popularity else None
        self._users = _standardised("user_features", interactions.num_users, self.user_features)
        self._items = np.hstack(
            [
                _standardised("item_features", interactions.num_items, self.item_features),
                _standardised("log_popularity", interactions.num_items, popularity),
            ]
        )
        observed, _ = pair_counts(interactions)
        pairs = interactions.num_users * interactions.num_items
        missing = pairs - len(observed)
        if not len(observed) or not missing:
            raise ValueError(
                f"{len(observed):,} of {pairs:,} pairs are observed: a logistic regression needs both kinds of pairs."
            )
        kept = missing if self.unobserved is None else min(self.unobserved, missing)
        others = _unobserved_pairs(observed, missing, kept, np.random.default_rng(self.seed))
        users, items = np.divmod(np.concatenate([observed, others]), interactions.num_items)
        labels = np.repeat([1, 0], [len(observed), len(others)])
        regression = LogisticRegression(C=1 / self.l2, max_iter=1_000, tol=1e-6)
        regression.fit(self._features(users, items), labels)
        self.weights = regression.coef_[0]
        self.intercept = float(regression.intercept_[0] + np.log(kept / missing))

    def _predict(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray | None) -> np.ndarray:
        logits = np.empty(len(users))
        step = max(1, BLOCK // len(self.weights))
        for start in range(0, len(users), step):
            rows = slice(start, start + step)
            logits[rows] = self._features(users[rows], items[rows]) @ self.weights
        return expit(logits + self.intercept)

    def _features(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(pairs, features) float64: the user's, the item's, then their products."""
        of_users, of_items = self._users[users], self._items[items]
        parts = [of_users, of_items]
        if self.crosses:
            parts.append((of_users[:, :, None] * of_items[:, None, :]).reshape(len(users), -1))
        return np.hstack(parts)


def _standardised(name: str, rows: int, features: np.ndarray | None) -> np.ndarray:
    """(rows, d) float64 with mean 0 and, where it varies, standard deviation 1; d is 0 without features."""
    if features is None:
        return np.empty((rows, 0))
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) != rows or not np.isfinite(features).all():
        raise ValueError(
            f"{name} has shape {features.shape}{'' if np.isfinite(features).all() else ' and gaps'}, expected finite "
            f"numbers of shape ({rows}, d), a row per index of the data. Fill gaps, with the mean for example."
        )
    deviation = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def _unobserved_pairs(observed: np.ndarray, missing: int, kept: int, generator: np.random.Generator) -> np.ndarray:
    """(kept,) int64 codes of unobserved pairs, uniformly without replacement.

    Args:
        observed: (pairs,) codes, ascending and distinct.
        missing: number of codes that are not observed.
    """
    ranks = np.arange(missing) if kept == missing else generator.choice(missing, size=kept, replace=False)
    # The r-th unobserved code is r plus the observed codes before it, of which there are the k-th if its code minus k
    # is at most r.
    return ranks + np.searchsorted(observed - np.arange(len(observed)), ranks, side="right")
