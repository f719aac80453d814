"""Diversity, popularity bias, serendipity, calibration, group gaps and debiasing against answers worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.evaluation import diversity, groups, popularity_bias
from llm4rec.training.evaluation.calibration import miscalibration
from llm4rec.training.evaluation.categories import category_matrix
from llm4rec.training.evaluation.list_statistics import ListFacts, ListStatistics
from llm4rec.training.evaluation.propensity import debiased_mean, propensity
from llm4rec.training.evaluation.serendipity import serendipity
from scipy.spatial.distance import pdist
from scipy.special import rel_entr

NAN = float("nan")
CATEGORIES = category_matrix([["red", "tent"], ["red"], ["tent", "red"], ["lamp"], None])
seeds = st.integers(0, 2**32 - 1)


def interactions_of(histories, num_items):
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64)
    return Interactions(offsets, np.array([item for h in histories for item in h], dtype=np.int32), num_items)


def random_world(seed, items=12, names=5):
    generator = np.random.default_rng(seed)
    lists = np.stack([generator.permutation(items)[:6] for _ in range(7)])
    has = generator.random((items, names)) < 0.4
    has[np.arange(items), generator.integers(names, size=items)] = True
    return generator, lists, has, category_matrix([[str(name) for name in np.flatnonzero(row)] for row in has])


def test_category_matrix_names_each_category_once():
    assert CATEGORIES.toarray().tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_category_diversity_by_hand():
    lists = np.array([[0, 1, 3], [0, 2, -1], [3, 4, -1], [0, -1, -1]])
    similarity = diversity.jaccard_similarity(lists, CATEGORIES)
    # Pairs of the first list: {red, tent} and {red} share half, {lamp} shares nothing. Item 4 is unknown.
    assert diversity.intra_list_diversity(similarity) == pytest.approx([(0.5 + 1 + 1) / 3, 0, NAN, NAN], nan_ok=True)
    assert diversity.intra_list_diversity(similarity, 2) == pytest.approx([0.5, 0, NAN, NAN], nan_ok=True)


def test_vector_diversity_by_hand():
    vectors = np.array([[2, 0], [0, 1], [-3, 0], [0, 0]], dtype=np.float32)
    similarity = diversity.cosine_similarity(np.array([[0, 1, 2], [0, 3, 1], [3, 0, -1]]), vectors)
    assert diversity.intra_list_diversity(similarity) == pytest.approx([(1 + 2 + 1) / 3, 1, NAN], nan_ok=True)


@given(seeds)
@settings(max_examples=30)
def test_diversity_agrees_with_scipy_distances(seed):
    generator, lists, has, categories = random_world(seed)
    vectors = generator.normal(size=(12, 4))
    by_category = diversity.intra_list_diversity(diversity.jaccard_similarity(lists, categories))
    by_vector = diversity.intra_list_diversity(diversity.cosine_similarity(lists, vectors))
    np.testing.assert_allclose(by_category, [pdist(has[row], "jaccard").mean() for row in lists], atol=1e-9)
    np.testing.assert_allclose(by_vector, [pdist(vectors[row], "cosine").mean() for row in lists], atol=1e-9)


def test_novelty_is_the_mean_information_of_a_lists_items():
    counts = np.array([3, 1, 0, 0])  # Shares with one added: 1/2, 1/4, 1/8, 1/8.
    lists = np.array([[0, 1], [2, -1], [-1, -1]])
    assert popularity_bias.novelty(lists, counts) == pytest.approx([1.5, 3, NAN], nan_ok=True)
    assert popularity_bias.average_popularity(lists, counts) == pytest.approx([2, 0, NAN], nan_ok=True)


def test_popularity_lift_of_recommendations_half_again_as_popular():
    assert popularity_bias.popularity_lift(recommended=15, histories=10) == 0.5


def test_gini_of_known_spreads():
    assert popularity_bias.gini(np.array([2, 2, 2])) == 0
    assert popularity_bias.gini(np.array([0, 0, 0, 8])) == 3 / 4
    assert popularity_bias.gini(np.array([3, 1])) == 1 / 4


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any))
def test_gini_is_half_the_relative_mean_difference(exposure):
    exposure = np.array(exposure)
    expected = np.abs(exposure[:, None] - exposure[None]).mean() / (2 * exposure.mean())
    assert popularity_bias.gini(exposure) == pytest.approx(expected, abs=1e-9)


def test_a_hit_that_popularity_makes_too_is_not_serendipitous():
    assert serendipity(np.array([0, 1, 5]), np.array([9, 1, 9]), k=2).tolist() == [1, 0, 0]


def test_miscalibration_by_hand():
    # History: red 1/2 (item 1), lamp 1/2 (item 3). Lists: the same; lamps alone; nothing known.
    histories = interactions_of([[1, 3]] * 3 + [[4]], 5)
    lists = np.array([[3, 1], [3, 4], [4, -1], [1, 3]])
    alone = 0.5 * math.log(0.5 / 0.005) + 0.5 * math.log(0.5 / 0.995)
    assert miscalibration(lists, histories, CATEGORIES) == pytest.approx([0, alone, NAN, NAN], nan_ok=True)


@given(seeds)
@settings(max_examples=30)
def test_miscalibration_agrees_with_dense_relative_entropy(seed):
    generator, lists, has, categories = random_world(seed)
    histories = [generator.integers(12, size=generator.integers(1, 9)) for _ in lists]
    shares = has / has.sum(axis=1, keepdims=True)
    p = np.stack([shares[history].mean(axis=0) for history in histories])
    q = 0.9 * np.stack([shares[row].mean(axis=0) for row in lists]) + 0.1 * p
    found = miscalibration(lists, interactions_of(histories, 12), categories, alpha=0.1)
    np.testing.assert_allclose(found, rel_entr(p, q).sum(axis=1), atol=1e-9)


def test_propensity_follows_the_power_law_and_never_vanishes():
    assert propensity(np.array([0, 1, 4, 16])).tolist() == [0.25, 0.25, 0.5, 1]
    assert propensity(np.array([0, 1, 4, 16]), power=0).tolist() == [1] * 4


def test_debiased_mean_weighs_rare_targets_more():
    assert debiased_mean(np.array([1, 0]), np.array([0.25, 1])) == 4 / 5


@given(seeds, st.floats(0.01, 100))
def test_a_common_factor_of_all_propensities_changes_nothing(seed, factor):
    generator = np.random.default_rng(seed)
    values, chances = generator.random(9), generator.uniform(0.1, 1, size=9)
    assert debiased_mean(values, factor * chances) == pytest.approx(debiased_mean(values, chances))
    assert debiased_mean(values, np.full(9, factor)) == pytest.approx(values.mean())


def test_groups_are_named_by_their_labels_and_missing_ones_are_unknown():
    made = groups.Groups.of(["b", None, "a", NAN, "b"])
    assert made.names == ["a", "b", "unknown"]
    assert made.codes.tolist() == [1, 2, 0, 2, 1]


def test_the_gap_is_between_the_best_and_the_worst_group():
    means = groups.group_means(np.array([1, 0, 1, 1]), np.array([0, 0, 2, 2]), 4)
    assert means == pytest.approx([0.5, NAN, 1, NAN], nan_ok=True)
    assert groups.gap(means) == 0.5


def test_exposure_of_item_groups_is_discounted_by_position():
    shown = groups.group_exposure(np.array([[0, 1, 2], [2, -1, -1]]), np.array([0, 1, 0]), 2)
    np.testing.assert_allclose(shown, [[1.5, 1 / math.log2(3)], [1, 0]])


def test_parity_of_exposure():
    assert groups.exposure_ratio(np.array([6, 1]), np.array([3, 1])) == 0.5
    assert groups.exposure_gap(np.array([[3, 1], [2, 2], [0, 0]])) == 0.25
    assert groups.exposure_gap(np.array([[3, 1], [6, 2]])) == 0


def test_exposure_of_categories_is_shared_by_an_items_own_and_discounted_by_place():
    # Items: red tent, red, tent red, lamp, unknown; columns in the order of category_matrix.
    shown = groups.category_exposure(np.array([[0, 3, -1], [4, 1, 2], [-1, -1, -1]]), CATEGORIES)
    second, third = 1 / math.log2(3), 1 / 2
    np.testing.assert_allclose(shown, [[0.5, 0.5, second], [second + third / 2, third / 2, 0], [0, 0, 0]], atol=1e-12)


@given(seeds)
@settings(max_examples=30)
def test_category_exposure_agrees_with_a_loop_and_loses_nothing(seed):
    _, lists, has, categories = random_world(seed)
    shares = has / has.sum(axis=1, keepdims=True)
    expected = np.stack([sum(shares[item] / math.log2(r + 2) for r, item in enumerate(row)) for row in lists])
    found = groups.category_exposure(lists, categories)
    np.testing.assert_allclose(found.sum(axis=1), (1 / np.log2(np.arange(6) + 2)).sum())
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(expected[:, has.any(axis=0)], axis=1), atol=1e-9)


def test_the_parity_gap_is_the_largest_distance_between_what_two_groups_are_shown():
    # Shares (3/4, 1/4, 0), (1/2, 1/4, 1/4) and nobody: half of 1/4 + 0 + 1/4.
    assert groups.parity_gap(np.array([[3, 1, 0], [2, 1, 1], [0, 0, 0]])) == 0.25
    assert groups.parity_gap(np.array([[3, 1], [6, 2]])) == 0
    assert groups.parity_gap(np.array([[5, 0], [0, 1]])) == 1
    assert groups.parity_gap(np.array([[5, 1]])) == 0
    # Of three groups the two that differ most count, wherever they stand: (1, 0), (1/2, 1/2) and (0, 1).
    assert groups.parity_gap(np.array([[2, 0], [1, 1], [0, 3]])) == 1


def test_the_evaluators_parity_gap_compares_groups_of_users_over_all_batches():
    facts = ListFacts(categories=CATEGORIES, user_groups=groups.Groups.of(["a", "b", "a"]))
    found = ListStatistics(5, (1, 2), facts)
    for lists, user in (([[1, 3]], 0), ([[1, 1]], 1), ([[3, 1]], 2)):
        found.update(np.array(lists), interactions_of([[1]], 5), np.array([user]))
    # At 1: a is shown red and lamp alike, b red alone. At 2: a has as much of either, so does the distance stay 1/2.
    assert found.metrics()["parity_gap@1"] == pytest.approx(0.5)
    assert found.metrics()["parity_gap@2"] == pytest.approx(0.5)
    assert "parity_gap@1" not in ListStatistics(5, (1,), ListFacts(categories=CATEGORIES)).metrics()
