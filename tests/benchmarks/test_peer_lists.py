"""Lists that another library hands back are judged as its scores would have been."""

import numpy as np
import polars as pl
import pytest
from llm4rec.benchmarks.peers.exchange import ListScorer, export_events
from llm4rec.training.data.splits import leave_one_out
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator


@pytest.fixture
def split(shop):
    return leave_one_out(shop.interactions)


def lists_of(scores, cases, length):
    """What a peer writes: the best of all items, then the best unseen ones that are not among them."""
    rows = []
    for case, user in enumerate(cases.users):
        best = np.argsort(-scores[case], kind="stable")
        seen = set(cases.histories.history(case).tolist())
        unseen = [item for item in best if item not in seen]
        both = list(dict.fromkeys([*best[:length], *unseen[:length]]))
        rows += [(int(user), int(item), place) for place, item in enumerate(both)]
    return pl.DataFrame(rows, schema=["user", "item", "place"], orient="row")


def test_lists_give_the_metrics_of_the_scores_they_were_made_from(split):
    cases = split.test
    scores = np.random.default_rng(0).permuted(np.tile(np.arange(60.0, dtype=np.float32), (len(cases), 1)), axis=1)
    cursor = iter(np.array_split(scores, np.arange(32, len(cases), 32)))
    whole = RankingEvaluator(cases, batch_size=32).evaluate(lambda histories: next(cursor))
    scorer = ListScorer(lists_of(scores, cases, 25).sample(fraction=1, shuffle=True, seed=1), cases)
    listed = RankingEvaluator(cases, batch_size=32).evaluate(scorer)
    assert listed.metrics == pytest.approx(whole.metrics)


def test_a_user_without_a_list_is_a_miss(split):
    lists = pl.DataFrame(
        {"user": [], "item": [], "place": []}, schema=dict.fromkeys(("user", "item", "place"), pl.Int32)
    )
    result = RankingEvaluator(split.test, ks=(5,)).evaluate(ListScorer(lists, split.test))
    assert result.metrics["filtered/hr@5"] == result.metrics["unfiltered/hr@5"] == 0


def test_lists_with_unknown_or_repeated_items_are_refused(split):
    user = int(split.test.users[0])
    with pytest.raises(ValueError, match="outside the catalog of 60"):
        ListScorer(pl.DataFrame({"user": [user], "item": [60], "place": [0]}), split.test)
    with pytest.raises(ValueError, match="in a user's list twice"):
        ListScorer(pl.DataFrame({"user": [user] * 2, "item": [5, 5], "place": [0, 1]}), split.test)


def test_a_peer_is_given_every_event_before_the_test_target_and_never_the_target(split, shop, tmp_path):
    export_events(split, tmp_path / "events.parquet")
    events = pl.read_parquet(tmp_path / "events.parquet")
    items = {user: rows["item"].to_list() for (user,), rows in events.group_by("user", maintain_order=True)}
    for case, user in enumerate(split.test.users):
        assert items[user] == split.test.histories.history(case).tolist()
    held_out = events.filter("held_out")
    assert held_out["item"].to_list() == split.validation.targets.tolist()
    assert len(events) == len(shop.interactions.items) - len(split.test)
