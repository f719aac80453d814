r"""Inverse propensity weights: every event counts as often as it was unlikely to be seen.

Training multiplies each event's loss by its weight; before any weight is computed, propensities are checked here.
"""

from __future__ import annotations

import numpy as np

NAMED_ROWS = 5
"""Bad rows that an error message names."""


def check_propensities(
    values: np.ndarray, users: np.ndarray | None = None, items: np.ndarray | None = None
) -> np.ndarray:
    """Propensities that can be divided by.

    Args:
        values: (n,) propensities.
        users: (n,) index of each row's user, for the message.
        items: (n,) index of each row's item, for the message.

    Returns:
        (n,) float64, the same numbers.

    Raises:
        ValueError: if there are none, or one is 0, negative, above 1, NaN or infinite; the message counts these rows
            and names the first.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"propensities of shape {values.shape}: expected one number per row and at least one row.")
    bad = np.flatnonzero(~((values > 0) & (values <= 1)))
    if not len(bad):
        return values
    roles = [(role, indices) for role, indices in (("user", users), ("item", items)) if indices is not None]
    names = [
        f"row {row}{''.join(f', {role} {indices[row]}' for role, indices in roles)}: {values[row]:g}"
        for row in bad[:NAMED_ROWS]
    ]
    more = f"; {len(bad) - NAMED_ROWS:,} more" if len(bad) > NAMED_ROWS else ""
    raise ValueError(
        f"{len(bad):,} of {len(values):,} propensities are not in (0, 1]: {'; '.join(names)}{more}. "
        "An event that was observed had a probability above 0. Leave these rows out, or give them the smallest "
        "propensity that you trust; divide relative propensities by the largest."
    )


def inverse_propensity_weights(propensities: np.ndarray, clip: float | None = None) -> np.ndarray:
    r"""Weights of events, with mean 1.

    .. math:: w_e = \frac{\min(1 / p_e, t)}{\frac{1}{n} \sum_f \min(1 / p_f, t)}

    Without `clip`, t is infinite: the inverse propensity weights of Schnabel et al., *Recommendations as treatments*,
    ICML 2016, self-normalised as by Swaminathan and Joachims, *The self-normalized estimator for counterfactual
    learning*, NeurIPS 2015. A common factor of all propensities does not matter.

    With `clip` c, t is the threshold at which the largest weight **of the result** is c: after clipping and after
    normalising, no event counts for more than c average events, however extreme its propensity was. Where no weight
    exceeds c, nothing is clipped.

    Args:
        propensities: (n,) of the events, in (0, 1].
        clip: largest weight in units of the mean weight, at least 1; at 1 all events weigh the same. `None`: no
            limit, unbiased, and of a variance that a single small propensity can make useless.

    Shape:
        - returns: (n,) float64 above 0, mean 1

    Raises:
        ValueError: from :func:`check_propensities`, or if `clip` is below 1.
    """
    weights = 1 / check_propensities(propensities)
    weights /= weights.mean()
    if clip is not None:
        weights = np.minimum(weights, clip_threshold(weights, clip))
        weights /= weights.mean()
    return weights


def clip_threshold(weights: np.ndarray, clip: float) -> float:
    r"""The threshold t with :math:`t = c \cdot \mathrm{mean}(\min(w, t))`; infinite if no weight exceeds c means.

    With the k largest weights at the threshold and S the sum of the others, :math:`t = c S / (n - c k)`; the k wanted
    is the smallest for which no other weight lies above t.

    Args:
        weights: (n,) above 0.
        clip: c, at least 1.

    Raises:
        ValueError: if `clip` is below 1.
    """
    if not clip >= 1:
        raise ValueError(
            f"clip is {clip}, expected at least 1: the largest of some weights is never below their mean. "
            "At 1 all events weigh the same; pass None for no limit."
        )
    n = len(weights)
    if clip == 1:
        return float(weights.min())
    descending = np.sort(weights)[::-1]
    at_threshold = np.arange(n)
    at_threshold = at_threshold[clip * at_threshold < n]  # n / c weights or more cannot each be c times the mean.
    others = np.cumsum(descending[::-1])[::-1][at_threshold]
    thresholds = clip * others / (n - clip * at_threshold)
    first = int(np.argmax(descending[at_threshold] <= thresholds * (1 + 1e-12)))
    return np.inf if first == 0 else float(thresholds[first])


def effective_sample_size(weights: np.ndarray) -> float:
    r"""Kish's effective sample size, :math:`(\sum w)^2 / \sum w^2`: n if all weights are alike, 1 if one has it all.

    That many events of equal weight have a mean of the same variance (*Survey sampling*, 1965).

    Shape:
        - weights: (n,), not all 0
    """
    weights = np.asarray(weights, dtype=np.float64)
    weights = weights / weights.max()  # Squares of extreme weights stay finite.
    return float(weights.sum() ** 2 / (weights @ weights))
