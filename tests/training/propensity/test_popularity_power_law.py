"""Popularity propensities: a known exponent comes back, and the formula holds by hand."""

import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.propensity.popularity_power_law import (
    PopularityPowerLaw,
    closest_power_law,
    fit_power_law,
    presentation_exponent,
)
from scipy.special import zeta
from scipy.stats import zipf


def interactions_with(counts):
    """One user with that many events of each item."""
    items = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return Interactions(np.array([0, len(items)]), items, len(counts))


@pytest.mark.parametrize("exponent", [1.6, 2.2, 3.0])
def test_a_known_exponent_comes_back(exponent):
    counts = zipf.rvs(exponent, size=20_000, random_state=0)
    law = fit_power_law(counts)
    # The asymptotic standard error of the estimate, from the curvature of the likelihood.
    step = 1e-4
    curvature = np.log(zeta(exponent + step)) - 2 * np.log(zeta(exponent)) + np.log(zeta(exponent - step))
    assert law.exponent == pytest.approx(exponent, abs=3 * step / np.sqrt(curvature * len(counts)))
    assert law.least_count == 1


def test_counts_cut_off_below_are_fitted_from_the_smallest_that_is_left():
    counts = zipf.rvs(2.5, size=100_000, random_state=1)
    law = fit_power_law(counts[counts >= 5])
    assert law.least_count == 5
    assert law.exponent == pytest.approx(2.5, abs=0.05)


def test_the_closest_law_leaves_out_counts_that_follow_none():
    counts = zipf.rvs(2.4, size=400_000, random_state=2)
    counts = np.concatenate([counts[counts >= 12], np.random.default_rng(0).integers(1, 12, 8_000)])
    law = closest_power_law(counts)
    assert law.least_count == pytest.approx(12, abs=2)
    assert law.exponent == pytest.approx(2.4, abs=0.1)
    assert law.distance < fit_power_law(counts).distance


def test_the_power_is_half_of_the_exponent_and_one():
    counts = zipf.rvs(2.0, size=500, random_state=3)
    model = PopularityPowerLaw().fit(interactions_with(counts))
    assert model.used_power == (model.law.exponent + 1) / 2
    found = model.predict(np.zeros(500, int), np.arange(500))
    assert found == pytest.approx((counts / counts.max()) ** model.used_power)


def test_a_given_exponent_or_power_is_used_and_an_item_without_events_counts_as_one():
    log = interactions_with([4, 0, 1, 2])
    users, items = np.zeros(4, int), np.arange(4)
    assert PopularityPowerLaw(power=0.5).fit(log).predict(users, items) == pytest.approx([1, 0.5, 0.5, 0.5**0.5])
    assert PopularityPowerLaw(exponent=3).fit(log).predict(users, items) == pytest.approx([1, 1 / 16, 1 / 16, 1 / 4])
    assert PopularityPowerLaw(power=0).fit(log).predict(users, items).tolist() == [1, 1, 1, 1]


def test_the_presentation_exponent_is_the_slope_of_what_was_shown():
    counts = np.array([1, 1, 4, 16, 16, 0])
    shown = 3 * counts**1.5 * np.array([0.5, 1.5, 1, 0.8, 1.2, 1])  # Right on average at every level.
    assert presentation_exponent(counts, shown) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"power": 1, "exponent": 2}, "expected one of them"),
        ({"power": -1}, "power is -1, expected at least 0"),
        ({"exponent": -2}, "exponent is -2"),
        ({"least_count": 0}, "least_count is 0, expected at least 1"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PopularityPowerLaw(**arguments)


def test_counts_that_are_all_equal_tell_no_exponent():
    with pytest.raises(ValueError, match=r"3 items have at least 1 events, with 1 different counts.*fixed power"):
        PopularityPowerLaw().fit(interactions_with([5, 5, 5]))
