r"""Propensity from popularity: what was observed often was easy to observe, by a power of the count.

The cheapest model, for logs that say nothing about exposure; it needs no features and no random sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import zeta

from ..data.prepared import Interactions
from ..evaluation.propensity import propensity
from .propensity_model import PropensityModel

LARGEST_EXPONENT = 30.0
"""Upper end of the search for η; a law this steep has nearly all items at the smallest count."""
TAIL = 50
"""Items that a tail must hold to be a candidate for the range of the law."""
CANDIDATES = 200
"""Most values of the smallest count that are tried."""


@dataclass(frozen=True)
class PowerLaw:
    """A discrete power law of item counts, see :func:`fit_power_law`.

    Attributes:
        exponent: η, above 1.
        least_count: smallest count from which the law holds.
        items: number of items with at least that count.
        distance: largest difference of the cumulative distributions of data and law (Kolmogorov-Smirnov).
    """

    exponent: float
    least_count: int
    items: int
    distance: float


class PopularityPowerLaw(PropensityModel):
    r"""Relative propensity by a power of the item's count of observed events.

    .. math:: p_i = \left( \frac{\max(n_i, 1)}{\max_j n_j} \right)^{(\eta + 1) / 2}

    the popularity propensity of Yang et al., *Unbiased offline recommender evaluation for missing-not-at-random
    implicit feedback*, RecSys 2018. Their argument: an item is observed if it is presented, with a probability that
    grows like :math:`n_i^\eta`, and if the user then takes it, in proportion to its true popularity
    :math:`n_i / p_i`; so :math:`p_i \propto n_i^\eta n_i / p_i`, hence the power.

    Which η: theirs is the exponent of *presentation*, the slope at which a recommender shows items more often the
    more popular they are, fitted on the lists that recommenders produce; where impressions are logged, pass
    `exponent=presentation_exponent(…)`. Without impressions η is, by default here, the exponent of the *distribution*
    of the counts of all items, :math:`P(n) \propto n^{-\eta}`, by maximum likelihood (:func:`fit_power_law`). That is
    another quantity and only stands in for theirs. It is always above 1, so the power is too: weights differ more
    than with `power=0.5`, the choice of Saito et al., WSDM 2020, which is also closer to the truth of the built-in
    world. Compare several powers on data that can tell.

    Items without an observed event get the propensity of items with one. Users all have the same.

    Args:
        power: use this power of the count, and no η; at least 0, where 0 makes all items alike.
        exponent: use this η; at least -1.
        least_count: smallest count from which η is fitted; `None`: the smallest that occurs, so that all items count.
            Where preparation dropped items with few events, pass its limit: a single item below it lowers η much
            (Amazon Beauty, 5-core: 2.1 from 5 on, 1.3 from 1 on).

    Attributes:
        law: the fitted law; `None` if `power` or `exponent` was given.
        used_power: power of the count that `predict` goes by.

    Raises:
        ValueError: if an argument is outside its range, or, from `fit`, if the counts do not tell an exponent.
    """

    relative = True

    def __init__(
        self, power: float | None = None, exponent: float | None = None, least_count: int | None = None
    ) -> None:
        if power is not None and exponent is not None:
            raise ValueError(f"power={power} and exponent={exponent}: expected one of them, or none to fit η.")
        if power is not None and not power >= 0:
            raise ValueError(f"power is {power}, expected at least 0.")
        if exponent is not None and not exponent >= -1:
            raise ValueError(f"exponent is {exponent}, expected at least -1, where all items become alike.")
        if least_count is not None and least_count < 1:
            raise ValueError(f"least_count is {least_count}, expected at least 1.")
        self.power = power
        self.exponent = exponent
        self.least_count = least_count
        self.law: PowerLaw | None = None

    def _fit(self, interactions: Interactions) -> None:
        counts = interactions.item_counts()
        if self.power is not None:
            self.used_power = float(self.power)
        else:
            exponent = self.exponent
            if exponent is None:
                self.law = fit_power_law(counts, self.least_count)
                exponent = self.law.exponent
            self.used_power = (exponent + 1) / 2
        self.item_propensities = propensity(counts, self.used_power)

    def _predict(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray | None) -> np.ndarray:
        return self.item_propensities[items]


def fit_power_law(counts: np.ndarray, least_count: int | None = None) -> PowerLaw:
    r"""Maximum likelihood fit of a discrete power law to the counts from `least_count` on.

    .. math:: P(n) = \frac{n^{-\eta}}{\zeta(\eta, n_0)}, \; n \ge n_0, \quad
        \hat\eta = \arg\max_\eta \Bigl( -\eta \sum_i \ln n_i - N \ln \zeta(\eta, n_0) \Bigr)

    with the Hurwitz zeta function: section 3.1 of Clauset, Shalizi and Newman, *Power-law distributions in empirical
    data*, SIAM Review 51(4), 2009.

    Args:
        counts: (items,) events per item; items without any are left out.
        least_count: :math:`n_0`, at least 1; `None`: the smallest count that occurs.

    Raises:
        ValueError: if all counts from `least_count` on are equal, or there is none.
    """
    values, items = _levels(counts, least_count or 1)
    return _fit_tail(values, items, int(values[0]) if least_count is None else least_count)


def closest_power_law(counts: np.ndarray) -> PowerLaw:
    """The fit whose range of counts follows a power law most closely.

    That with the smallest Kolmogorov-Smirnov distance over all smallest counts that leave 50 items (Clauset et al.,
    section 3.3). Few catalogs follow the law in whole; their tail of popular items, which this finds, is far steeper:
    an exponent of 3.7 against 1.2 on MovieLens-1M.

    Args:
        counts: (items,) events per item; items without any are left out.

    Raises:
        ValueError: as :func:`fit_power_law`.
    """
    values, items = _levels(counts, 1)
    starts = np.flatnonzero(items[::-1].cumsum()[::-1] >= TAIL)
    starts = starts[starts < len(values) - 1]
    if not len(starts):
        return _fit_tail(values, items, int(values[0]))
    # Small counts are where candidates differ most: all of them are tried, large ones ever more sparsely.
    tried = np.unique(np.geomspace(1, len(starts), CANDIDATES).astype(np.int64)) - 1
    fits = [_fit_tail(values[start:], items[start:], int(values[start])) for start in starts[tried]]
    return min(fits, key=lambda fit: fit.distance)


def _levels(counts: np.ndarray, least_count: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct counts from `least_count` on, ascending, and how many items have each; at least two counts."""
    counts = np.asarray(counts)
    values, items = np.unique(counts[counts >= least_count], return_counts=True)
    if len(values) < 2:
        raise ValueError(
            f"{items.sum()} items have at least {least_count} events, with {len(values)} different counts; a power "
            "law needs two. Pass a smaller least_count, or a fixed power."
        )
    return values, items


def _fit_tail(values: np.ndarray, items: np.ndarray, least_count: int) -> PowerLaw:
    """Fit to counts of at least `least_count`: distinct values, ascending, and how many items have each."""
    total = int(items.sum())
    mean_log = float(items @ np.log(values)) / total
    found = minimize_scalar(
        lambda exponent: exponent * mean_log + np.log(zeta(exponent, least_count)),
        bounds=(1 + 1e-6, LARGEST_EXPONENT),
        method="bounded",
        options={"xatol": 1e-7},
    )
    exponent = float(found.x)
    modelled = 1 - zeta(exponent, values + 1.0) / zeta(exponent, least_count)
    distance = float(np.abs(items.cumsum() / total - modelled).max())
    return PowerLaw(exponent=exponent, least_count=least_count, items=total, distance=distance)


def presentation_exponent(item_counts: np.ndarray, shown_counts: np.ndarray) -> float:
    r"""The exponent η of Yang et al.: how much more often the more popular items are shown.

    The least-squares slope of :math:`\log f(n)` against :math:`\log n`, where f(n) is the mean number of times that
    items with n observed events were shown, over all n at which something was shown.

    Args:
        item_counts: (items,) observed events of every item.
        shown_counts: (items,) impressions of every item, logged or counted in a recommender's lists.

    Raises:
        ValueError: if fewer than two levels of popularity were shown.
    """
    item_counts, shown_counts = np.asarray(item_counts), np.asarray(shown_counts, dtype=np.float64)
    if item_counts.shape != shown_counts.shape:
        raise ValueError(
            f"item_counts of shape {item_counts.shape}, shown_counts {shown_counts.shape}: expected one per item."
        )
    levels, place, sizes = np.unique(item_counts, return_inverse=True, return_counts=True)
    shown = np.bincount(place, shown_counts) / sizes
    known = (levels > 0) & (shown > 0)
    if known.sum() < 2:
        raise ValueError(f"{known.sum()} levels of popularity were shown, a slope needs two. Pass a fixed power.")
    slope, _ = np.polyfit(np.log(levels[known]), np.log(shown[known]), 1)
    return float(slope)
