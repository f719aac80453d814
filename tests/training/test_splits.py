"""Splits: who may be learned from, what is asked, and what is known at that moment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.splits import cold_items, global_time, leave_one_out, new_and_known


def interactions_of(histories, times=None, ratings=None, num_items=50):
    def joined(values, dtype):
        return None if values is None else np.array([x for row in values for x in row], dtype=dtype)

    return Interactions(
        offsets=np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64),
        items=joined(histories, np.int32),
        num_items=num_items,
        ratings=joined(ratings, np.float32),
        timestamps=joined(times, np.int64),
    )


def histories_of(interactions):
    return [interactions.history(user).tolist() for user in range(interactions.num_users)]


histories_strategy = st.lists(st.lists(st.integers(0, 49), max_size=7), min_size=1, max_size=12)


def test_take_returns_the_first_events_of_the_users_asked_for_in_their_order():
    data = interactions_of([[1, 2, 3], [], [4, 5]], times=[[10, 20, 30], [], [40, 50]])
    taken = data.take([2, 0, 1, 0], first=[1, 3, 0, 2])
    assert histories_of(taken) == [[4], [1, 2, 3], [], [1, 2]]
    assert taken.timestamps.tolist() == [40, 10, 20, 30, 10, 20]


def test_rows_is_a_view_of_consecutive_users():
    data = interactions_of([[1, 2, 3], [], [4, 5], [6]])
    rows = data.rows(1, 3)
    assert histories_of(rows) == [[], [4, 5]]
    assert np.shares_memory(rows.items, data.items)


def test_leave_one_out_tests_on_the_last_event_and_validates_on_the_one_before():
    data = interactions_of([[1, 2, 3, 4], [5, 6], [7, 8, 9]], ratings=[[1, 2, 3, 4], [5, 5], [1, 1, 1]])
    split = leave_one_out(data)
    assert histories_of(split.train) == [[1, 2], [5, 6], [7]]
    assert split.validation.users.tolist() == [0, 2]
    assert split.validation.targets.tolist() == [3, 8]
    assert histories_of(split.validation.histories) == [[1, 2], [7]]
    assert split.test.targets.tolist() == [4, 9]
    assert histories_of(split.test.histories) == [[1, 2, 3], [7, 8]]
    assert split.test.histories.ratings.tolist() == [1, 2, 3, 1, 1]


def test_leave_one_out_says_what_to_do_when_all_users_are_short():
    with pytest.raises(ValueError, match=r"No user has 3 events \(the longest history has 2\).*histories, or split"):
        leave_one_out(interactions_of([[1, 2], [3]]))
    with pytest.raises(ValueError, match=r"No user has 4 events .* lower min_events, or split by time"):
        leave_one_out(interactions_of([[1, 2, 3]]), min_events=4)


def test_leave_one_out_refuses_fewer_than_three_events():
    with pytest.raises(ValueError, match="expected at least 3"):
        leave_one_out(interactions_of([[1, 2, 3]]), min_events=2)


@given(histories_strategy, st.integers(3, 5))
def test_leave_one_out_history_and_target_are_a_prefix_of_the_users_events(histories, min_events):
    data = interactions_of(histories)
    if max(len(h) for h in histories) < min_events:
        return
    split = leave_one_out(data, min_events)
    for cases, held_out in ((split.validation, 2), (split.test, 1)):
        assert cases.users.tolist() == [u for u, h in enumerate(histories) if len(h) >= min_events]
        for user, target, history in zip(cases.users, cases.targets, histories_of(cases.histories), strict=True):
            assert [*history, target] == histories[user][: len(histories[user]) - held_out + 1]
    assert histories_of(split.train) == [h[:-2] if len(h) >= min_events else h for h in histories]


def test_cold_items_are_asked_for_in_the_test_and_nowhere_else():
    data = interactions_of(
        [[1, 2, 3, 4], [5, 4, 6, 4], [4, 2, 4], [1, 2, 4, 3]], times=[[1, 2, 3, 4]] * 2 + [[1, 2, 3]] + [[1, 2, 3, 4]]
    )
    seed = next(seed for seed in range(99) if cold_items_of(data, seed) == [4])
    split = cold_items(data, share=0.15, seed=seed)
    assert histories_of(split.train) == [[1, 2], [5], [], [1, 2]]
    assert split.validation.users.tolist() == [0, 1]  # user 2 has no history left, user 3 was asked for item 4
    assert histories_of(split.validation.histories) == [[1, 2], [5]]
    assert split.validation.without_history == 1
    assert split.test.users.tolist() == [0, 1, 2]
    assert split.test.targets.tolist() == [4, 4, 4]
    assert histories_of(split.test.histories) == [[1, 2, 3], [5, 6], [2]]
    assert split.test.histories.timestamps.tolist() == [1, 2, 3, 1, 3, 2]
    assert split.train.num_items == data.num_items


def test_new_and_known_share_the_cases_and_neither_reads_a_new_item():
    data = interactions_of([[1, 2, 3, 4], [5, 4, 6, 3], [4, 2, 4], [1, 2, 4, 3]])
    cold = np.array([4])
    new, known = new_and_known(data, cold, "test")
    assert (new.users.tolist(), new.targets.tolist()) == ([0, 2], [4, 4])
    assert histories_of(new.histories) == [[1, 2, 3], [2]]
    assert (known.users.tolist(), known.targets.tolist()) == ([1, 3], [3, 3])
    assert histories_of(known.histories) == [[5, 6], [1, 2]]
    new, known = new_and_known(data, cold, "validation")
    assert (new.users.tolist(), known.users.tolist()) == ([3], [0, 1])  # user 2 has nothing but item 4 before
    assert histories_of(known.histories) == [[1, 2], [5]]


def cold_items_of(data, seed):
    try:
        return cold_items(data, share=0.15, seed=seed).cold.tolist()
    except ValueError:
        return []


def test_the_seed_decides_which_items_are_cold_and_the_share_how_many():
    data = interactions_of([list(range(start, start + 10)) for start in range(0, 40, 2)])
    first, again, other = (cold_items(data, share=0.2, seed=seed).cold.tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == round(0.2 * 48)


def test_cold_items_says_what_to_do_when_nothing_is_left():
    with pytest.raises(ValueError, match=r"leaves (train|validation|test) empty. Choose another share or seed"):
        cold_items(interactions_of([[1, 2, 3]]), share=0.9)
    with pytest.raises(ValueError, match=r"expected a share of the items in \(0, 1\)"):
        cold_items(interactions_of([[1, 2, 3]]), share=1.0)


@given(histories_strategy, st.floats(0.05, 0.6), st.integers(0, 9))
def test_no_cold_item_is_in_any_sequence_and_every_test_target_is_cold(histories, share, seed):
    try:
        split = cold_items(interactions_of(histories), share, seed)
    except ValueError:
        return
    cold = set(split.cold.tolist())
    for sequences in (split.train, split.validation.histories, split.test.histories):
        assert not cold & set(sequences.items.tolist())
    assert not cold & set(split.validation.targets.tolist())
    assert cold >= set(split.test.targets.tolist())
    for cases in (split.validation, split.test):
        assert (cases.histories.lengths > 0).all()


def test_global_time_cuts_all_users_at_the_same_two_moments():
    # Ten events at times 0 … 9: train is times 0–5, validation 6–7, test 8–9.
    data = interactions_of([[1, 2, 3, 4, 5], [6, 7, 8], [9], [10]], times=[[0, 1, 6, 7, 8], [2, 3, 4], [5], [9]])
    split = global_time(data, validation=0.2, test=0.2)
    assert histories_of(split.train) == [[1, 2], [6, 7, 8], [9], []]
    assert split.validation.users.tolist() == [0]
    assert split.validation.targets.tolist() == [3]
    assert histories_of(split.validation.histories) == [[1, 2]]
    assert split.test.users.tolist() == [0]
    assert split.test.targets.tolist() == [5]
    assert histories_of(split.test.histories) == [[1, 2, 3, 4]]
    assert split.test.target_timestamps.tolist() == [8]
    assert (split.validation.without_history, split.test.without_history) == (0, 1)


def test_an_event_of_unknown_time_follows_its_predecessor_and_is_never_a_target():
    data = interactions_of([[1, 2, 3], [4, 5], [6, 7, 8]], times=[[-1, 0, -1], [1, 2], [3, -1, 4]])
    split = global_time(data, validation=0.2, test=0.2)  # Known times 0 … 4; t_1 = 3, t_2 = 4.
    assert histories_of(split.train) == [[1, 2, 3], [4, 5], []]
    assert histories_of(split.test.histories) == [[6, 7]]
    assert split.test.targets.tolist() == [8]


def test_global_time_without_times_says_what_to_do():
    with pytest.raises(ValueError, match=r"this data has none. Name a time column.*leave_one_out"):
        global_time(interactions_of([[1, 2, 3]]))


def test_global_time_on_data_of_a_single_moment_says_what_to_do():
    with pytest.raises(ValueError, match="leaves train without events"):
        global_time(interactions_of([[1, 2, 3]], times=[[7, 7, 7]]))


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(ValueError, match="sum below 1"):
        global_time(interactions_of([[1, 2, 3]], times=[[1, 2, 3]]), validation=0.5, test=0.5)


@given(st.lists(st.lists(st.integers(0, 99), max_size=7), min_size=2, max_size=12))
def test_global_time_never_shows_a_model_anything_from_after_the_cut(times):
    times = [sorted(row) for row in times]
    data = interactions_of([list(range(len(row))) for row in times], times=times)
    try:
        split = global_time(data, validation=0.2, test=0.2)
    except ValueError:
        return
    latest_learned = split.train.timestamps.max()
    for cases in (split.validation, split.test):
        assert (cases.target_timestamps > latest_learned).all()
        for user, target, history in zip(cases.users, cases.targets, histories_of(cases.histories), strict=True):
            assert history == list(range(target))  # Items count up, so the history is all that came before.
            assert history
            assert times[user][target] > latest_learned
    if len(split.validation) and len(split.test):
        assert split.validation.target_timestamps.max() < split.test.target_timestamps.min()
