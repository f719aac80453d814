"""The propensity models by the names they have in recipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .exposure_factorisation import ExposureFactorisation
from .given import GivenPropensities
from .logistic import LogisticPropensity
from .naive_bayes import NaiveBayesPropensity
from .popularity_power_law import PopularityPowerLaw
from .propensity_model import PropensityModel

PROPENSITIES: dict[str, Callable[..., PropensityModel]] = {
    "popularity": PopularityPowerLaw,
    "logistic": LogisticPropensity,
    "naive-bayes": NaiveBayesPropensity,
    "factorisation": ExposureFactorisation,
    "given": GivenPropensities,
}


def make_propensity(name: str, **arguments: Any) -> PropensityModel:
    """A propensity model that is not fitted yet.

    Args:
        name: of `PROPENSITIES`.
        arguments: of its class.

    Raises:
        ValueError: if no propensity model has this name.
    """
    if name not in PROPENSITIES:
        raise ValueError(f"No propensity model is named {name!r}; there are {', '.join(PROPENSITIES)}.")
    return PROPENSITIES[name](**arguments)
