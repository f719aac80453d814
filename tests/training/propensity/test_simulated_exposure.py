"""The built-in world knows its propensities: which models find them in its log?"""

import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.evaluation.off_policy import inverse_propensity_estimate, self_normalised_estimate
from llm4rec.training.propensity.diagnostics import calibration
from llm4rec.training.propensity.named import make_propensity
from llm4rec.training.simulation.world import World, WorldConfig


@pytest.fixture(scope="module")
def world():
    return World(WorldConfig(users=300, items=80, sessions=12, new_items=0, demographic_confounding=0.8))


@pytest.fixture(scope="module")
def exposures(world):
    """What was looked at, as histories; exposures are ordered by user."""
    counts = np.bincount(world.exposures.users, minlength=world.config.users)
    return Interactions(np.concatenate([[0], np.cumsum(counts)]), world.exposures.items, world.config.items)


@pytest.fixture(scope="module")
def truth(world, exposures):
    """Probability that a user saw an item at least once in the slots it looked at, (users, items)."""
    return -np.expm1(-exposures.lengths[:, None] * world.propensities)


def every_pair(truth):
    users, items = np.indices(truth.shape)
    return users.ravel(), items.ravel()


def relative_error(found, truth):
    return float(np.median(np.abs(found / truth.ravel() - 1)))


def test_the_factorisation_finds_who_was_shown_what(exposures, truth):
    model = make_propensity("factorisation", factors=2).fit(exposures)
    found = model.predict(*every_pair(truth))
    assert np.corrcoef(np.log(found), np.log(truth.ravel()))[0, 1] > 0.96
    assert relative_error(found, truth) < 0.08


def test_the_logistic_regression_finds_it_from_group_and_category(world, exposures, truth):
    categories = world.items["category"].to_numpy()
    of_items = (categories[:, None] == np.unique(categories)).astype(float)
    group = (world.users["group"] == "B").to_numpy().astype(float)
    of_users = np.stack([group, np.log(exposures.lengths)], axis=1)
    features = {"user_features": of_users, "item_features": of_items, "log_popularity": True}
    found = make_propensity("logistic", **features, crosses=True).fit(exposures).predict(*every_pair(truth))
    assert np.corrcoef(np.log(found), np.log(truth.ravel()))[0, 1] > 0.97
    assert relative_error(found, truth) < 0.08
    seen = np.zeros(truth.shape)
    seen[world.exposures.users, world.exposures.items] = 1
    assert calibration(found, seen.ravel()).expected_error < 0.03


def test_counts_of_exposures_tell_popularity_but_not_the_group(world, exposures):
    found = make_propensity("popularity", power=1).fit(exposures).predict(*every_pair(world.propensities))
    shown = np.log(found.reshape(world.propensities.shape))
    of_item = np.log(world.propensities.mean(axis=0))
    assert np.corrcoef(shown[0], of_item)[0, 1] > 0.97
    assert (shown == shown[0]).all()


def test_given_propensities_undo_the_policy_of_the_shop():
    world = World(
        WorldConfig(
            users=300, items=60, sessions=12, new_items=0, base_logit=-4.0, taste_drift=0.0, complement_strength=0.0,
            buys_again=True, popularity_from_quality=0.9, quality_strength=1.0,
        )
    )  # fmt: skip
    log = world.exposures
    # One item at a time, drawn alike for all: what a uniformly random policy would sell to the users of this log.
    worth = world.relevance(np.arange(300)).mean(axis=1)[log.users].mean()
    uniform = np.full(len(log), 1 / world.config.items)
    for estimate in (inverse_propensity_estimate, self_normalised_estimate):
        found = estimate(log.taken, log.propensity, uniform, resamples=200)
        assert abs(found.value - worth) < 3 * found.standard_error
        assert abs(log.taken.mean() - worth) > 4 * found.standard_error
