"""Bootstrap intervals and paired comparisons: known spreads, agreement with SciPy, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm4rec.training.evaluation import intervals as module
from llm4rec.training.evaluation.comparison import compare, compare_values, randomisation_p_value
from llm4rec.training.evaluation.evaluation_result import EvaluationResult
from llm4rec.training.evaluation.intervals import bootstrap_interval, bootstrap_means, intervals
from scipy import stats


def result_of(ranks, users=None, num_items=100, **extra):
    ranks = np.array(ranks)
    users = np.arange(len(ranks)) if users is None else np.array(users)
    metrics = {"filtered/ndcg@10": 0.0, "filtered/hr@10": 0.0, "filtered/coverage@10": 0.0}
    return EvaluationResult(metrics, {"filtered": ranks}, users, num_items, **extra)


@pytest.mark.parametrize(
    "values", [np.repeat([0.0, 1.0], [900, 100]), np.random.default_rng(0).exponential(size=1000)]
)
def test_the_interval_is_that_of_the_normal_approximation_for_many_cases(values):
    interval = bootstrap_interval(values, resamples=4000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.half_width == pytest.approx(half, rel=0.06)
    assert (interval.low + interval.high) / 2 == pytest.approx(values.mean(), abs=0.1 * half)


def test_few_and_many_distinct_values_are_resampled_alike():
    values = np.repeat([0.0, 0.25, 1.0], [500, 300, 200])
    nearly = values + 1e-9 * np.arange(1000)  # All distinct: indices are drawn, not counts.
    spread = [bootstrap_means(given, resamples=4000).std() for given in (values, nearly)]
    assert spread[0] == pytest.approx(spread[1], rel=0.06)


def test_the_interval_agrees_with_scipy():
    values = np.random.default_rng(1).exponential(size=300)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    ours = bootstrap_interval(values, resamples=4000)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.1 * ours.half_width)


def test_weights_make_a_weighted_mean():
    values, weights = np.array([0.0, 1.0] * 50), np.array([3.0, 1.0] * 50)
    interval = bootstrap_interval(values, weights)
    assert interval.mean == 0.25
    assert interval.low < 0.25 < interval.high


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 5))
@settings(max_examples=30)
def test_the_interval_lies_within_the_values_and_repeats_with_its_seed(values, seed):
    interval = bootstrap_interval(np.array(values), resamples=50, seed=seed)
    assert min(values) - 1e-12 <= interval.low <= interval.high <= max(values) + 1e-12
    assert interval == bootstrap_interval(np.array(values), resamples=50, seed=seed)


def test_drawing_in_small_chunks_is_still_a_bootstrap(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 64)
    means = bootstrap_means(np.repeat([0.0, 1.0], 500), resamples=500)
    assert means.shape == (500,)
    assert means.std() == pytest.approx(0.5 / np.sqrt(1000), rel=0.15)


def test_intervals_of_a_result_cover_its_accuracy():
    found = intervals(result_of([0, 3, 12, 40] * 20))
    assert set(found) == {"filtered/ndcg@10", "filtered/hr@10"}
    assert found["filtered/hr@10"].mean == 0.5
    assert found["filtered/hr@10"].to_dict()["confidence"] == 0.95


def test_a_better_model_differs_beyond_chance():
    generator = np.random.default_rng(0)
    ranks = generator.integers(30, size=2000)
    outcome = compare(result_of(ranks), result_of(ranks + generator.integers(3, size=2000)))
    assert outcome.difference == pytest.approx(outcome.a - outcome.b)
    assert 0 < outcome.low < outcome.difference < outcome.high
    assert outcome.p_value < 0.001
    assert outcome.cases == outcome.to_dict()["cases"] == 2000


def test_equal_results_do_not_differ():
    outcome = compare(result_of([0, 5, 20]), result_of([0, 5, 20]), metric="filtered/mrr@20")
    assert (outcome.difference, outcome.low, outcome.high, outcome.p_value) == (0, 0, 0, 1)


def test_exchanging_the_models_turns_the_sign_and_keeps_the_p_value():
    a, b = result_of([0, 2, 3, 30, 4] * 9), result_of([1, 0, 30, 30, 9] * 9)
    there, back = compare(a, b, resamples=500), compare(b, a, resamples=500)
    assert there.difference == -back.difference
    assert there.p_value == pytest.approx(back.p_value, abs=0.02)


def test_the_p_value_agrees_with_all_sign_flips():
    differences = np.array([0.5, 0.25, -0.1, 0.4, 0.3, -0.05, 0.25, 0.0])
    exact = stats.permutation_test(
        (differences, np.zeros(8)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert randomisation_p_value(differences, resamples=40_000) == pytest.approx(exact, abs=0.006)


def test_under_the_null_small_p_values_are_rare():
    generator = np.random.default_rng(3)
    values = [compare_values(*generator.integers(3, size=(2, 50)), resamples=200, seed=0).p_value for _ in range(200)]
    assert np.mean(np.array(values) < 0.1) < 0.18


def test_results_of_other_users_or_catalogs_are_refused():
    with pytest.raises(
        ValueError, match=r"users differ: 2 cases in the first result, 2 in the second, 1 users in both"
    ):
        compare(result_of([1, 2], users=[3, 4]), result_of([1, 2], users=[3, 5]))
    with pytest.raises(ValueError, match=r"ranked 100 items, the second 99"):
        compare(result_of([1]), result_of([1], num_items=99))


def test_several_cases_of_a_user_are_refused():
    with pytest.raises(ValueError, match=r"1 users have several cases \(the first: user index 7\)"):
        intervals(result_of([1, 2, 3], users=[5, 7, 7]))


def test_undefined_values_are_refused():
    with pytest.raises(ValueError, match=r"not defined \(NaN\)"):
        bootstrap_interval(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        compare_values(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"share in \(0, 1\)"):
        bootstrap_interval(np.ones(3), confidence=95)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ndcg", "form such as"),
        ("filtered/ndcg@ten", "form such as"),
        ("raw/ndcg@10", "one of filtered"),
        ("filtered/ndcg@0", "k of 1 or more"),
        ("filtered/coverage@10", "keep_lists=True"),
        ("filtered/serendipity@10", "item_counts"),
    ],
)
def test_a_metric_without_a_value_per_case_is_refused_with_the_reason(name, message):
    with pytest.raises(ValueError, match=message):
        result_of([1, 2]).values(name)
