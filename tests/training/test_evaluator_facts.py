"""What the evaluator adds when it knows item counts, categories, vectors and groups: sums over batches of lists."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.splits import EvaluationSet
from llm4rec.training.evaluation import diversity, groups, popularity_bias
from llm4rec.training.evaluation.calibration import miscalibration
from llm4rec.training.evaluation.categories import category_matrix
from llm4rec.training.evaluation.propensity import debiased_mean, propensity
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
from llm4rec.training.evaluation.serendipity import serendipity

CASES, ITEMS, KS = 23, 17, (2, 5)


class World:
    """Random histories without repeats, targets, scores and facts."""

    def __init__(self, seed):
        generator = np.random.default_rng(seed)
        histories = [generator.permutation(ITEMS)[: generator.integers(1, 12)] for _ in range(CASES)]
        offsets = np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64)
        self.events = Interactions(offsets, np.concatenate(histories).astype(np.int32), ITEMS)
        self.cases = EvaluationSet(np.arange(CASES) * 2, generator.integers(ITEMS, size=CASES), self.events)
        self.scores = generator.normal(size=(CASES, ITEMS))
        names = [generator.choice(list("abcde"), size=generator.integers(0, 4)).tolist() for _ in range(ITEMS)]
        self.facts = {
            "item_counts": generator.integers(9, size=ITEMS),
            "item_categories": [*names[:-1], None],
            "item_vectors": generator.normal(size=(ITEMS, 4)).astype(np.float32),
            "user_groups": generator.choice(["x", "y", "z"], size=2 * CASES),
            "item_groups": np.arange(ITEMS) % 3,
        }

    def evaluate(self, batch_size=512, ks=KS, **facts):
        start = 0

        def score(histories):
            nonlocal start
            start += histories.num_users
            return self.scores[start - histories.num_users : start]

        return RankingEvaluator(self.cases, ks=ks, batch_size=batch_size, **facts).evaluate(score)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_streamed_metrics_are_the_means_over_the_kept_lists(seed):
    world = World(seed)
    counts, vectors = world.facts["item_counts"], world.facts["item_vectors"]
    result = world.evaluate(batch_size=5, keep_lists=True, **world.facts)
    categories = category_matrix(world.facts["item_categories"])
    item_groups, user_groups = world.facts["item_groups"], world.facts["user_groups"][world.cases.users]
    owned = [counts[world.events.history(case)].mean() for case in range(CASES)]
    for protocol, lists in result.lists.items():
        for k in KS:
            cut = lists[:, :k]
            exposure = np.bincount(cut[cut >= 0], minlength=ITEMS)
            ndcg = result.values(f"{protocol}/ndcg@{k}")
            popular = np.nanmean(popularity_bias.average_popularity(cut, counts))
            shown = groups.group_exposure(cut, item_groups, 3)
            by_user = np.stack([shown[user_groups == name].sum(axis=0) for name in sorted(set(user_groups))])
            expected = {
                "coverage": (exposure > 0).mean(),
                "gini": popularity_bias.gini(exposure),
                "novelty": np.nanmean(popularity_bias.novelty(cut, counts)),
                "popularity": popular,
                "popularity_lift": popular / np.mean(owned) - 1,
                "category_diversity": np.nanmean(
                    diversity.intra_list_diversity(diversity.jaccard_similarity(cut, categories))
                ),
                "vector_diversity": np.nanmean(
                    diversity.intra_list_diversity(diversity.cosine_similarity(cut, vectors))
                ),
                "miscalibration": np.nanmean(miscalibration(cut, world.events, categories)),
                "debiased_ndcg": debiased_mean(ndcg, propensity(counts)[world.cases.targets]),
                "serendipity": serendipity(result.ranks[protocol], result.popularity_ranks[protocol], k).mean(),
                "ndcg_gap": np.ptp([ndcg[user_groups == name].mean() for name in set(user_groups)]),
                "exposure_ratio": groups.exposure_ratio(shown.sum(axis=0), np.bincount(item_groups)),
                "exposure_gap": groups.exposure_gap(by_user),
            }
            # What no case defines is left out of the metrics.
            expected = {name: value for name, value in expected.items() if not np.isnan(value)}
            found = {name: result.metrics[f"{protocol}/{name}@{k}"] for name in expected}
            assert found == pytest.approx(expected, abs=1e-9)


def test_the_batch_size_changes_nothing():
    world = World(0)
    whole, batches = (world.evaluate(batch_size=size, **world.facts) for size in (512, 4))
    assert whole.metrics == pytest.approx(batches.metrics, abs=1e-12)
    assert whole.groups.keys() == batches.groups.keys()


def test_popularity_ranks_are_those_of_a_popularity_scorer():
    world = World(1)
    result = world.evaluate(item_counts=world.facts["item_counts"])
    world.scores = np.tile(world.facts["item_counts"].astype(float), (CASES, 1))
    popularity = world.evaluate(item_counts=world.facts["item_counts"])
    for protocol, ranks in popularity.ranks.items():
        assert result.popularity_ranks[protocol].tolist() == ranks.tolist()
        assert popularity.metrics[f"{protocol}/serendipity@5"] == 0


def test_accuracy_of_each_group_of_users_is_reported():
    world = World(2)
    result = world.evaluate(user_groups=world.facts["user_groups"])
    labels = world.facts["user_groups"][world.cases.users]
    assert sum(group["cases"] for group in result.groups.values()) == CASES
    for name, group in result.groups.items():
        expected = result.values("filtered/hr@5")[labels == name].mean()
        assert group["filtered/hr@5"] == pytest.approx(expected)


def test_without_facts_no_metric_asks_for_them_and_no_list_is_kept():
    result = World(3).evaluate()
    names = {name.split("/")[1].split("@")[0] for name in result.metrics}
    assert names == {"hr", "recall", "precision", "ndcg", "mrr", "map", "coverage", "gini"}
    assert result.lists is None
    assert result.popularity_ranks is None


def test_a_metric_that_no_case_defines_is_left_out():
    world = World(4)
    result = world.evaluate(ks=(1,), item_vectors=world.facts["item_vectors"], item_categories=[None] * ITEMS)
    assert not any("diversity" in name or "miscalibration" in name for name in result.metrics)


def test_kept_lists_hold_the_best_items_and_nothing_seen():
    world = World(5)
    lists = world.evaluate(keep_lists=True).lists
    assert lists["unfiltered"].tolist() == np.argsort(-world.scores, axis=1)[:, :5].tolist()
    for case, items in enumerate(lists["filtered"]):
        assert not set(items.tolist()) & set(world.events.history(case).tolist())


def test_item_vectors_may_be_a_torch_tensor_of_any_type():
    world = World(6)
    vectors = torch.tensor(world.facts["item_vectors"]).bfloat16().requires_grad_()
    found = world.evaluate(item_vectors=vectors).metrics["filtered/vector_diversity@5"]
    expected = world.evaluate(item_vectors=vectors.detach().float().numpy()).metrics["filtered/vector_diversity@5"]
    assert found == expected


@pytest.mark.parametrize("name", ["item_counts", "item_categories", "item_vectors", "item_groups"])
def test_facts_about_another_number_of_items_are_refused(name):
    world = World(7)
    with pytest.raises(ValueError, match=rf"{name} has 16 rows, expected one for each of the 17 items"):
        world.evaluate(**{name: world.facts[name][:-1]})


def test_user_groups_are_of_the_users_not_of_the_cases():
    world = World(8)
    with pytest.raises(ValueError, match=r"23 labels, but a case is of user index 44"):
        world.evaluate(user_groups=["x"] * CASES)
