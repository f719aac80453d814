"""Matrix factorisation of ratings: what it learns, what propensities change, what it refuses."""

import numpy as np
import pytest
from llm4rec.training.baselines.matrix_factorisation import MatrixFactorisation
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.propensity.given import GivenPropensities
from sklearn.exceptions import NotFittedError

USERS, ITEMS = 30, 20


@pytest.fixture(scope="module")
def world():
    """Ratings of rank one plus biases; half of the pairs are observed."""
    generator = np.random.default_rng(0)
    full = 3 + generator.normal(size=(USERS, 1)) + generator.normal(size=ITEMS)
    full = full + generator.choice([-1, 1], (USERS, 1)) * generator.choice([-1, 1], ITEMS)
    return full, generator.random((USERS, ITEMS)) < 0.6


def log_of(full, seen):
    users, items = np.nonzero(seen)
    offsets = np.concatenate([[0], np.cumsum(seen.sum(1))])
    return Interactions(offsets, items.astype(np.int32), ITEMS, full[users, items].astype(np.float32))


def given(train, values):
    users = np.repeat(np.arange(train.num_users), train.lengths)
    return GivenPropensities(users, train.items, np.broadcast_to(values, users.shape)).fit(train)


@pytest.mark.parametrize("weighting", ["none", "ips", "doubly_robust"])
def test_unseen_ratings_of_a_simple_world_are_found(world, weighting):
    full, seen = world
    train = log_of(full, seen)
    model = MatrixFactorisation(weighting, width=2, l2=0.1, l2_bias=0.01, steps=200, learning_rate=0.1)
    model.fit(train, None if weighting == "none" else given(train, 0.6))
    users, items = np.nonzero(~seen)
    error = model.predict(users, items) - full[users, items]
    assert np.sqrt((error**2).mean()) < 0.35 * full.std()


def test_equal_propensities_give_the_plain_model(world):
    train = log_of(*world)
    users, items = np.nonzero(~world[1])
    plain = MatrixFactorisation(steps=50).fit(train).predict(users, items)
    weighted = MatrixFactorisation("ips", steps=50).fit(train, given(train, 0.3)).predict(users, items)
    np.testing.assert_allclose(weighted, plain, rtol=1e-4)


def test_inverse_propensities_bring_back_the_mean_of_a_biased_log():
    """Every item is rated 1 or 5 by half of the users each, but the fives are seen four times as often."""
    generator = np.random.default_rng(0)
    full = generator.choice([1.0, 5.0], (150, ITEMS))
    chances = np.where(full == 5, 0.8, 0.2)
    seen = generator.random(full.shape) < chances
    train = log_of(full, seen)
    options = {"width": 1, "l2": 100.0, "l2_bias": 100.0, "steps": 80, "learning_rate": 0.1}
    users, items = np.nonzero(np.ones_like(seen))
    plain = MatrixFactorisation(**options).fit(train).predict(users, items).mean()
    for weighting in ("ips", "doubly_robust"):
        model = MatrixFactorisation(weighting, **options).fit(train, given(train, chances[seen]))
        assert abs(model.predict(users, items).mean() - 3) < 0.2 < plain - 3


def test_a_seed_fixes_the_result(world):
    train = log_of(*world)
    pairs = np.nonzero(~world[1])
    first, again, other = (MatrixFactorisation(steps=20, seed=seed).fit(train).predict(*pairs) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_unknown_ratings_are_left_out(world):
    train = log_of(*world)
    users = np.repeat(np.arange(USERS), train.lengths)
    blank = np.arange(len(users)) % 5 == 0
    partly = Interactions(train.offsets, train.items, ITEMS, np.where(blank, np.nan, train.ratings).astype(np.float32))
    pairs = np.nonzero(~world[1])
    np.testing.assert_array_equal(
        MatrixFactorisation(steps=20).fit(partly).predict(*pairs),
        MatrixFactorisation(steps=20).fit(train.keep(~blank)).predict(*pairs),
    )


def test_what_does_not_fit_is_refused(world):
    train = log_of(*world)
    with pytest.raises(NotFittedError, match="Call fit"):
        MatrixFactorisation().predict(np.array([0]), np.array([0]))
    with pytest.raises(ValueError, match="'ips' and a propensity model was not given"):
        MatrixFactorisation("ips").fit(train)
    with pytest.raises(ValueError, match="expected none, ips or doubly_robust"):
        MatrixFactorisation("dr")
    with pytest.raises(ValueError, match="hold no ratings"):
        MatrixFactorisation().fit(Interactions(train.offsets, train.items, ITEMS))
