"""Training windows and scoring batches: every event once, no validation or test target, the processor's own form."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.sequences import SequenceCollator, history_batch, training_windows
from llm4rec.training.data.splits import global_time, leave_one_out

MAX_HISTORY = 6


def interactions_of(lengths, num_items=12, seed=0, **columns):
    """Histories of the given lengths; every event has a timestamp of its own."""
    generator = np.random.default_rng(seed)
    count = sum(lengths)
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=generator.integers(num_items, size=count).astype(np.int32),
        num_items=num_items,
        ratings=generator.integers(1, 6, size=count).astype(np.float32),
        timestamps=np.cumsum(generator.integers(0, 10_000, size=count)).astype(np.int64),
    )


def predicted(windows, pad_id=0):
    """Item indices that the labels of a data set ask for, in order of the windows."""
    collate = SequenceCollator(pad_id)
    labels = [collate([row])["labels"][0] for row in windows]
    return [[token - 260 for token in row.tolist() if token >= 0] for row in labels]


@pytest.mark.parametrize("length", [1, MAX_HISTORY - 1, MAX_HISTORY, MAX_HISTORY + 1, 2 * MAX_HISTORY, 13])
def test_every_event_is_predicted_exactly_once(processor, length):
    interactions = interactions_of([length])
    windows = training_windows(interactions, processor)
    assert Counter(item for row in predicted(windows) for item in row) == Counter(interactions.items.tolist())
    assert max(windows["length"]) <= MAX_HISTORY + 1


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 25), min_size=1, max_size=8).filter(any))
def test_every_event_of_every_user_is_predicted_exactly_once_and_from_its_own_past(processor, lengths):
    interactions = interactions_of(lengths)
    windows = training_windows(interactions, processor)
    assert sum(map(len, predicted(windows))) == sum(lengths)
    histories = [interactions.history(user).tolist() for user in range(len(lengths))]
    remaining = {user: list(history) for user, history in enumerate(histories)}
    position = 0
    for user, history in enumerate(histories):
        for _ in range(-(-len(history) // MAX_HISTORY)):
            tokens = windows[position]["input_ids"]
            position += 1
            # From the end of the history: what is predicted is the last piece not yet predicted, context its past.
            piece = remaining[user][-MAX_HISTORY:]
            remaining[user] = remaining[user][:-MAX_HISTORY]
            assert [token - 260 for token in tokens[1:]] == piece
            assert tokens[0] == (260 + remaining[user][-1] if remaining[user] else processor.start_id)
    assert position == len(windows)


def test_windows_of_last_keep_the_latest_events_of_each_user(processor):
    interactions = interactions_of([13, 2, 0])
    windows = training_windows(interactions, processor, "last")
    expected = [interactions.history(0)[-MAX_HISTORY:].tolist(), interactions.history(1).tolist()]
    assert predicted(windows) == expected


def test_a_window_carries_the_event_ids_that_the_processor_gives_a_history(processor):
    interactions = interactions_of([9])
    windows = training_windows(interactions, processor)
    ids = [f"i{item}" for item in interactions.items]
    whole = processor.encode_history(
        processor.catalog.indices(ids), interactions.ratings.tolist(), interactions.timestamps.tolist()
    )
    last = windows[0]
    assert last["input_ids"][1:] == whole["input_ids"][1:]
    assert last["rating_ids"][1:] == whole["rating_ids"][1:]
    assert last["time_gap_ids"][1:] == whole["time_gap_ids"][1:]
    assert windows[1]["rating_ids"][0] == windows[1]["time_gap_ids"][0] == 0


def test_many_rating_levels_do_not_overflow(tiny):
    processor = tiny.processor(rating_levels=tuple(float(level) for level in range(300)))
    interactions = interactions_of([5])
    interactions.ratings[:] = 299.0
    assert training_windows(interactions, processor)[0]["rating_ids"][1:] == [300] * 5


@pytest.mark.parametrize("split", [leave_one_out, global_time])
def test_no_validation_or_test_target_is_among_the_training_tokens(processor, split):
    # Every event is an item of its own, so that a leak cannot hide behind a repeat.
    lengths = [8, 3, 5, 20, 1, 2, 9]
    interactions = interactions_of(lengths, num_items=sum(lengths))
    interactions.items = np.arange(sum(lengths), dtype=np.int32)
    parts = split(interactions)
    windows = training_windows(parts.train, processor)
    tokens = {token - 260 for row in windows["input_ids"] for token in row if token >= 260}
    assert tokens
    assert not tokens & set(parts.validation.targets.tolist())
    assert not tokens & set(parts.test.targets.tolist())
    for user in range(len(lengths)):
        start, stop = int(interactions.offsets[user]), int(interactions.offsets[user] + parts.train.lengths[user])
        assert tokens & set(range(start, int(interactions.offsets[user + 1]))) == set(range(start, stop))


def test_nothing_to_train_on_is_an_error(processor):
    with pytest.raises(ValueError, match="nothing to train on"):
        training_windows(interactions_of([0, 0]), processor)


def test_the_collator_pads_right_and_predicts_neither_padding_nor_context(processor):
    windows = training_windows(interactions_of([2, 4]), processor)
    batch = SequenceCollator(0)(list(windows))
    assert batch["input_ids"].shape == batch["labels"].shape == batch["rating_ids"].shape == (2, 5)
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert (batch["labels"][:, 0] == -100).all()
    assert (batch["labels"][0, 3:] == -100).all()
    assert torch.equal(batch["labels"][1, 1:], batch["input_ids"][1, 1:])


def test_a_scoring_batch_is_what_the_processor_makes_of_the_same_histories(processor):
    interactions = interactions_of([3, 0, 9, 1])
    batch = history_batch(interactions, processor)
    rows = [interactions.rows(user, user + 1) for user in range(4)]
    expected = processor(
        histories=[[f"i{item}" for item in row.items] for row in rows],
        ratings=[row.ratings.tolist() for row in rows],
        timestamps=[row.timestamps.tolist() for row in rows],
        return_tensors="pt",
    )
    expected.pop("seen_items")
    assert batch.keys() == expected.keys()
    for name in batch:
        assert torch.equal(batch[name], expected[name]), name
