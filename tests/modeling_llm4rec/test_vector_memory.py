"""Vector memory and its indexes: nearest keys, entries of one item together, limits, growth."""

import numpy as np
import pytest
import torch
from llm4rec.modeling_llm4rec.vector_index import VectorIndex, unit_rows
from llm4rec.modeling_llm4rec.vector_memory import VectorMemory


def clustered(count, width=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(50, width, generator=generator)
    chosen = torch.randint(0, 50, (count,), generator=generator)
    return unit_rows(centres[chosen] + 0.3 * torch.randn(count, width, generator=generator))


@pytest.fixture
def memory():
    """Four keys along two axes."""
    made = VectorMemory(2, temperature=0.5)
    made.add(
        torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 2.0]]),
        torch.tensor([5, 5, 6, 7]),
        times=torch.tensor([10, 20, 30, -1]),
        owners=torch.tensor([0, 1, 2, 3]),
    )
    return made


def found(memory, query, k=4, entries=4, **kwargs):
    items, similarity, decay, credibility = memory.search(torch.tensor([query]), k, entries, **kwargs)
    return {
        int(i): float(s) for i, s in zip(items[0], similarity[0] * decay[0] * credibility[0], strict=True) if i >= 0
    }


def test_entries_of_one_item_add_up(memory):
    cosine = 0.9 / np.hypot(0.9, 0.1)
    expected = 1 + np.exp((cosine - 1) / 0.5)
    assert found(memory, [3.0, 0.0])[5] == pytest.approx(expected, abs=1e-2)


def test_only_the_nearest_entries_are_looked_at(memory):
    assert set(found(memory, [1.0, 0.0], entries=2)) == {5}


def test_an_owner_never_finds_his_own_entries(memory):
    assert set(found(memory, [0.0, 1.0], entries=2, without_owners=torch.tensor([2]))) == {7, 5}


def test_nothing_of_that_moment_or_later_is_found(memory):
    assert set(found(memory, [0.0, 1.0], before=torch.tensor([30]))) == {5}


def test_items_can_be_left_out(memory):
    assert 6 not in found(memory, [0.0, 1.0], without_items=torch.tensor([[6, -1]]))


def test_a_query_of_zeros_finds_nothing(memory):
    assert found(memory, [0.0, 0.0]) == {}


def test_deleted_entries_are_not_found(memory):
    memory.forget(torch.tensor([2]))
    assert set(found(memory, [0.0, 1.0])) == {5, 7}
    assert len(memory) == 3


def test_an_entry_is_found_as_soon_as_it_is_added(memory):
    found(memory, [0.0, 1.0])
    memory.add(torch.tensor([[-1.0, 0.0]]), torch.tensor([9]))
    assert 9 in found(memory, [-1.0, 0.0], entries=1)


def test_a_key_that_is_not_finite_is_refused(memory):
    with pytest.raises(ValueError, match="entry 0 is not finite"):
        memory.add(torch.tensor([[float("nan"), 1.0]]), torch.tensor([1]))
    assert len(memory) == 4


def test_keys_of_another_width_are_refused(memory):
    with pytest.raises(ValueError, match=r"expected \(1, 2\)"):
        memory.add(torch.ones(1, 3), torch.tensor([1]))


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_approximate_index_finds_nearly_all_true_neighbours(kind):
    keys, queries = clustered(4000), clustered(100, seed=1)
    true = VectorIndex("exact", keys).search(queries, 20)[1]
    found = VectorIndex(kind, keys).search(queries, 20)[1]
    assert (found[:, :, None] == true[:, None, :]).any(1).float().mean() > 0.95


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_index_grows_and_reads_back(kind, tmp_path):
    keys = clustered(3000)
    index = VectorIndex(kind, keys[:2900])
    index.add(keys[2900:])
    index.save(tmp_path / "index.faiss")
    again = VectorIndex.load(tmp_path / "index.faiss", kind, keys)
    assert torch.equal(index.search(keys[2950:2960], 5)[1], again.search(keys[2950:2960], 5)[1])


def test_an_index_of_another_size_is_refused(tmp_path):
    VectorIndex("hnsw", clustered(300)).save(tmp_path / "index.faiss")
    with pytest.raises(ValueError, match="of two memories"):
        VectorIndex.load(tmp_path / "index.faiss", "hnsw", clustered(299))


def test_the_kind_follows_the_number_of_vectors():
    assert [VectorIndex.kind_for(n) for n in (10, 20_001, 300_001)] == ["exact", "hnsw", "ivf"]
