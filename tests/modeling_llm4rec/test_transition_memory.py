"""Transition memory: support by distance, normalisation, additions, deletions, and what must not be found."""

import numpy as np
import pytest
import torch
from llm4rec.modeling_llm4rec.transition_memory import TransitionMemory
from llm4rec.training.baselines.transitions import Transitions
from llm4rec.training.data.prepared import Interactions


def learned(histories, num_items=10, window=5, times=None, credibility=None):
    memory = TransitionMemory(num_items, window)
    items = torch.tensor([item for history in histories for item in history])
    lengths = torch.tensor([len(history) for history in histories])
    memory.learn(
        items,
        lengths,
        None if times is None else torch.tensor(times),
        None if credibility is None else torch.tensor(credibility),
    )
    return memory


def found(memory, history, k=10, **kwargs):
    """Strength by item for one history, oldest first."""
    items, similarity, decay, credibility = memory.search(torch.tensor([history[::-1]]), k, **kwargs)
    strength = similarity * decay * credibility
    return {int(i): float(s) for i, s in zip(items[0], strength[0], strict=True) if i >= 0}


def test_scores_are_those_of_the_transitions_baseline():
    generator = np.random.default_rng(0)
    histories = [generator.permutation(30)[:length].tolist() for length in generator.integers(2, 12, 80)]
    items = np.concatenate(histories).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
    everyone = Interactions(offsets=offsets, items=items, num_items=30)
    baseline = Transitions(window=5, recency=0.7).fit(everyone).score(everyone)
    memory = learned(histories, num_items=30)
    for row, history in enumerate(histories):
        scores = np.zeros(30)
        for item, strength in found(memory, history, k=30).items():
            scores[item] = strength
        np.testing.assert_allclose(scores, baseline[row], atol=1e-5)


def test_a_transition_never_crosses_from_one_user_to_the_next():
    assert 3 not in found(learned([[1, 2], [3, 4]]), [2])


def test_an_added_event_is_found_at_once_and_adds_up_with_what_was_there():
    memory = learned([[1, 2], [1, 3]])
    memory.add(torch.tensor([1]), 2)
    fresh = learned([[1, 2], [1, 3], [1, 2]])
    fresh.counts = memory.counts.clone()
    assert found(memory, [1]) == pytest.approx(found(fresh, [1]))
    memory.columns()  # merges
    assert found(memory, [1]) == pytest.approx(found(fresh, [1]))


def test_many_additions_are_merged_without_changing_what_is_found(monkeypatch):
    from llm4rec.modeling_llm4rec import transition_memory

    monkeypatch.setattr(transition_memory, "MAX_RECENT", 3)
    merged, kept = learned([[1, 2]]), learned([[1, 2]])
    for memory, limit in ((merged, 3), (kept, 10**9)):
        monkeypatch.setattr(transition_memory, "MAX_RECENT", limit)
        for item in (3, 4, 5, 3):
            memory.add(torch.tensor([0, 1]), item)
    assert found(merged, [0, 1]) == pytest.approx(found(kept, [0, 1]))


def test_taking_an_event_out_again_leaves_no_trace():
    memory = learned([[1, 2], [4, 5]])
    before = found(memory, [4])
    memory.add(torch.tensor([4]), 9)
    memory.add(torch.tensor([4]), 9, sign=-1.0)
    assert found(memory, [4]) == pytest.approx(before)
    assert 9 not in memory.columns()["item"].tolist()


def test_own_events_are_taken_out_of_the_support():
    memory = learned([[1, 2, 3], [1, 3]])
    own = torch.tensor([[1, 2, 3, -1]])
    assert 2 in found(memory, [1])
    others = found(memory, [1], own_events=own)
    assert 2 not in others  # nobody else went from 1 to 2
    assert others[3] == pytest.approx(1 / np.sqrt(2 * 2))  # the other user's step, of distance 1


def test_nothing_of_the_future_is_found_and_nothing_of_unknown_time():
    memory = learned([[1, 2], [1, 3], [1, 4]], times=[10, 20, 10, 100, 10, -1])
    assert set(found(memory, [1], before=torch.tensor([50]))) == {2}
    assert set(found(memory, [1])) == {2, 3, 4}


def test_old_entries_count_less_by_the_decay():
    day = 86_400
    memory = learned([[1, 2], [1, 3]], times=[0, 0, 0, 10 * day])
    scores = found(memory, [1], now=torch.tensor([10 * day]), decay_rate=0.1)
    assert scores[2] / scores[3] == pytest.approx(np.exp(-1.0), rel=1e-4)


def test_credibility_multiplies_and_its_exponent_can_switch_it_off():
    memory = learned([[1, 2], [1, 3]], credibility=[1.0, 0.5, 1.0, 1.0])
    scores = found(memory, [1])
    assert scores[2] / scores[3] == pytest.approx(0.5)
    even = found(memory, [1], credibility_weight=0.0)
    assert even[2] == pytest.approx(even[3])


def test_deleted_items_are_found_no_more_and_others_stay():
    memory = learned([[1, 2, 3], [2, 3, 1]])
    memory.forget_items(torch.tensor([3]))
    assert set(found(memory, [1])) == {2}
    assert set(found(memory, [3])) == set()


def test_an_empty_memory_and_an_empty_history_find_nothing():
    assert found(TransitionMemory(10), [1, 2]) == {}
    items, *_ = learned([[1, 2]]).search(torch.full((2, 3), -1), 4)
    assert (items == -1).all()


def test_new_items_of_the_catalog_can_be_learned():
    memory = learned([[1, 2]], num_items=3)
    memory.grow(5)
    memory.add(torch.tensor([1]), 4)
    assert set(found(memory, [1])) == {2, 4}
