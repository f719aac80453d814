"""Diverse lists: against maximal marginal relevance done by hand, and at the ends of the scale."""

import math

import pytest
import torch
from llm4rec.modeling_llm4rec.diversity import diversify
from llm4rec.modeling_llm4rec.recommendation import RecommendOutput


def candidates(items, scores):
    return RecommendOutput(torch.tensor(items), torch.tensor(scores))


def by_hand(items, scores, vectors, k, strength):
    """Maximal marginal relevance of one user, as the formula says it."""
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    left, chosen = list(zip(items, scores, strict=True)), []
    while left and len(chosen) < k:
        gains = [
            (1 - strength) * math.exp(score - scores[0])
            - strength * max((float(unit[item] @ unit[j]) for j in chosen), default=-1.0)
            for item, score in left
        ]
        chosen.append(left.pop(max(range(len(left)), key=gains.__getitem__))[0])
    return chosen


@pytest.mark.parametrize("strength", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_order_is_that_of_maximal_marginal_relevance(strength):
    torch.manual_seed(0)
    vectors = torch.randn(30, 5)
    items = [torch.randperm(30)[:12].tolist() for _ in range(4)]
    scores = torch.randn(4, 12).sort(descending=True).values.tolist()
    out = diversify(candidates(items, scores), vectors, 6, strength)
    expected = [by_hand(i, s, vectors, 6, strength) for i, s in zip(items, scores, strict=True)]
    assert out.items.tolist() == expected


def test_scores_stay_with_their_items():
    out = diversify(candidates([[4, 2, 7]], [[3.0, 2.0, 1.0]]), torch.randn(8, 3), 3, 1.0)
    assert dict(zip(out.items[0].tolist(), out.scores[0].tolist(), strict=True)) == {4: 3.0, 2: 2.0, 7: 1.0}


def test_the_twin_of_the_best_item_gives_way():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    ranked = candidates([[0, 1, 2]], [[2.0, 1.9, 1.0]])
    assert diversify(ranked, vectors, 2, 0.0).items.tolist() == [[0, 1]]
    assert diversify(ranked, vectors, 2, 0.5).items.tolist() == [[0, 2]]


def test_no_item_comes_twice_where_candidates_run_out():
    ranked = candidates([[3, 1, -1], [2, -1, -1]], [[2.0, 1.0, -math.inf], [0.0, -math.inf, -math.inf]])
    out = diversify(ranked, torch.randn(5, 2), 4, 0.5)
    assert out.items.tolist() == [[3, 1, -1, -1], [2, -1, -1, -1]]
    assert out.scores[1].tolist() == [0.0, -math.inf, -math.inf, -math.inf]


def test_a_user_without_candidates_gets_none():
    out = diversify(candidates([[-1, -1]], [[-math.inf, -math.inf]]), torch.randn(5, 2), 2, 0.5)
    assert out.items.tolist() == [[-1, -1]]


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_a_strength_outside_its_range_is_refused(strength):
    with pytest.raises(ValueError, match="from 0 \\(off\\) to 1"):
        diversify(candidates([[0, 1]], [[1.0, 0.0]]), torch.randn(2, 2), 1, strength)
