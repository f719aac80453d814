"""Poisson factorisation of exposures: known rates of a low-rank world come back."""

import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.propensity.exposure_factorisation import ExposureFactorisation


def exposures_of(counts):
    """Interactions with that many events of each pair."""
    users, items = np.nonzero(counts)
    repeats = counts[users, items]
    offsets = np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    return Interactions(offsets, np.repeat(items, repeats).astype(np.int32), counts.shape[1])


@pytest.fixture(scope="module")
def low_rank():
    """Rates of 200 users and 150 items by three patterns, and two independent draws of counts."""
    generator = np.random.default_rng(0)
    rates = generator.gamma(0.5, 1, (200, 3)) @ generator.gamma(0.5, 1, (3, 150)) + 1e-3
    return rates, generator.poisson(rates), generator.poisson(rates)


@pytest.fixture(scope="module")
def model(low_rank):
    return ExposureFactorisation(factors=3).fit(exposures_of(low_rank[1]))


def test_known_rates_come_back(low_rank, model):
    rates = low_rank[0]
    users, items = (axis.ravel() for axis in np.indices(rates.shape))
    found = model.rates(users, items)
    assert np.corrcoef(found, rates.ravel())[0, 1] > 0.98
    frequent = rates.ravel() > 0.5
    assert np.median(np.abs(found / rates.ravel() - 1)[frequent]) < 0.15


def test_maximum_likelihood_keeps_the_number_of_exposures(low_rank, model):
    total = model.user_factors.sum(axis=0) @ model.item_factors.sum(axis=0)
    assert total == pytest.approx(low_rank[1].sum(), rel=1e-6)


def test_the_propensity_is_that_of_at_least_one_exposure(low_rank, model):
    rates = low_rank[0]
    users, items = (axis.ravel() for axis in np.indices(rates.shape))
    found = model.predict(users, items)
    np.testing.assert_allclose(found, np.maximum(1 - np.exp(-model.rates(users, items)), 1e-3))
    assert found.mean() == pytest.approx((low_rank[2] > 0).mean(), rel=0.03)


def test_no_propensity_lies_below_the_floor():
    counts = np.zeros((6, 5), int)
    counts[:3, :2], counts[3:, 2:4] = 4, 3
    model = ExposureFactorisation(factors=2, floor=0.01).fit(exposures_of(counts))
    found = model.predict(np.array([0, 0, 5]), np.array([0, 4, 1]))
    assert found == pytest.approx([1 - np.exp(-4), 0.01, 0.01], rel=0.05)


def test_the_right_number_of_factors_explains_other_events_best(low_rank):
    train, other = exposures_of(low_rank[1]), exposures_of(low_rank[2])
    found = {k: ExposureFactorisation(factors=k).fit(train).log_likelihood(other) for k in (1, 3, 12)}
    assert max(found, key=found.get) == 3


def test_more_factors_than_the_matrix_has_sides_are_refused():
    with pytest.raises(ValueError, match="factors is 4, expected at most 3 for 3 users and 9 items"):
        ExposureFactorisation(factors=4).fit(exposures_of(np.ones((3, 9), int)))
    with pytest.raises(ValueError, match="floor is 0"):
        ExposureFactorisation(floor=0)
