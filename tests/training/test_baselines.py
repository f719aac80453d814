"""Popularity and ItemKNN against counts by hand and dense scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm4rec.training.baselines.item_knn import ItemKNN
from llm4rec.training.baselines.popularity import Popularity
from llm4rec.training.data.prepared import Interactions
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import cosine_similarity


def interactions_of(histories, num_items):
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64)
    return Interactions(offsets, np.array([item for h in histories for item in h], dtype=np.int32), num_items)


histories_strategy = st.lists(st.lists(st.integers(0, 8), max_size=9), min_size=1, max_size=9)


def test_popularity_counts_events_and_ranks_alike_for_everyone():
    model = Popularity().fit(interactions_of([[0, 1], [1, 1], [2]], num_items=4))
    assert model.score(interactions_of([[3], []], num_items=4)).tolist() == [[1, 3, 1, 0]] * 2


def test_item_knn_of_a_small_world_by_hand():
    # Users of item 0: {a, b}; of item 1: {a, b, c}; of item 2: {c}; nobody had item 3.
    model = ItemKNN().fit(interactions_of([[0, 1], [1, 0, 0], [1, 2]], num_items=4))
    scores = model.score(interactions_of([[0], [1], [0, 2], [3]], num_items=4))
    to_0, to_2 = 2 / np.sqrt(2 * 3), 1 / np.sqrt(3)
    expected = [[0, to_0, 0, 0], [to_0, 0, to_2, 0], [0, to_0 + to_2, 0, 0], [0, 0, 0, 0]]
    assert scores == pytest.approx(np.array(expected), rel=1e-6)
    assert scores.dtype == np.float32


def test_recency_weighs_an_item_by_its_latest_event():
    model = ItemKNN(recency=0.5).fit(interactions_of([[0, 1], [2, 3], [4, 5]], num_items=6))
    scores = model.score(interactions_of([[0, 2, 4, 2]], num_items=6))
    assert scores[0].tolist() == [0, 0.125, 0, 1, 0, 0.5]


@given(histories_strategy, histories_strategy)
def test_item_knn_agrees_with_dense_cosine_similarity(train, histories):
    owned = np.array([[item in history for item in range(9)] for history in train], dtype=float)
    similarity = cosine_similarity(owned.T)
    np.fill_diagonal(similarity, 0)
    seen = np.array([[item in history for item in range(9)] for history in histories], dtype=float)
    scores = ItemKNN().fit(interactions_of(train, 9)).score(interactions_of(histories, 9))
    np.testing.assert_allclose(scores, seen @ similarity, rtol=1e-5, atol=1e-6)


@given(histories_strategy, histories_strategy)
def test_recency_of_one_is_no_recency(train, histories):
    train, histories = interactions_of(train, 9), interactions_of(histories, 9)
    np.testing.assert_array_equal(
        ItemKNN(recency=1.0).fit(train).score(histories), ItemKNN().fit(train).score(histories)
    )


@pytest.mark.parametrize("model", [Popularity(), ItemKNN()])
def test_scoring_before_fitting_says_what_to_call(model):
    with pytest.raises(NotFittedError, match=r"\.fit\(train\) before score"):
        model.score(interactions_of([[0]], num_items=3))


@pytest.mark.parametrize("model", [Popularity(), ItemKNN()])
def test_histories_of_another_catalog_are_refused(model):
    model.fit(interactions_of([[0, 1]], num_items=3))
    with pytest.raises(ValueError, match=r"catalog of 3 items.*one of 4"):
        model.score(interactions_of([[0]], num_items=4))


@pytest.mark.parametrize("recency", [0, -0.5, 1.5])
def test_a_recency_outside_its_range_is_refused(recency):
    with pytest.raises(ValueError, match=r"expected a decay in \(0, 1\]"):
        ItemKNN(recency=recency)
