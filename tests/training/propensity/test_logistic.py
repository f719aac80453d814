"""Logistic propensities: known coefficients come back, from all pairs and from a sample of them."""

import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.propensity.logistic import LogisticPropensity, _unobserved_pairs
from scipy.special import expit


def observed(matrix):
    users, items = np.nonzero(matrix)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(matrix)))])
    return Interactions(offsets, items.astype(np.int32), matrix.shape[1])


@pytest.fixture(scope="module")
def world():
    """Features, the true propensity of 400 users and 300 items, and what was observed under it."""
    generator = np.random.default_rng(0)
    users, items = generator.normal(size=(400, 2)), generator.normal(size=(300, 1)) + 2
    truth = expit(-3 + 0.7 * users[:, :1] + 0.5 * items.T + 0.6 * users[:, 1:] * items.T)
    return users, items, truth, observed(generator.random(truth.shape) < truth)


def every_pair(truth):
    users, items = np.indices(truth.shape)
    return users.ravel(), items.ravel()


@pytest.mark.parametrize("unobserved", [None, 15_000])
def test_known_propensities_come_back_from_all_pairs_and_from_a_sample(world, unobserved):
    users, items, truth, log = world
    model = LogisticPropensity(users, items, crosses=True, unobserved=unobserved).fit(log)
    found = model.predict(*every_pair(truth))
    assert np.abs(found / truth.ravel() - 1).mean() < 0.05
    assert found.mean() == pytest.approx(truth.mean(), rel=0.02)


def test_without_crosses_the_interaction_of_user_and_item_is_missed(world):
    users, items, truth, log = world
    found = LogisticPropensity(users, items).fit(log).predict(*every_pair(truth))
    assert np.abs(found / truth.ravel() - 1).mean() > 0.1


def test_popularity_alone_ranks_items_by_their_count(world):
    log = world[3]
    found = LogisticPropensity(log_popularity=True).fit(log).predict(np.zeros(300, int), np.arange(300))
    counts = log.item_counts()
    assert (np.diff(found[np.argsort(counts, kind="stable")]) >= -1e-12).all()
    assert found.mean() == pytest.approx(counts.sum() / (400 * 300), rel=0.02)


def test_the_scale_of_a_feature_does_not_matter(world):
    users, items, truth, log = world
    pairs = every_pair(truth)
    plain = LogisticPropensity(users, items, l2=100.0, unobserved=5_000).fit(log).predict(*pairs)
    scaled = LogisticPropensity(1000 * users + 5, items / 1000, l2=100.0, unobserved=5_000).fit(log).predict(*pairs)
    np.testing.assert_allclose(scaled, plain, rtol=1e-3)


def test_sampled_pairs_are_distinct_uniform_and_never_observed():
    taken = np.array([0, 1, 4, 8, 9, 17])
    free = np.setdiff1d(np.arange(20), taken)
    generator = np.random.default_rng(0)
    assert _unobserved_pairs(taken, 14, 14, generator).tolist() == free.tolist()
    draws = np.array([_unobserved_pairs(taken, 14, 5, generator) for _ in range(4_000)])
    assert all(len(set(draw)) == 5 for draw in draws)
    shown = np.bincount(draws.ravel(), minlength=20)
    assert set(np.flatnonzero(shown)) == set(free)
    expected = 4_000 * 5 / 14
    assert np.abs(shown[free] - expected).max() < 4.5 * np.sqrt(expected * (1 - 5 / 14))


def test_features_that_do_not_fit_the_data_are_refused(world):
    users, items, _, log = world
    with pytest.raises(ValueError, match=r"item_features has shape \(299, 1\), expected finite numbers .* \(300, d\)"):
        LogisticPropensity(users, items[1:]).fit(log)
    with pytest.raises(ValueError, match="and gaps"):
        LogisticPropensity(np.where(users > 2, np.nan, users)).fit(log)
    with pytest.raises(ValueError, match="no feature"):
        LogisticPropensity()
    with pytest.raises(ValueError, match="both kinds of pairs"):
        LogisticPropensity(np.ones((2, 1))).fit(observed(np.ones((2, 3), bool)))
