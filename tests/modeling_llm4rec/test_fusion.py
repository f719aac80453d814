"""Fusion head: missing modalities, asymmetric attention, weights α and their collapse."""

import pytest
import torch
from llm4rec.modeling_llm4rec.fusion import AdaptiveFusion, CrossModalAttention


def redraw(module, seed=0):
    torch.manual_seed(seed)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return module.eval()


def scores_of(model, item=3):
    with torch.no_grad():
        return model.score_items(input_ids=torch.tensor([[1, model.config.text_vocab_size + item]]))


@pytest.mark.parametrize("feature", [1, 2, 3, 4])
def test_a_missing_modality_counts_the_same_whatever_stands_in_its_buffer(tiny, processor, feature):
    model = tiny.model(processor)
    item_embedding = model.model.item_embedding
    item_embedding.present[3] = True
    item_embedding.present[3, feature] = False
    before = scores_of(model)
    with torch.no_grad():
        buffer = getattr(item_embedding.features, f"modality_{feature}")
        buffer[3] = 2 if buffer.dtype == torch.int32 else 3.7
    assert torch.equal(scores_of(model), before)


def test_a_missing_price_is_not_a_price_of_zero(tiny, processor):
    model = tiny.model(processor)
    item_embedding = model.model.item_embedding
    features = item_embedding.features.modality_3
    assert not item_embedding.present[3, 3]
    assert features[3] == 0
    missing = item_embedding(torch.tensor([3]))
    item_embedding.present[3, 3] = True
    assert not torch.allclose(item_embedding(torch.tensor([3])), missing, atol=1e-3)


def test_an_item_without_an_id_embedding_does_not_read_one(tiny, processor):
    model = tiny.model(processor)
    model.model.item_embedding.present[3, 0] = False
    before = scores_of(model)
    with torch.no_grad():
        model.model.item_embedding.encoders["modality_0"].embedding.weight[3] = 5.0
    assert torch.equal(scores_of(model), before)


def test_what_text_takes_from_category_is_not_what_category_takes_from_text():
    attention = redraw(CrossModalAttention(2, 8, heads=2, dropout=0.0))
    tokens, present = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    swapped = attention(tokens.flip(0), present).flip(0)
    assert not torch.allclose(attention(tokens, present), swapped, atol=1e-2)


def test_the_fused_embedding_is_the_weighted_sum_of_the_tokens_after_attention():
    attention, fusion = redraw(CrossModalAttention(3, 8, heads=2, dropout=0.0)), redraw(AdaptiveFusion(3, 8), seed=1)
    tokens = torch.randn(3, 4, 8)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]], dtype=torch.bool).T
    read = attention(tokens, present)
    after = tokens + read.mT @ attention.output_projection
    scores = fusion.score(torch.tanh(fusion.hidden(after) + fusion.modality_bias[:, None])).squeeze(-1)
    expected_alpha = scores.masked_fill(~present, -torch.inf).softmax(0)
    expected = present.sum(0)[:, None] * (expected_alpha[:, :, None] * after).sum(0)
    fused, alpha = fusion(tokens, present, read, attention.output_projection)
    torch.testing.assert_close(alpha, expected_alpha)
    torch.testing.assert_close(fused, expected)


def test_cross_attention_agrees_with_torch_attention_per_modality():
    attention = redraw(CrossModalAttention(3, 8, heads=2, dropout=0.0))
    tokens = torch.randn(4, 3, 8)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]], dtype=torch.bool)
    query, key, value = (
        torch.stack([tokens[:, m] @ attention.input_projection[m][:, part] for m in range(3)], dim=1)
        for part in torch.arange(6).split(2)
    )
    heads = lambda part: part.unflatten(-1, (2, 1)).transpose(1, 2)  # noqa: E731
    read = torch.nn.functional.scaled_dot_product_attention(
        heads(query), heads(key), heads(value), attn_mask=present[:, None, None, :]
    )
    expected = read.transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(tokens.transpose(0, 1), present.T).permute(2, 0, 1), expected)


def test_before_training_the_embedding_is_the_plain_sum_of_the_present_tokens():
    fusion = AdaptiveFusion(3, 8)
    torch.nn.init.zeros_(fusion.score.weight)
    torch.nn.init.zeros_(fusion.modality_bias)
    tokens = torch.randn(2, 3, 8)
    present = torch.tensor([[True, True, True], [True, False, True]])
    nothing_read = torch.zeros(3, 2, 2)
    fused, alpha = fusion(tokens.transpose(0, 1), present.T, nothing_read, torch.randn(3, 2, 8))
    torch.testing.assert_close(fused[0], tokens[0].sum(0))
    torch.testing.assert_close(fused[1], tokens[1, [0, 2]].sum(0))
    torch.testing.assert_close(alpha.T, torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0, 0.5]]))


def test_weights_of_an_item_sum_to_one_and_absent_modalities_get_none(model):
    with torch.no_grad():
        _, alpha = model.model.item_embedding.embed(torch.arange(12))
    present = model.model.item_embedding.present
    torch.testing.assert_close(alpha.sum(-1), torch.ones(12))
    assert (alpha[~present] == 0).all()
    assert (alpha[present] > 0).all()


def test_report_names_the_modality_that_took_over(tiny, processor):
    model = tiny.model(processor)
    assert model.fusion_report().collapsed is None
    fusion = model.model.item_embedding.fusion
    with torch.no_grad():
        fusion.hidden.weight.zero_()
        fusion.modality_bias.zero_()
        fusion.modality_bias[1] = 3.0
        fusion.score.weight.fill_(3.0)
    report = model.fusion_report()
    assert report.collapsed == "title"
    assert report.entropy < 0.01
    assert sum(report.alpha.values()) == pytest.approx(1.0)


def test_report_of_a_fresh_model_is_even(tiny, processor):
    from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM

    model = LLM4RecForCausalLM(LLM4RecConfig(text_config=tiny.text_config(), **processor.model_config()))
    model.set_items(processor.item_features())
    report = model.fusion_report()
    assert report.entropy == pytest.approx(1.0)
    assert report.collapsed is None


def test_id_dropout_hides_ids_in_training_only_and_never_the_last_modality(tiny, processor):
    model = tiny.model(processor, id_dropout=0.9)
    item_embedding = model.model.item_embedding
    item_embedding.present[0] = torch.tensor([True, False, False, False, False])
    items = torch.arange(12).repeat(20)
    calm = item_embedding.embed(items)[1]
    assert (calm[:, 0] > 0).all()
    item_embedding.train()
    torch.manual_seed(0)
    hidden = item_embedding.embed(items)[1][:, 0] == 0
    assert not hidden[items == 0].any()
    assert 0.8 < hidden[items != 0].float().mean() < 1


def test_an_item_model_of_ids_alone_has_no_fusion(tiny):
    processor = tiny.processor(rating_levels=(), num_time_gaps=0)
    config = {"modalities": None, "num_items": 12}
    from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM

    model = tiny.awaken(LLM4RecForCausalLM(LLM4RecConfig(text_config=tiny.text_config(), **config))).eval()
    batch = processor(histories=[["i1", "i2"]], return_tensors="pt")
    assert model.recommend(**batch, k=3).items.shape == (1, 3)
    assert model.fusion_report().collapsed is None


def test_a_fusion_width_other_than_the_backbones_is_projected(tiny, processor):
    model = tiny.model(processor, fusion_width=24)
    assert model.model.item_table().shape == (12, 16)


def test_heads_that_do_not_divide_the_attention_width_are_refused():
    with pytest.raises(ValueError, match="fusion_heads=3 must divide a quarter of the fusion width, 4"):
        CrossModalAttention(2, 16, heads=3, dropout=0.0)
