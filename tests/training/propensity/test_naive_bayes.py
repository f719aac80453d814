"""Naive Bayes propensities: the formula by hand, and known propensities of ratings recovered."""

import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.propensity.naive_bayes import NaiveBayesPropensity


@pytest.fixture
def log():
    """Two users and five items, four pairs observed: ratings 5, 5, 5 and 1."""
    ratings = np.array([5, 5, 5, 1], dtype=np.float32)
    return Interactions(np.array([0, 3, 4]), np.array([0, 1, 2, 4], dtype=np.int32), 5, ratings)


def predict(model, *ratings):
    place = np.zeros(len(ratings), int)
    return model.predict(place, place, np.array(ratings, dtype=float))


def test_the_formula_by_hand(log):
    # P(5 | O) = 3/4, P(1 | O) = 1/4, P(O) = 4/10; in the random sample P(5) = 0.5, P(1) = 0.25, P(3) = 0.25.
    model = NaiveBayesPropensity([5, 5, 3, 1], smoothing=0).fit(log)
    assert predict(model, 5, 1) == pytest.approx([0.75 * 0.4 / 0.5, 0.25 * 0.4 / 0.25])
    assert model.levels.tolist() == [1, 3, 5]


def test_smoothing_adds_to_every_level_of_the_random_sample(log):
    # With 1 added each: P(5) = 3/7, P(1) = 2/7.
    model = NaiveBayesPropensity([5, 5, 3, 1], smoothing=1).fit(log)
    assert predict(model, 5, 1) == pytest.approx([0.75 * 0.4 * 7 / 3, 0.25 * 0.4 * 7 / 2])


def test_a_pair_whose_rating_is_unknown_gets_the_observed_share(log):
    log.ratings[1] = np.nan
    model = NaiveBayesPropensity([5, 1], smoothing=0).fit(log)
    assert predict(model, np.nan, 1) == pytest.approx([0.4, (1 / 3) * 0.4 / 0.5])


def test_a_pair_that_was_rated_twice_is_one_observed_pair():
    twice = Interactions(np.array([0, 2]), np.array([1, 1], dtype=np.int32), 4, np.array([2, 2], dtype=np.float32))
    assert NaiveBayesPropensity([2, 2]).fit(twice).observed_share == 0.25


def test_known_propensities_of_ratings_come_back():
    generator = np.random.default_rng(0)
    truth = np.array([0.02, 0.02, 0.05, 0.15, 0.4])
    ratings = generator.choice(5, size=(500, 400), p=[0.3, 0.25, 0.2, 0.15, 0.1])
    seen = generator.random(ratings.shape) < truth[ratings]
    items = np.nonzero(seen)[1]
    offsets = np.concatenate([[0], np.cumsum(seen.sum(axis=1))])
    log = Interactions(offsets, items.astype(np.int32), 400, ratings[seen].astype(np.float32))
    model = NaiveBayesPropensity(generator.choice(ratings.ravel(), 4_000)).fit(log)
    assert predict(model, 0, 1, 2, 3, 4) == pytest.approx(truth, rel=0.15)


def test_an_estimate_above_one_becomes_one():
    full = Interactions(np.array([0, 2]), np.array([0, 1], dtype=np.int32), 2, np.array([5, 5], dtype=np.float32))
    assert predict(NaiveBayesPropensity([1, 1, 5]).fit(full), 5).tolist() == [1]


def test_what_cannot_be_estimated_is_refused(log):
    with pytest.raises(ValueError, match=r"No random rating is 5, .*smoothing=1"):
        NaiveBayesPropensity([1, 1], smoothing=0).fit(log)
    with pytest.raises(ValueError, match="have none"):
        NaiveBayesPropensity([1, 5]).fit(Interactions(log.offsets, log.items, 5))
    model = NaiveBayesPropensity([1, 5]).fit(log)
    with pytest.raises(ValueError, match="needs the ratings of the pairs"):
        model.predict(np.array([0]), np.array([0]))
    with pytest.raises(ValueError, match=r"1 ratings were neither observed nor sampled, the first is 4\.5; .* 1, 5"):
        predict(model, 5, 4.5)
    with pytest.raises(ValueError, match="no NaN"):
        NaiveBayesPropensity([1, np.nan])
