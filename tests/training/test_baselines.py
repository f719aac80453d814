"""Popularity and ItemKNN against counts by hand and dense scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm4rec.training.baselines.content_neighbours import ContentNeighbours
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


def test_an_item_speaks_only_for_its_most_similar_neighbours():
    train = interactions_of([[0, 1], [0, 1], [0, 2], [3, 2]], num_items=4)
    to_1, to_2 = 2 / np.sqrt(3 * 2), 1 / np.sqrt(3 * 2)
    history = interactions_of([[0]], num_items=4)
    assert ItemKNN().fit(train).score(history)[0] == pytest.approx([0, to_1, to_2, 0])
    assert ItemKNN(neighbours=1).fit(train).score(history)[0] == pytest.approx([0, to_1, 0, 0])


@given(histories_strategy, histories_strategy)
def test_as_many_neighbours_as_items_are_all_of_them(train, histories):
    train, histories = interactions_of(train, 9), interactions_of(histories, 9)
    whole, cut = (ItemKNN(neighbours=n).fit(train).score(histories) for n in (None, 9))
    np.testing.assert_array_equal(cut, whole)


def test_content_neighbours_of_a_small_world_by_hand():
    vectors = np.array([[2, 0], [0, 3], [1, 1], [0, 0]])
    model = ContentNeighbours(vectors, recency=0.5).fit(interactions_of([[0]], num_items=4))
    scores = model.score(interactions_of([[0], [0, 1], [3], []], num_items=4))
    root = np.sqrt(0.5)
    both = np.array([0.5, 1]) / np.sqrt(1.25)
    expected = [[1, 0, root, 0], [*both, both.sum() * root, 0], [0] * 4, [0] * 4]
    assert scores == pytest.approx(np.array(expected), abs=1e-6)
    assert scores.dtype == np.float32


def test_centring_takes_out_what_all_items_share():
    vectors = np.array([[9, 1, 0], [9, -1, 0], [9, 0, 1], [9, 0, -1]])
    train = interactions_of([[0]], num_items=4)
    history = interactions_of([[0]], num_items=4)
    assert ContentNeighbours(vectors).fit(train).score(history).min() > 0.9
    centred = ContentNeighbours(vectors, centred=True).fit(train).score(history)
    assert centred == pytest.approx(np.array([[1, -1, 0, 0]]), abs=1e-6)


def test_content_neighbours_need_a_vector_for_every_item():
    with pytest.raises(ValueError, match="vectors has 3 rows, expected one for each of 4 items"):
        ContentNeighbours(np.eye(3)).fit(interactions_of([[0]], num_items=4))


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
