"""Paired comparison of saved runs: known answers, and agreement with SciPy's paired tests."""

import json

import numpy as np
import pytest
from llm4rec.benchmarks.compare import compare, comparison_metrics, user_means
from llm4rec.benchmarks.saved_ranks import SavedRanks, run_name, runs_of
from scipy import stats


def saved(ranks, users=None, targets=None, **values):
    ranks = np.asarray(ranks)
    return SavedRanks(
        users=np.arange(len(ranks)) if users is None else np.asarray(users),
        targets=np.zeros(len(ranks), int) if targets is None else np.asarray(targets),
        ranks={"filtered": ranks, "unfiltered": ranks + 1},
        num_items=1000,
        values={name: np.asarray(found) for name, found in values.items()},
    )


def test_saved_ranks_come_back_as_they_were(tmp_path):
    run = saved([0, 3, 999], users=[5, 7, 8], targets=[1, 2, 3])
    run.values = {"filtered/vector_diversity@10": np.array([0.5, np.nan, 1])}
    run.save(tmp_path / "run.npz")
    back = SavedRanks.load(tmp_path / "run.npz")
    assert back.ranks["filtered"].dtype == np.int32
    assert back.ranks["unfiltered"].tolist() == [1, 4, 1000]
    assert (back.users.tolist(), back.targets.tolist(), back.num_items) == ([5, 7, 8], [1, 2, 3], 1000)
    np.testing.assert_array_equal(back.metric("filtered/vector_diversity@10"), [0.5, np.nan, 1])
    assert back.metric("filtered/hr@10").tolist() == [1, 1, 0]


def test_runs_of_a_model_do_not_include_its_variants(tmp_path):
    for model, protocol, seed in [
        ("llm4rec", "leave_one_out", 0),
        ("llm4rec", "leave_one_out", 12),
        ("llm4rec-without-text", "leave_one_out", 1),
        ("llm4rec", "cold_items", 2),
        ("popularity", "leave_one_out", None),
    ]:
        saved([seed or 0]).save(tmp_path / "shop" / f"{run_name(model, protocol, seed)}.npz")
    found = runs_of("shop", "llm4rec", "leave_one_out", tmp_path)
    assert {seed: run.ranks["filtered"].tolist() for seed, run in found.items()} == {0: [0], 12: [12]}
    assert list(runs_of("shop", "llm4rec", "cold_items", tmp_path)) == [2]
    assert list(runs_of("shop", "popularity", "leave_one_out", tmp_path)) == [None]
    with pytest.raises(FileNotFoundError, match=r"no ranks of sasrec .*run\.py shop sasrec"):
        runs_of("shop", "sasrec", "leave_one_out", tmp_path)


def test_a_users_metric_is_averaged_over_seeds_first():
    runs = {0: saved([0, 50], users=[3, 9]), 1: saved([50, 50], users=[3, 9]), 2: saved([0], users=[4])}
    users, values = user_means(runs, "filtered/hr@10")
    assert users.tolist() == [3, 4, 9]
    assert values.tolist() == [0.5, 1, 0]


def test_difference_and_ratio_of_a_small_world_by_hand():
    a = {0: saved([0, 0, 50, 50]), 1: saved([0, 50, 50, 50])}
    b = {None: saved([50, 0, 50, 50])}
    metrics = comparison_metrics(a, b, resamples=200)
    assert metrics["filtered/hr@10/a"] == pytest.approx(0.375)
    assert metrics["filtered/hr@10/b"] == pytest.approx(0.25)
    assert metrics["filtered/hr@10/difference"] == pytest.approx(0.125)
    assert metrics["filtered/hr@10/ratio"] == pytest.approx(1.5)


def test_p_value_and_interval_agree_with_the_paired_t_test_of_scipy():
    generator = np.random.default_rng(0)
    b = generator.integers(0, 30, 4000)
    a = np.maximum(b - generator.integers(-8, 10, 4000), 0)
    runs = {0: saved(a)}, {0: saved(b)}
    metrics = comparison_metrics(*runs, resamples=10_000)
    for name in ("filtered/ndcg@10", "filtered/hr@10"):
        first, second = (run[0].metric(name) for run in runs)
        outcome = stats.ttest_rel(first, second)
        interval = outcome.confidence_interval(0.95)
        width = interval.high - interval.low
        assert metrics[f"{name}/difference"] == pytest.approx((first - second).mean())
        assert metrics[f"{name}/low"] == pytest.approx(interval.low, abs=0.05 * width)
        assert metrics[f"{name}/high"] == pytest.approx(interval.high, abs=0.05 * width)
    a = np.where(generator.random(4000) < 0.03, 0, b)  # a difference that may be chance, or not
    metrics = comparison_metrics({0: saved(np.roll(b, 1))}, {0: saved(a)}, resamples=10_000)
    first, second = (saved(x).metric("filtered/ndcg@10") for x in (np.roll(b, 1), a))
    assert metrics["filtered/ndcg@10/p_value"] == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.02)


def test_users_without_a_defined_value_are_left_out():
    name = "filtered/vector_diversity@10"
    a, b = saved([0, 0, 0]), saved([0, 0, 0])
    a.values, b.values = {name: np.array([0.5, np.nan, 0.5])}, {name: np.array([0.25, 0.1, np.nan])}
    metrics = comparison_metrics({0: a}, {0: b}, resamples=50)
    assert metrics[f"{name}/difference"] == pytest.approx(0.25)
    assert "filtered/category_diversity@10/difference" not in metrics


def test_runs_that_ranked_other_targets_are_refused():
    with pytest.raises(ValueError, match="did not rank the same targets"):
        comparison_metrics({0: saved([0, 1])}, {0: saved([0, 1], targets=[1, 2])})
    cold = {0: saved([0, 1], users=[1, 2]), 1: saved([0, 1], users=[3, 4])}
    with pytest.raises(ValueError, match="Seeds 0, 1 of the first and 0 of the second"):
        comparison_metrics(cold, {0: cold[0]})
    assert comparison_metrics(cold, dict(cold), resamples=50)["filtered/hr@10/difference"] == 0


def test_a_comparison_becomes_a_row_that_names_its_command(tmp_path):
    saved([0, 5]).save(tmp_path / "ranks" / "shop" / "a-seed0.npz")
    saved([9, 50]).save(tmp_path / "ranks" / "shop" / "b.npz")
    path = compare("shop", "a", "b", results=tmp_path / "results", ranks=tmp_path / "ranks")
    row = json.loads(path.read_text())
    assert path.name == "comparison-a-vs-b.json"
    assert row["command"] == "python benchmarks/compare.py shop a b"
    assert row["config"]["seeds"] == {"a": [0], "b": [None]}
    assert row["metrics"]["unfiltered/hr@10/difference"] == 1
