import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.streams import event_stream


@pytest.fixture
def interactions():
    """Three users; the third comes last and is new to the base of a stream by time."""
    return Interactions(
        offsets=np.array([0, 4, 8, 10]),
        items=np.arange(10, dtype=np.int32),
        num_items=10,
        timestamps=np.array([1, 2, 30, 40, 3, 4, 5, 35, 50, 60]),
    )


def test_a_stream_by_time_is_the_last_events_in_their_order(interactions):
    stream = event_stream(interactions, 0.5, "time", held_out=0)
    assert stream.items.tolist() == [2, 7, 3, 8, 9]
    assert stream.base.lengths.tolist() == [2, 3, 0]
    assert stream.base.items.tolist() == [0, 1, 4, 5, 6]


def test_a_stream_by_user_takes_the_same_share_of_every_user_side_by_side(interactions):
    stream = event_stream(interactions, 0.5, "user", held_out=0, sitting=1)
    assert stream.base.lengths.tolist() == [2, 2, 1]
    assert sorted(stream.items.tolist()) == [2, 3, 6, 7, 9]
    for user in range(3):
        mine = stream.places[stream.users == user]
        assert (np.diff(mine) > 0).all()
    assert stream.items.tolist()[-2:] == [3, 7]


def test_users_take_turns_a_sitting_each():
    interactions = Interactions(np.array([0, 20, 40]), np.arange(40, dtype=np.int32), 40)
    stream = event_stream(interactions, 0.5, "user", held_out=0, sitting=4)
    assert stream.users.tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4 + [0, 0, 1, 1]
    assert stream.places.tolist() == [*range(10, 14)] * 2 + [*range(14, 18)] * 2 + [18, 19] * 2
    with pytest.raises(ValueError, match="sitting is 0"):
        event_stream(interactions, 0.5, "user", sitting=0)


def test_cases_hold_what_came_before_and_leave_out_who_has_no_history(interactions):
    stream = event_stream(interactions, 0.5, "time", held_out=0)
    cases = stream.cases(np.arange(len(stream)))
    assert cases.targets.tolist() == [2, 7, 3, 9]
    assert cases.without_history == 1
    assert [cases.histories.history(row).tolist() for row in range(4)] == [[0, 1], [4, 5, 6], [0, 1, 2], [8]]
    assert cases.target_timestamps.tolist() == [30, 35, 40, 60]


def test_held_out_events_are_drawn_by_the_seed(interactions):
    one, same, other = (event_stream(interactions, 0.8, "time", 0.5, seed).held_out for seed in (1, 1, 4))
    assert one.tolist() == same.tolist()
    assert one.tolist() != other.tolist()


def test_blocks_cover_the_stream_once_and_in_order(interactions):
    stream = event_stream(interactions, 0.5, "time")
    assert np.concatenate(stream.blocks(3)).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="cannot be cut into 6 blocks"):
        stream.blocks(6)


def test_unknown_times_are_refused_with_what_to_do(interactions):
    interactions.timestamps[3] = -1
    with pytest.raises(ValueError, match=r"1 have none.*order='user'"):
        event_stream(interactions, 0.5, "time")


@pytest.mark.parametrize(("share", "held_out"), [(0, 0.1), (1, 0.1), (0.5, 1)])
def test_shares_out_of_range_are_refused(interactions, share, held_out):
    with pytest.raises(ValueError, match="expected numbers in"):
        event_stream(interactions, share, "user", held_out)
