"""The leakage probe: chance for nothing, near 1 for a planted leak, whichever form the leak has."""

from functools import partial

import numpy as np
import pytest
from llm4rec.training.evaluation.leakage_probe import leakage

one_draw = partial(leakage, repeats=1)


def planted(n=400, seed=0, groups=2):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, 6)), generator.integers(groups, size=n)


def test_labels_that_states_do_not_tell_give_chance():
    found = [one_draw(*planted(n=300, seed=seed)) for seed in range(3)]
    assert np.mean([report.linear_auc for report in found]) == pytest.approx(0.5, abs=0.07)
    assert np.mean([report.mlp_auc for report in found]) == pytest.approx(0.5, abs=0.07)
    assert found[0].auc == max(found[0].linear_auc, found[0].mlp_auc)


def test_a_linear_leak_is_found_by_both_probes():
    states, labels = planted()
    states[:, 3] += 4.0 * labels
    found = one_draw(states, labels)
    assert min(found.linear_auc, found.mlp_auc) > 0.85
    assert found.auc > 0.95


def test_a_leak_that_no_line_separates_is_found_by_the_network():
    states, _ = planted(n=800)
    labels = ((states[:, 0] > 0) ^ (states[:, 1] > 0)).astype(int)
    found = one_draw(states, labels)
    assert found.linear_auc < 0.6
    assert found.mlp_auc > 0.8
    assert found.auc == found.mlp_auc


def test_the_scale_and_the_place_of_states_do_not_matter():
    states, labels = planted(n=200)
    states[:, 0] += labels
    assert one_draw(1e3 * states + 50, labels).auc == pytest.approx(one_draw(states, labels).auc, abs=1e-3)


def test_users_of_unknown_label_are_left_out():
    states, labels = planted(n=200)
    strangers = np.full((80, 6), 1e6)
    found = one_draw(np.concatenate([strangers, states]), np.concatenate([np.full(80, -1), labels]))
    assert found == one_draw(states, labels)
    assert found.users == 200
    assert found.largest_group == np.bincount(labels).max() / 200


def test_three_groups_are_told_apart_by_the_mean_over_their_pairs():
    states, labels = planted(n=200, groups=3)
    assert one_draw(states, labels).linear_auc < 0.65
    states[:, :3] += 6.0 * np.eye(3)[labels]
    assert one_draw(states, labels).auc > 0.99
    # Groups 1 and 2 are alike: two pairs of three are told apart perfectly, the third by chance.
    states, labels = planted(n=400, groups=3)
    states[:, 0] += 12.0 * (labels == 0)
    assert one_draw(states, labels).linear_auc == pytest.approx((1 + 1 + 0.5) / 3, abs=0.06)


@pytest.mark.parametrize(
    ("sizes", "counts"), [([40], r"\{0: 40\}"), ([40, 9], r"\{0: 40, 1: 9\}"), ([], r"\{\}"), ([20, 20, 3], r"2: 3")]
)
def test_too_few_groups_or_users_are_refused_with_their_counts(sizes, counts):
    labels = np.repeat(np.arange(len(sizes)), sizes) if sizes else np.full(5, -1)
    with pytest.raises(ValueError, match=rf"two groups of at least 10 users; there are .*{counts}"):
        one_draw(np.zeros((len(labels), 3)), labels)


def test_it_is_the_mean_over_draws_and_seeds_share_none():
    states, labels = planted(n=120)
    states[:, 0] += labels
    once = [leakage(states, labels, seed=draw, repeats=1).linear_auc for draw in range(4)]
    assert len(set(once)) > 1
    assert leakage(states, labels, seed=0, repeats=2).linear_auc == pytest.approx(np.mean(once[:2]))
    assert leakage(states, labels, seed=1, repeats=2).linear_auc == pytest.approx(np.mean(once[2:]))
    with pytest.raises(ValueError, match="repeats is 0, expected at least 1"):
        leakage(states, labels, repeats=0)


def test_the_seed_decides_the_folds_and_nothing_else_is_random():
    states, labels = planted(n=120)
    assert one_draw(states, labels, seed=1) == one_draw(states, labels, seed=1)
    assert one_draw(states, labels, seed=1) != one_draw(states, labels, seed=2)
