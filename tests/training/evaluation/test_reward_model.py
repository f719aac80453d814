"""Cross-fitted rewards: known click rates come back, and no round sees itself."""

import numpy as np
import pytest
from llm4rec.training.evaluation.reward_model import cross_fitted_rewards
from scipy.special import expit

UNIFORM = np.full(3, 1 / 3)


@pytest.fixture(scope="module")
def clicks():
    """20,000 rounds whose click rates depend on action, position and one feature, and those rates for all actions."""
    generator = np.random.default_rng(0)
    actions, positions = generator.integers(3, size=20_000), generator.integers(1, 4, size=20_000)
    context = generator.normal(size=(20_000, 1))
    rates = expit(-1 + np.array([-1, 0, 1]) - 0.5 * positions[:, None] + 0.8 * context)
    own = rates[np.arange(20_000), actions]
    return (generator.random(20_000) < own).astype(float), actions, positions, context, rates, own


def test_known_click_rates_come_back(clicks):
    rewards, actions, positions, context, rates, own = clicks
    predicted, expected = cross_fitted_rewards(rewards, actions, UNIFORM, positions, context)
    assert np.abs(predicted - own).mean() < 0.01
    assert np.abs(expected - rates.mean(axis=1)).mean() < 0.01


def test_a_policy_by_round_weighs_the_actions_of_its_round(clicks):
    rewards, actions, positions, context, *_ = clicks
    shows_what_was_shown = np.eye(3)[actions]
    predicted, expected = cross_fitted_rewards(rewards, actions, shows_what_was_shown, positions, context)
    np.testing.assert_allclose(expected, predicted)


def test_no_round_sees_its_own_reward():
    # One round is unlike all others; a model that saw it would not predict 0 there.
    rewards = np.zeros(40)
    rewards[7] = 1
    predicted, _ = cross_fitted_rewards(rewards, np.zeros(40, int), np.ones(1), folds=40)
    assert predicted[7] == 0
    assert (predicted[np.arange(40) != 7] > 0).all()


def test_rewards_that_are_no_clicks_are_regressed_linearly():
    generator = np.random.default_rng(1)
    actions = generator.integers(3, size=3_000)
    rewards = np.array([2.0, 5.0, -1.0])[actions] + generator.normal(size=3_000)
    predicted, expected = cross_fitted_rewards(rewards, actions, [0.5, 0.5, 0.0])
    assert predicted == pytest.approx(np.array([2.0, 5.0, -1.0])[actions], abs=0.15)
    assert expected == pytest.approx(np.full(3_000, 3.5), abs=0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_policy": [0.5, 0.6]}, r"row 0 sums to 1.1"),
        ({"actions": [0, 1, 2, 0]}, "actions run from 0 to 2, expected 0 to 1"),
        ({"folds": 1}, "folds=1"),
        ({"positions": [1, 2]}, "2 rows, expected one for each of 4 rounds"),
        ({"context": [[np.nan]] * 4}, "finite numbers"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    log = {"rewards": [1, 0, 0, 1], "actions": [0, 1, 1, 0], "target_policy": [0.5, 0.5], "folds": 2}
    with pytest.raises(ValueError, match=message):
        cross_fitted_rewards(**log | change)
