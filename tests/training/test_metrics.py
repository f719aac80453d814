"""Ranking metrics against values by hand and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm4rec.training.evaluation.metrics import coverage, hit_rate, mrr, ndcg
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score

ranks_strategy = st.lists(st.integers(0, 1000), min_size=1, max_size=30).map(np.array)


def test_metrics_of_known_ranks():
    ranks = np.array([0, 2, 9, 10])
    assert hit_rate(ranks, 10).tolist() == [1, 1, 1, 0]
    assert ndcg(ranks, 10).tolist() == pytest.approx([1, 0.5, 1 / math.log2(11), 0])
    assert mrr(ranks, 10).tolist() == pytest.approx([1, 1 / 3, 1 / 10, 0])


def test_coverage_counts_each_recommended_item_once_and_no_padding():
    assert coverage(np.array([[0, 1], [1, 2], [2, -1]]), num_items=6) == 0.5


@given(ranks_strategy, st.integers(1, 50))
def test_metrics_lie_between_mrr_and_hit_rate(ranks, k):
    assert (mrr(ranks, k) >= 0).all()
    assert (mrr(ranks, k) <= ndcg(ranks, k)).all()
    assert (ndcg(ranks, k) <= hit_rate(ranks, k)).all()


@given(ranks_strategy, st.integers(1, 50))
def test_metrics_do_not_fall_when_k_grows(ranks, k):
    for metric in (hit_rate, ndcg, mrr):
        assert (metric(ranks, k) <= metric(ranks, k + 1)).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_metrics_agree_with_scikit_learn(seed, k):
    generator = np.random.default_rng(seed)
    scores = generator.permuted(np.tile(np.arange(20.0), (8, 1)), axis=1)
    targets = generator.integers(20, size=8)
    relevant = np.eye(20)[targets]
    ranks = (scores > scores[np.arange(8), targets][:, None]).sum(axis=1)
    assert ndcg(ranks, k).mean() == pytest.approx(ndcg_score(relevant, scores, k=k))
    assert mrr(ranks, 20).mean() == pytest.approx(label_ranking_average_precision_score(relevant, scores))
    if k < 20:
        expected = top_k_accuracy_score(targets, scores, k=k, labels=np.arange(20))
        assert hit_rate(ranks, k).mean() == pytest.approx(expected)
