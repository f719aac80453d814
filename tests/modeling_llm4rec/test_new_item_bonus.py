"""A bonus on new items: theirs alone, the same on every way to a recommendation, and told in explanations."""

import pytest
import torch
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM

HISTORIES = [["i0", "i4", "i2"], []]


@pytest.fixture
def shop(tiny):
    """A processor and a model with two new items, 12 and 13."""
    processor = tiny.processor()
    model = tiny.model(processor)
    table = tiny.new_items()
    processor.add_items(table)
    model.add_items(processor.item_features(table))
    return processor, model


def inputs(processor):
    return processor(histories=HISTORIES, return_tensors="pt")


def with_bonus(model, bonus):
    model.config.new_item_bonus = bonus
    return model


@torch.no_grad()
def test_it_is_added_to_the_scores_of_new_items_alone(shop):
    processor, model = shop
    batch = inputs(processor)
    plain, raised = (with_bonus(model, bonus).score_items(**batch) for bonus in (0.0, 1.5))
    torch.testing.assert_close(raised[:, :12], plain[:, :12], atol=0, rtol=0)
    torch.testing.assert_close(raised[:, 12:], plain[:, 12:] + 1.5)
    logits = with_bonus(model, -2.0)(**{k: v for k, v in batch.items() if k != "seen_items"}).logits[:, -1, 260:]
    torch.testing.assert_close(logits[:, 12:], plain[:, 12:] - 2.0, atol=1e-5, rtol=0)


def test_lists_and_slates_begin_with_new_items_where_it_is_large(shop):
    processor, model = shop
    batch = inputs(processor)
    with_bonus(model, 50.0)
    for exact in (True, False):
        if not exact:
            pytest.importorskip("faiss")
        out = model.recommend(**batch, k=3, exact=exact)
        assert out.items[:, :2].sort().values.tolist() == [[12, 13]] * 2
    slate = model.generate(**batch, items_only=True, max_new_tokens=2)[:, -2:] - model.config.text_vocab_size
    assert slate.sort().values.tolist() == [[12, 13]] * 2
    with_bonus(model, -50.0)
    assert not (model.recommend(**batch, k=9).items >= 12).any()


def test_it_changes_nothing_where_every_item_has_an_id(model, processor):
    batch = inputs(processor)
    plain = model.score_items(**batch)
    try:
        torch.testing.assert_close(with_bonus(model, 3.0).score_items(**batch), plain, atol=0, rtol=0)
    finally:
        with_bonus(model, 0.0)


def test_a_memory_neither_hides_nor_scales_it(shop):
    from llm4rec.modeling_llm4rec import RetrievalConfig, RetrievalMemory

    processor, model = shop
    model.add_retrieval(RetrievalConfig(sources=["metadata"]))
    width = model.config.text_config.hidden_size
    model.attach_memory(RetrievalMemory(model.config.retrieval, model.num_items, width, model.content_vectors()))
    with torch.no_grad():
        model.model.retrieval_adapter.temperature.fill_(0.5)
    batch = inputs(processor)
    gained = with_bonus(model, 1.0).score_items(**batch) - with_bonus(model, 0.0).score_items(**batch)
    torch.testing.assert_close(gained, torch.tensor([0.0] * 12 + [1.0] * 2).expand(2, -1), atol=1e-4, rtol=0)
    logits = with_bonus(model, 1.0)(**{k: v for k, v in batch.items() if k != "seen_items"}, logits_to_keep=1).logits
    torch.testing.assert_close(logits[:, -1, 260:], model.score_items(**batch), atol=1e-4, rtol=0)


def test_it_is_saved_and_may_be_given_on_loading(shop, tmp_path):
    _, model = shop
    with_bonus(model, 0.75).save_pretrained(tmp_path)
    assert LLM4RecForCausalLM.from_pretrained(tmp_path).config.new_item_bonus == 0.75
    assert LLM4RecForCausalLM.from_pretrained(tmp_path, new_item_bonus=0.0).config.new_item_bonus == 0.0


@pytest.mark.parametrize("bonus", [float("nan"), float("inf"), "much"])
def test_what_is_no_number_is_refused(bonus):
    with pytest.raises(Exception, match="new_item_bonus"):
        LLM4RecConfig(num_items=3, new_item_bonus=bonus)


def test_it_is_evidence_for_new_items_and_measured_by_leaving_it_out(shop):
    processor, model = shop
    batch = inputs(processor)
    items = torch.tensor([[12, 5, -1], [13, 12, 3]])
    plain = with_bonus(model, 0.0).explain(**batch, items=items)
    assert not [p for user in plain for why in user for p in why.evidence if p.kind == "new_item"]
    raised = with_bonus(model, 2.0).explain(**batch, items=items)
    for without, user in zip(plain, raised, strict=True):
        for before, why in zip(without, user, strict=True):
            found = [piece for piece in why.evidence if piece.kind == "new_item"]
            assert len(found) == (why.item >= 12)
            for piece in found:
                assert piece.effect == pytest.approx(why.log_probability - before.log_probability, abs=1e-5)
                assert piece.rank_without == before.rank


def test_a_person_is_told(shop):
    processor, model = shop
    out = with_bonus(model, 50.0).recommend(**inputs(processor), k=1, explain=True)
    records = processor.decode_explanations(out)
    said = {style: processor.render_explanations(records, style)[0][0] for style in ("short", "sceptical")}
    assert "because it is new and new items are favoured here" in said["short"]
    assert "mostly because it is new: without the weight of new items it would stand at place" in said["sceptical"]
    assert "neue Artikel bevorzugt" in processor.render_explanations(records, "short", "de")[0][0]
