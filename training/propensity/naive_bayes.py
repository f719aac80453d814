r"""Propensity from the rating: how much more often an opinion is given than it is held.

For explicit ratings that people chose to give, where a small sample of randomly assigned ratings tells what they would
have given elsewhere.
"""

from __future__ import annotations

import numpy as np

from ..data.prepared import Interactions
from .propensity_model import PropensityModel, pair_counts


class NaiveBayesPropensity(PropensityModel):
    r"""Probability that a pair is observed, given its rating.

    .. math:: P(O = 1 \mid Y = r) = \frac{P(Y = r \mid O = 1) \, P(O = 1)}{P(Y = r)}

    the Naive Bayes propensities of Schnabel et al., *Recommendations as treatments: debiasing learning and
    evaluation*, ICML 2016. :math:`P(Y = r \mid O = 1)` is the share of rating r among observed ratings, P(O = 1) the
    share of pairs that are observed, and P(Y = r) the share of rating r in a sample of uniformly random pairs, with
    `smoothing` added to the count of every rating value in that sample. Estimates above 1 become 1.

    Args:
        random_ratings: (n,) ratings of randomly chosen pairs; never those that the recommender is tested on.
        smoothing: pseudo-count of every rating value in the random sample, at least 0.

    Attributes:
        levels: (values,) rating values, ascending.
        level_propensities: (values,) propensity of each.
        observed_share: P(O = 1), the propensity where the rating is unknown (NaN).

    Raises:
        ValueError: if an argument is outside its range; from `fit`, if there are no ratings, or the sample lacks an
            observed rating value and `smoothing` is 0; from `predict`, without ratings or with an unknown value.
    """

    def __init__(self, random_ratings: np.ndarray, smoothing: float = 1.0) -> None:
        self.random_ratings = np.asarray(random_ratings, dtype=np.float64)
        if self.random_ratings.ndim != 1 or not len(self.random_ratings) or np.isnan(self.random_ratings).any():
            raise ValueError(
                f"random_ratings has shape {self.random_ratings.shape}, expected at least one rating and no NaN. "
                "They are ratings of randomly chosen pairs; without such a sample use another propensity model."
            )
        if not smoothing >= 0:
            raise ValueError(f"smoothing is {smoothing}, expected at least 0.")
        self.smoothing = smoothing

    def _fit(self, interactions: Interactions) -> None:
        if interactions.ratings is None or np.isnan(interactions.ratings).all():
            raise ValueError(
                "NaiveBayesPropensity needs observed ratings, and these interactions have none. "
                "Use another propensity model."
            )
        known = interactions.ratings[~np.isnan(interactions.ratings)].astype(np.float64)
        self.levels = np.union1d(known, self.random_ratings)
        observed = np.bincount(np.searchsorted(self.levels, known), minlength=len(self.levels))
        sampled = np.bincount(np.searchsorted(self.levels, self.random_ratings), minlength=len(self.levels))
        lacking = self.levels[(sampled == 0) & (observed > 0)]
        if self.smoothing == 0 and len(lacking):
            raise ValueError(
                f"No random rating is {', '.join(f'{level:g}' for level in lacking)}, yet some observed ratings are: "
                "their propensity would be infinite. Pass smoothing=1, or a larger random sample."
            )
        pairs, _ = pair_counts(interactions)
        self.observed_share = len(pairs) / (interactions.num_users * interactions.num_items)
        smoothed = sampled + self.smoothing
        ratios = (observed / observed.sum()) / (smoothed / smoothed.sum())
        self.level_propensities = np.minimum(ratios * self.observed_share, 1)

    def _predict(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray | None) -> np.ndarray:
        if ratings is None:
            raise ValueError(
                "NaiveBayesPropensity.predict needs the ratings of the pairs: pass predict(users, items, ratings)."
            )
        known = ~np.isnan(ratings)
        place = np.minimum(np.searchsorted(self.levels, ratings[known]), len(self.levels) - 1)
        strange = ratings[known][self.levels[place] != ratings[known]]
        if len(strange):
            raise ValueError(
                f"{len(strange):,} ratings were neither observed nor sampled, the first is {strange[0]:g}; expected "
                f"one of {', '.join(f'{level:g}' for level in self.levels)}. Fit it on data that has them."
            )
        found = np.full(len(ratings), self.observed_share)
        found[known] = self.level_propensities[place]
        return found
