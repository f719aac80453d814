"""The evaluator against brute force, and its rules for ties, seen items and bad scores."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.splits import EvaluationSet
from llm4rec.training.evaluation.metrics import coverage
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
from sklearn.metrics import ndcg_score


def cases_of(histories, targets, num_items, users=None):
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64)
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    users = np.arange(len(targets)) if users is None else np.array(users)
    return EvaluationSet(users, np.array(targets, dtype=np.int32), Interactions(offsets, items, num_items))


def random_cases(seed, cases=23, num_items=17):
    generator = np.random.default_rng(seed)
    histories = [generator.integers(num_items, size=generator.integers(1, 12)).tolist() for _ in range(cases)]
    return cases_of(histories, generator.integers(num_items, size=cases), num_items), generator


class TableScorer:
    """Gives out the rows of a table in order, as the evaluator asks for batches in order."""

    def __init__(self, table):
        self.table, self.start = table, 0

    def __call__(self, histories):
        self.start += histories.num_users
        return self.table[self.start - histories.num_users : self.start]


def brute_force_rank(scores, target, removed=()):
    """Mean place of the target over all orders of its ties, rounded down, by sorting."""
    ordered = sorted(
        (score for item, score in enumerate(scores) if item == target or item not in removed), reverse=True
    )
    places = [place for place, score in enumerate(ordered) if score == scores[target]]
    return int(np.floor(np.mean(places)))


def test_ranks_of_a_small_world_by_hand():
    #        history   target  scores                     above the target
    # case 0 items 0,1    3    5 4 3 2 1    unfiltered 0,1,2; filtered 2
    # case 1 item  4      0    1 2 3 4 5    unfiltered 1,2,3,4; filtered 1,2,3
    cases = cases_of([[0, 1], [4]], [3, 0], num_items=5)
    result = RankingEvaluator(cases, ks=(1, 2)).evaluate(TableScorer(np.array([[5, 4, 3, 2, 1.0], [1, 2, 3, 4, 5.0]])))
    assert result.ranks["unfiltered"].tolist() == [3, 4]
    assert result.ranks["filtered"].tolist() == [1, 3]
    assert result.metrics["filtered/hr@2"] == 0.5
    assert result.metrics["filtered/mrr@2"] == 0.25
    assert result.metrics["filtered/ndcg@2"] == pytest.approx(0.5 / np.log2(3))
    assert result.metrics["unfiltered/hr@2"] == 0
    assert result.metrics["filtered/coverage@1"] == 2 / 5  # Lists [2] and [3].
    assert result.metrics["unfiltered/coverage@2"] == 4 / 5  # Lists [0, 1] and [4, 3].


@pytest.mark.parametrize("num_items", [2, 101, 1000])
def test_a_constant_scorer_ranks_every_target_in_the_middle(num_items):
    cases = cases_of([[0]] * 4, [1] * 4, num_items)
    result = RankingEvaluator(cases).evaluate(lambda histories: np.zeros((4, num_items)))
    assert result.ranks["unfiltered"].tolist() == [(num_items - 1) // 2] * 4
    assert result.ranks["filtered"].tolist() == [(num_items - 2) // 2] * 4


def test_a_target_that_was_seen_before_stays_in_the_filtered_ranking():
    cases = cases_of([[0, 1, 2]], [1], num_items=4)
    result = RankingEvaluator(cases).evaluate(lambda histories: np.array([[9.0, 5.0, 8.0, 7.0]]))
    assert result.ranks["filtered"].tolist() == [1]  # Only item 3 is above it.


def test_an_item_seen_twice_is_filtered_once():
    cases = cases_of([[0, 0, 0]], [1], num_items=4)
    result = RankingEvaluator(cases).evaluate(lambda histories: np.array([[9.0, 5.0, 8.0, 7.0]]))
    assert result.ranks["filtered"].tolist() == [2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.booleans())
def test_ranks_agree_with_a_brute_force_sort(seed, batch_size, with_ties):
    cases, generator = random_cases(seed)
    scores = generator.integers(4, size=(23, 17)).astype(float) if with_ties else generator.normal(size=(23, 17))
    result = RankingEvaluator(cases, batch_size=batch_size).evaluate(TableScorer(scores))
    for case, target in enumerate(cases.targets):
        seen = set(cases.histories.history(case).tolist())
        assert result.ranks["unfiltered"][case] == brute_force_rank(scores[case], target)
        assert result.ranks["filtered"][case] == brute_force_rank(scores[case], target, removed=seen)


@given(st.integers(0, 2**32 - 1), st.integers(1, 17))
def test_filtered_ndcg_agrees_with_scikit_learn_on_masked_scores(seed, k):
    cases, generator = random_cases(seed)
    scores = generator.normal(size=(23, 17))
    masked = scores.copy()
    for case, target in enumerate(cases.targets):
        seen = cases.histories.history(case)
        masked[case, seen[seen != target]] = -1e9
    result = RankingEvaluator(cases, ks=(k,)).evaluate(TableScorer(scores))
    assert result.metrics[f"filtered/ndcg@{k}"] == pytest.approx(ndcg_score(np.eye(17)[cases.targets], masked, k=k))


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_coverage_agrees_with_lists_made_by_sorting(seed, k):
    cases, generator = random_cases(seed)
    scores = generator.normal(size=(23, 17))
    lists = np.full((23, k), -1)
    for case in range(23):
        seen = set(cases.histories.history(case).tolist())
        best = [item for item in np.argsort(-scores[case]) if item not in seen][:k]
        lists[case, : len(best)] = best
    result = RankingEvaluator(cases, ks=(k,), batch_size=5).evaluate(TableScorer(scores))
    assert result.metrics[f"filtered/coverage@{k}"] == pytest.approx(coverage(lists, 17))
    assert result.metrics[f"unfiltered/coverage@{k}"] == pytest.approx(coverage(np.argsort(-scores)[:, :k], 17))


def test_numpy_and_torch_scores_of_any_type_give_the_same_result():
    cases, generator = random_cases(0)
    scores = generator.integers(100, size=(23, 17))
    expected = RankingEvaluator(cases).evaluate(TableScorer(scores.astype(np.float64))).metrics
    for same in (scores, scores.astype(np.float32), torch.tensor(scores), torch.tensor(scores).bfloat16()):
        assert RankingEvaluator(cases).evaluate(TableScorer(same)).metrics == expected


def test_scores_are_left_as_they_were():
    cases, generator = random_cases(0)
    scores = torch.tensor(generator.normal(size=(23, 17)), requires_grad=True)
    before = scores.detach().clone()
    RankingEvaluator(cases).evaluate(lambda histories: scores)
    assert torch.equal(scores, before)


def test_an_item_scored_minus_infinity_is_in_no_list():
    cases = cases_of([[0], [0]], [1, 2], num_items=3)
    scores = np.array([[3.0, 2.0, -np.inf], [3.0, 2.0, -np.inf]])
    result = RankingEvaluator(cases, ks=(3,)).evaluate(lambda histories: scores)
    assert result.metrics["unfiltered/coverage@3"] == pytest.approx(2 / 3)
    assert result.ranks["filtered"].tolist() == [0, 1]


def test_a_scorer_may_return_a_broadcast_view():
    cases = cases_of([[0], [1]], [2, 2], num_items=3)
    result = RankingEvaluator(cases).evaluate(lambda histories: np.broadcast_to(np.array([1.0, 2.0, 3.0]), (2, 3)))
    assert result.ranks["unfiltered"].tolist() == [0, 0]


def test_the_scorer_sees_the_histories_and_never_more_than_a_batch():
    cases, _ = random_cases(3)
    batches = []

    def score(histories):
        batches.append([histories.history(row).tolist() for row in range(histories.num_users)])
        return np.zeros((histories.num_users, histories.num_items))

    RankingEvaluator(cases, batch_size=10).evaluate(score)
    assert [len(batch) for batch in batches] == [10, 10, 3]
    assert [history for batch in batches for history in batch] == [
        cases.histories.history(case).tolist() for case in range(23)
    ]


def test_nan_scores_are_an_error_that_names_the_user():
    cases = cases_of([[0], [1], [2]], [2, 2, 0], num_items=3, users=[4, 7, 9])
    scores = np.zeros((3, 3))
    scores[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"NaN for 1 of histories 0:3.*row 1 of the evaluation set, user index 7"):
        RankingEvaluator(cases).evaluate(lambda histories: scores)


def test_scores_of_another_shape_are_an_error_that_names_both_shapes():
    cases = cases_of([[0], [1]], [2, 2], num_items=3)
    with pytest.raises(ValueError, match=r"shape \(2, 4\), expected \(histories, items\) = \(2, 3\)"):
        RankingEvaluator(cases).evaluate(lambda histories: np.zeros((2, 4)))


def test_an_empty_evaluation_set_is_refused():
    with pytest.raises(ValueError, match="no cases"):
        RankingEvaluator(cases_of([], [], num_items=3))


def test_the_result_survives_json_with_its_ranks(tmp_path):
    cases, generator = random_cases(1)
    result = RankingEvaluator(cases).evaluate(TableScorer(generator.normal(size=(23, 17))))
    result.to_json(tmp_path / "result.json", with_ranks=True)
    read = json.loads((tmp_path / "result.json").read_text())
    assert read["metrics"] == result.metrics
    assert read["ranks"]["filtered"] == result.ranks["filtered"].tolist()
    assert "ranks" not in json.loads(result.to_json())


def test_with_a_very_large_catalog_fewer_cases_are_scored_at_a_time():
    cases = cases_of([[0]] * 100, [1] * 100, num_items=2**21)
    seen = []

    def score(histories):
        seen.append(histories.num_users)
        return torch.zeros(histories.num_users, histories.num_items)

    RankingEvaluator(cases, ks=(10,)).evaluate(score)
    assert max(seen) * 2**21 <= 2**26
    assert sum(seen) == 100
