"""Off-policy estimates: unbiased over many logs of a known bandit, with intervals that keep their promise."""

import numpy as np
import pytest
from llm4rec.training.evaluation.off_policy import (
    doubly_robust_estimate,
    inverse_propensity_estimate,
    self_normalised_estimate,
)
from llm4rec.training.evaluation.reward_model import cross_fitted_rewards

CONTEXTS, ACTIONS = 4, 5
QUICK = {"resamples": 2}
"""For tests that look at values alone."""


class Bandit:
    """Four kinds of visitors, five actions, clicks: everything known."""

    def __init__(self):
        generator = np.random.default_rng(3)
        self.click_rates = generator.uniform(0.1, 0.6, (CONTEXTS, ACTIONS))
        scores = np.exp(generator.normal(0, 0.4, (CONTEXTS, ACTIONS)) + 2 * self.click_rates)
        self.logging = scores / scores.sum(axis=1, keepdims=True)
        other = np.exp(generator.normal(0, 0.4, (CONTEXTS, ACTIONS)))
        self.target = other / other.sum(axis=1, keepdims=True)
        self.truth = float((self.target * self.click_rates).sum(axis=1).mean())

    def play(self, rounds, seed):
        generator = np.random.default_rng(seed)
        context = generator.integers(CONTEXTS, size=rounds)
        cumulative = self.logging.cumsum(axis=1)
        actions = (generator.random(rounds)[:, None] > cumulative[context, :-1]).sum(axis=1)
        rewards = (generator.random(rounds) < self.click_rates[context, actions]).astype(float)
        return context, actions, rewards


@pytest.fixture(scope="module")
def bandit():
    return Bandit()


def rounds_of(bandit, rounds, seed):
    context, actions, rewards = bandit.play(rounds, seed)
    return rewards, bandit.logging[context, actions], bandit.target[context, actions]


def over_logs(estimate, logs):
    """Mean over logs and its standard error."""
    values = np.array([estimate(log) for log in logs])
    return values.mean(), values.std() / np.sqrt(len(values))


def test_the_naive_mean_is_wrong_and_inverse_propensities_make_it_right(bandit):
    logs = [rounds_of(bandit, 500, seed) for seed in range(300)]
    naive, error = over_logs(lambda log: log[0].mean(), logs)
    assert abs(naive - bandit.truth) > 20 * error
    for estimate in (inverse_propensity_estimate, self_normalised_estimate):
        mean, error = over_logs(lambda log, estimate=estimate: estimate(*log, **QUICK).value, logs)
        assert abs(mean - bandit.truth) < 3 * error


@pytest.mark.parametrize(("propensities", "model"), [("right", "wrong"), ("wrong", "right"), ("wrong", "wrong")])
def test_doubly_robust_is_right_if_one_of_the_two_is(bandit, propensities, model):
    rates = bandit.click_rates if model == "right" else np.full((CONTEXTS, ACTIONS), 0.2)
    logging = bandit.logging if propensities == "right" else np.full((CONTEXTS, ACTIONS), 1 / ACTIONS)
    expected = (bandit.target * rates).sum(axis=1)

    def value(log):
        context, actions, rewards = log
        rounds = (rewards, logging[context, actions], bandit.target[context, actions])
        return doubly_robust_estimate(*rounds, rates[context, actions], expected[context], **QUICK).value

    mean, error = over_logs(value, [bandit.play(500, seed) for seed in range(300)])
    if "right" in (propensities, model):
        assert abs(mean - bandit.truth) < 3 * error
    else:
        assert abs(mean - bandit.truth) > 5 * error


def test_a_good_reward_model_and_self_normalisation_lower_the_variance(bandit):
    expected = (bandit.target * bandit.click_rates).sum(axis=1)
    spread = {"ips": [], "snips": [], "dr": []}
    for seed in range(200):
        context, actions, rewards = bandit.play(500, seed)
        rounds = (rewards, bandit.logging[context, actions], bandit.target[context, actions])
        spread["ips"].append(inverse_propensity_estimate(*rounds, **QUICK).value)
        spread["snips"].append(self_normalised_estimate(*rounds, **QUICK).value)
        guesses = bandit.click_rates[context, actions], expected[context]
        spread["dr"].append(doubly_robust_estimate(*rounds, *guesses, **QUICK).value)
    ips, snips, dr = (np.std(values) for values in spread.values())
    assert dr < snips < ips


def test_intervals_hold_the_truth_about_as_often_as_they_say(bandit):
    logs, guess = 200, 0.8 * bandit.click_rates
    expected = (bandit.target * guess).sum(axis=1)
    covered, errors, values = np.zeros(3), np.zeros((logs, 3)), np.zeros((logs, 3))
    for seed in range(logs):
        context, actions, rewards = bandit.play(500, seed)
        rounds = (rewards, bandit.logging[context, actions], bandit.target[context, actions])
        settings = {"resamples": 400, "seed": logs + seed}  # Another stream than the log's.
        found = (
            inverse_propensity_estimate(*rounds, **settings),
            self_normalised_estimate(*rounds, **settings),
            doubly_robust_estimate(*rounds, guess[context, actions], expected[context], **settings),
        )
        covered += [estimate.low <= bandit.truth <= estimate.high for estimate in found]
        errors[seed] = [estimate.standard_error for estimate in found]
        values[seed] = [estimate.value for estimate in found]
    # Three standard errors of a share of 200 logs are 0.046.
    assert covered / logs == pytest.approx([0.95] * 3, abs=0.046)
    assert errors.mean(axis=0) == pytest.approx(values.std(axis=0), rel=0.15)


def test_a_cross_fitted_reward_model_keeps_doubly_robust_unbiased(bandit):
    def value(log):
        context, actions, rewards = log
        guesses = cross_fitted_rewards(rewards, actions, bandit.target[context], folds=2)
        rounds = (rewards, bandit.logging[context, actions], bandit.target[context, actions])
        return doubly_robust_estimate(*rounds, *guesses, **QUICK).value

    mean, error = over_logs(value, [bandit.play(500, seed) for seed in range(60)])
    assert abs(mean - bandit.truth) < 3 * error


def test_estimates_of_three_rounds_by_hand():
    rewards, propensities, targets = [1.0, 0.0, 2.0], [0.5, 0.5, 0.25], [0.25, 0.5, 0.5]  # Weights 0.5, 1, 2.
    ips = inverse_propensity_estimate(rewards, propensities, targets)
    assert ips.value == pytest.approx((0.5 + 4) / 3)
    assert ips.standard_error == pytest.approx(np.std([0.5, 0, 4]) / np.sqrt(3))
    assert (ips.effective_sample_size, ips.mean_weight) == (pytest.approx(3.5**2 / 5.25), pytest.approx(3.5 / 3))
    snips = self_normalised_estimate(rewards, propensities, targets)
    assert snips.value == pytest.approx(4.5 / 3.5)
    clipped = inverse_propensity_estimate(rewards, propensities, targets, clip=1)
    assert (clipped.value, clipped.mean_weight) == (pytest.approx(2.5 / 3), pytest.approx(3.5 / 3))
    dr = doubly_robust_estimate(rewards, propensities, targets, [1.0, 1.0, 1.0], [0.5, 0.5, 0.5])
    assert dr.value == pytest.approx(0.5 + (0 - 1 + 2) / 3)
    assert set(dr.to_dict()) >= {"value", "low", "high", "standard_error", "effective_sample_size", "rounds"}


def test_the_policy_that_ran_is_estimated_by_the_mean_of_its_own_log(bandit):
    rewards, logging, _ = rounds_of(bandit, 800, seed=1)
    for estimate in (inverse_propensity_estimate, self_normalised_estimate):
        found = estimate(rewards, logging, logging)
        assert found.value == pytest.approx(rewards.mean())
        assert found.standard_error == pytest.approx(rewards.std() / np.sqrt(800))
        assert found.effective_sample_size == pytest.approx(800)


def test_self_normalised_does_not_mind_a_factor_of_the_propensities_and_follows_a_constant(bandit):
    rewards, logging, targets = rounds_of(bandit, 300, seed=2)
    plain = self_normalised_estimate(rewards, logging, targets)
    assert self_normalised_estimate(rewards, logging / 3, targets).value == pytest.approx(plain.value)
    assert self_normalised_estimate(rewards + 10, logging, targets).value == pytest.approx(plain.value + 10)


def test_a_policy_that_shows_few_logged_actions_still_has_an_interval():
    rewards, targets = np.tile([1.0, 0.0], 20), np.repeat([1.0, 0.0], [3, 37])
    found = self_normalised_estimate(rewards, np.full(40, 0.5), targets)
    assert found.value == pytest.approx(2 / 3)
    assert 0 <= found.low <= found.high <= 1


def test_the_same_seed_gives_the_same_interval(bandit):
    log = rounds_of(bandit, 200, seed=4)
    assert inverse_propensity_estimate(*log, seed=7) == inverse_propensity_estimate(*log, seed=7)
    assert inverse_propensity_estimate(*log, seed=7) != inverse_propensity_estimate(*log, seed=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensities": [0.5, 0.0, 0.5]}, r"1 of 3 propensities are not in \(0, 1\]: row 1: 0"),
        ({"target_probabilities": [0.5, 0.5, 1.5]}, "target_probabilities cannot be used, the first in row 2: 1.5"),
        ({"rewards": [1.0, np.nan, 0.0]}, "1 of 3 rewards cannot be used, the first in row 1: nan"),
        ({"target_probabilities": [0.0, 0.0, 0.0]}, "shows none of the 3 logged actions"),
        ({"rewards": [1.0, 0.0]}, r"Shapes differ: rewards \(2,\)"),
        ({"clip": 0.0}, "clip is 0.0"),
    ],
)
def test_what_cannot_be_estimated_is_refused(change, message):
    log = {"rewards": [1.0, 0.0, 1.0], "propensities": [0.5] * 3, "target_probabilities": [0.2] * 3}
    with pytest.raises(ValueError, match=message):
        self_normalised_estimate(**log | change)
