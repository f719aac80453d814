"""Approximate search: it finds what scoring every item finds, follows the catalog, and says what it cannot do."""

import pytest
import torch
from llm4rec.modeling_llm4rec.item_index import ItemIndex

pytest.importorskip("faiss")


def clustered(items, generator, width=16, clusters=50):
    """Embeddings in groups, as those of trained items are."""
    centres = torch.randn(clusters, width, generator=generator)
    chosen = torch.randint(clusters, (items,), generator=generator)
    return centres[chosen] + 0.5 * torch.randn(items, width, generator=generator)


def test_the_index_finds_nearly_all_of_the_exact_best():
    generator = torch.Generator().manual_seed(0)
    table = clustered(20_000, generator)
    states = table[torch.randint(20_000, (100,), generator=generator)]
    exact = (states @ table.T).topk(10).indices
    found = ItemIndex(table).search(states, 100)
    recall = (exact[:, :, None] == found[:, None, :]).any(-1).float().mean()
    assert recall > 0.95


def test_an_index_of_fewer_items_than_asked_for_ends_in_none():
    found = ItemIndex(torch.eye(5)).search(torch.ones(1, 5), 8)
    assert sorted(found[0].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("k", [1, 5, 12])
def test_recommending_by_the_index_of_a_small_catalog_is_exact(model, batch, k):
    expected = model.recommend(**batch, k=k)
    out = model.recommend(**batch, k=k, exact=False)
    assert torch.equal(out.items, expected.items)
    torch.testing.assert_close(out.scores, expected.scores)


def test_large_catalogs_are_searched_by_the_index_unless_told_otherwise(new_model, processor, batch, monkeypatch):
    model = new_model(processor, max_exact_items=11)
    searched = []
    original = ItemIndex.search
    monkeypatch.setattr(ItemIndex, "search", lambda self, *args: searched.append(len(self)) or original(self, *args))
    model.recommend(**batch, k=3)
    assert searched == [12]
    model.recommend(**batch, k=3, exact=True)
    model.recommend(**batch, k=3, filter_seen=False)
    model.recommend(**batch, k=3, deny=processor.item_mask(["i2"]))
    assert searched == [12]


def test_a_new_item_is_found_by_the_index_at_once(new_model, new_processor, tiny):
    processor = new_processor()
    model = new_model(processor, max_exact_items=0)
    batch = processor(histories=tiny.histories, return_tensors="pt")
    model.recommend(**batch, k=3)
    index = model.model.item_index()
    features = processor.item_features(tiny.new_items())
    processor.add_items(tiny.new_items())
    model.add_items(features)
    assert model.model.item_index() is index
    out = model.recommend(**batch, k=14)
    assert {12, 13} <= set(out.items[0].tolist())
    assert torch.equal(out.items, model.recommend(**batch, k=14, exact=True).items)


def test_changed_weights_get_a_new_index(new_model, processor, batch):
    model = new_model(processor, max_exact_items=0)
    model.recommend(**batch, k=3)
    with torch.no_grad():
        model.model.item_embedding.encoders["modality_0"].embedding.weight.neg_()
    assert torch.equal(model.recommend(**batch, k=3).items, model.recommend(**batch, k=3, exact=True).items)


def test_an_index_asked_for_in_training_follows_the_weights_too(new_model, processor):
    model = new_model(processor).train()
    index = model.model.item_index()
    assert model.model.item_index() is index
    with torch.no_grad():
        model.model.item_embedding.encoders["modality_0"].embedding.weight.neg_()
    assert model.model.item_index() is not index


def test_what_the_index_cannot_do_is_refused(model, batch, processor):
    with pytest.raises(ValueError, match="exact=False with a mask, filter_seen=False or popularity"):
        model.recommend(**batch, k=3, exact=False, filter_seen=False)


def test_without_faiss_every_item_is_scored(new_model, processor, batch, monkeypatch):
    model = new_model(processor, max_exact_items=0)
    expected = model.recommend(**batch, k=3, exact=True)
    monkeypatch.setattr("llm4rec.modeling_llm4rec.ranking.is_faiss_available", lambda: False)
    monkeypatch.setattr("llm4rec.modeling_llm4rec.item_index.is_faiss_available", lambda: False)
    assert torch.equal(model.recommend(**batch, k=3).items, expected.items)
    with pytest.raises(ImportError, match=r"pip install 'llm4rec\[retrieval\]'"):
        model.recommend(**batch, k=3, exact=False)
