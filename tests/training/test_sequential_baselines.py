"""Recent popularity, transitions and EASE against answers worked by hand and other ways of computing them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm4rec.training.baselines.ease import EASE
from llm4rec.training.baselines.recent_popularity import RecentPopularity
from llm4rec.training.baselines.transitions import Transitions
from llm4rec.training.data.prepared import Interactions
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge


def interactions_of(histories, num_items, timestamps=None):
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64)
    items = np.array([item for h in histories for item in h], dtype=np.int32)
    times = None if timestamps is None else np.array([time for h in timestamps for time in h], dtype=np.int64)
    return Interactions(offsets, items, num_items, timestamps=times)


histories_strategy = st.lists(st.lists(st.integers(0, 8), max_size=9), min_size=1, max_size=9)


def test_recent_popularity_counts_the_last_days():
    day = 86_400
    train = interactions_of([[0, 1], [0, 2, 1]], 4, timestamps=[[0, 9 * day], [day, 10 * day - 1, 10 * day]])
    # Less than one day before the end: item 2 a second before, item 1 at the end; a day before is out.
    model = RecentPopularity(days=1).fit(train)
    assert model.score(interactions_of([[3], []], 4)).tolist() == [[0, 1, 1, 0]] * 2


def test_recent_popularity_without_times_counts_the_last_events_of_each_user():
    for times in (None, [[-1] * 4, [-1], []]):
        train = interactions_of([[0, 0, 1, 2], [3], []], 5, times)
        assert RecentPopularity(last_events=2).fit(train).score(interactions_of([[4]], 5)).tolist() == [
            [0, 1, 1, 1, 0]
        ]


def test_an_event_of_unknown_time_is_not_recent_where_others_have_times():
    train = interactions_of([[0, 1]], 2, timestamps=[[-1, 5]])
    assert RecentPopularity().fit(train).score(interactions_of([[0]], 2)).tolist() == [[0, 1]]


def test_transitions_of_a_small_world_by_hand():
    # Owners: item 0 {a, b}, item 1 {a, b}, item 2 {a}. Steps: a 0→1 1, 1→2 1, 0→2 1/2; b 1→0 1.
    model = Transitions(recency=0.5).fit(interactions_of([[0, 1, 2], [1, 0]], num_items=4))
    scores = model.score(interactions_of([[0], [1], [0, 1], [2], [3]], num_items=4))
    root = np.sqrt(2)
    after_0, after_1 = np.array([0, 1 / 2, 0.5 / root, 0]), np.array([1 / 2, 0, 1 / root, 0])
    expected = np.stack([after_0, after_1, after_1 + after_0 / 2, np.zeros(4), np.zeros(4)])
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert scores.dtype == np.float32


def test_transitions_end_at_the_window_and_at_the_end_of_a_history():
    train = interactions_of([[0, 1, 2, 3], [4]], num_items=5)
    scores = Transitions(window=2).fit(train).score(interactions_of([[0], [3]], num_items=5))
    np.testing.assert_allclose(scores, [[0, 1, 0.5, 0, 0], [0, 0, 0, 0, 0]])


@given(histories_strategy, st.integers(1, 6))
def test_transitions_agree_with_counting_pairs_one_by_one(train, window):
    expected = np.zeros((9, 9))
    for history in train:
        for start, first in enumerate(history):
            for distance, second in enumerate(history[start + 1 : start + 1 + window], start=1):
                expected[first, second] += 1 / distance
    owners = np.array([max(1, sum(item in history for history in train)) for item in range(9)])
    expected /= np.sqrt(owners[:, None] * owners[None])
    model = Transitions(window=window).fit(interactions_of(train, 9))
    scores = model.score(interactions_of([[item] for item in range(9)], 9))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_ease_of_two_items_by_hand():
    # Gram [[3, 2], [2, 2]], l2 1: P = [[3, -2], [-2, 4]] / 8, so B_01 = 2/4 and B_10 = 2/3.
    model = EASE(l2=1).fit(interactions_of([[0, 1], [1, 0], [0]], num_items=2))
    np.testing.assert_allclose(model.score(interactions_of([[0], [1]], 2)), [[0, 1 / 2], [2 / 3, 0]], rtol=1e-6)


@given(histories_strategy, histories_strategy, st.floats(0.5, 50))
def test_ease_agrees_with_a_ridge_regression_of_each_item_on_the_others(train, histories, l2):
    owned = np.array([[item in history for item in range(9)] for history in train], dtype=float)
    weights = np.zeros((9, 9))
    for item in range(9):
        others = np.arange(9) != item
        ridge = Ridge(alpha=l2, fit_intercept=False, solver="cholesky").fit(owned[:, others], owned[:, item])
        weights[others, item] = ridge.coef_
    seen = np.array([[item in history for item in range(9)] for history in histories], dtype=float)
    scores = EASE(l2=l2).fit(interactions_of(train, 9)).score(interactions_of(histories, 9))
    np.testing.assert_allclose(scores, seen @ weights, rtol=1e-3, atol=1e-4)


def test_ease_with_recency_weighs_the_history_by_age():
    train = interactions_of([[0, 1], [2, 1], [0, 2]], num_items=3)
    model = EASE(l2=1, recency=0.5).fit(train)
    alone = EASE(l2=1).fit(train).score(interactions_of([[0], [2]], 3))
    np.testing.assert_allclose(model.score(interactions_of([[0, 2]], 3))[0], alone[0] / 2 + alone[1], rtol=1e-6)


def test_ease_refuses_a_catalog_that_would_not_fit_and_says_how_much_it_needs():
    train = interactions_of([[0, 999]], num_items=1000)
    with pytest.raises(MemoryError, match=r"1,000 x 1,000 items, 0\.0 GB; max_gigabytes is 0\.007.*Transitions"):
        EASE(max_gigabytes=0.007).fit(train)


@pytest.mark.parametrize("model", [RecentPopularity(), Transitions(), EASE()])
def test_scoring_before_fitting_says_what_to_call(model):
    with pytest.raises(NotFittedError, match=r"\.fit\(train\) before score"):
        model.score(interactions_of([[0]], num_items=3))


@pytest.mark.parametrize("model", [RecentPopularity(), Transitions(), EASE()])
def test_no_events_at_all_score_every_item_alike(model):
    scores = model.fit(interactions_of([[], []], num_items=3)).score(interactions_of([[1], []], num_items=3))
    assert scores.tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecentPopularity(days=0), "days above 0"),
        (lambda: RecentPopularity(last_events=0), "at least one event"),
        (lambda: Transitions(window=0), "at least 1 step"),
        (lambda: Transitions(recency=0), r"decay in \(0, 1\]"),
        (lambda: EASE(l2=0), "above 0"),
        (lambda: EASE(recency=2), r"decay in \(0, 1\]"),
    ],
)
def test_arguments_outside_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
