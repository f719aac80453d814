"""Length buckets: every index once, little padding, an order that depends on seed and epoch alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm4rec.training.length_buckets import LengthBucketSampler


@given(
    lengths=st.lists(st.integers(1, 60), max_size=200),
    batch_size=st.integers(1, 17),
    chunk=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_every_index_occurs_exactly_once(lengths, batch_size, chunk, epoch):
    sampler = LengthBucketSampler(lengths, batch_size, seed=1, chunk_batches=chunk)
    sampler.set_epoch(epoch)
    assert sorted(sampler) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)


def padded_share(lengths, order, batch_size):
    batches = [lengths[order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    cells = sum(len(batch) * batch.max() for batch in batches)
    return 1 - lengths.sum() / cells


def test_histories_of_seven_do_not_cost_padded_fifties():
    generator = np.random.default_rng(0)
    lengths = np.minimum(2 + generator.geometric(0.15, size=5000), 50)
    bucketed = padded_share(lengths, np.array(list(LengthBucketSampler(lengths, 64))), 64)
    shuffled = padded_share(lengths, generator.permutation(len(lengths)), 64)
    assert bucketed < 0.1
    assert shuffled > 0.6


def test_order_depends_on_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(1, 50, size=500)

    def order(seed, epoch, consumed=0):
        sampler = LengthBucketSampler(lengths, 8, seed=seed)
        for _ in range(consumed):
            list(sampler)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3, consumed=2)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_batches_come_in_random_order_of_length():
    lengths = np.sort(np.random.default_rng(0).integers(1, 50, size=2000))
    order = list(LengthBucketSampler(lengths, 20))
    firsts = lengths[order[::20]]
    assert abs(np.corrcoef(np.arange(len(firsts)), firsts)[0, 1]) < 0.3


def test_members_of_a_batch_change_between_epochs():
    sampler = LengthBucketSampler([5] * 64, 8)
    batches = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        batches.append({frozenset(order[start : start + 8]) for start in range(0, 64, 8)})
    assert not batches[0] & batches[1]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_fewer_sequences_than_a_batch(count):
    assert sorted(LengthBucketSampler([3] * count, 8)) == list(range(count))
