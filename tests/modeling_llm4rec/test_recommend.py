"""recommend(): padding, batches, masks, seen items, event features, numerics of the backbone."""

import pytest
import torch


def ranks(model, batch, **kwargs):
    out = model.recommend(**batch, **{"k": 12, "filter_seen": False, **kwargs})
    return out.items, out.scores


def full_scores(model, batch):
    with torch.no_grad():
        return model.score_items(**batch)


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gpt_neox", "gpt2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_change_scores(tiny, architecture, side):
    processor = tiny.processor()
    processor.tokenizer.padding_side = side
    model = tiny.model(processor, architecture)
    together = processor(histories=tiny.histories, return_tensors="pt")
    assert (together["attention_mask"] == 0).any()
    scores = full_scores(model, together)
    for row, history in enumerate(tiny.histories):
        alone = processor(histories=[history], return_tensors="pt")
        torch.testing.assert_close(scores[row], full_scores(model, alone)[0], rtol=1e-4, atol=1e-4)


def test_users_of_a_batch_do_not_see_each_other(model, batch):
    order = torch.tensor([2, 0, 3, 1])
    items, scores = ranks(model, batch)
    shuffled_items, shuffled = ranks(model, {name: values[order] for name, values in batch.items()})
    assert torch.equal(shuffled_items, items[order])
    torch.testing.assert_close(shuffled, scores[order])


def test_recommend_ranks_by_the_models_own_next_token_logits(model, processor):
    batch = processor(histories=[["i0", "i4", "i2"]], return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[0, -1, 260:]
    items, scores = ranks(model, batch)
    assert items[0].tolist() == logits.argsort(descending=True).tolist()
    torch.testing.assert_close(scores[0], logits.sort(descending=True).values)


def test_a_user_of_whom_nothing_is_known_gets_recommendations(model, processor):
    batch = processor(histories=[[]], return_tensors="pt")
    out = model.recommend(**batch, k=5)
    assert out.items.shape == (1, 5)
    assert (out.items >= 0).all()
    assert out.scores.isfinite().all()


def test_seen_items_are_left_out_and_come_back_on_request(model, batch, processor):
    histories = [[0, 4, 2], [5], [1, 3, 8, 9, 10, 11, 6, 7], []]
    items, _ = ranks(model, batch, filter_seen=True)
    for row, seen in enumerate(histories):
        assert set(items[row].tolist()) - {-1} == set(range(12)) - set(seen)
    items, _ = ranks(model, batch, filter_seen=False)
    assert set(items[2].tolist()) == set(range(12))


def test_seen_items_beyond_what_the_model_reads_are_left_out_too(model, processor):
    history = ["i1", "i3", "i8", "i9", "i10", "i11", "i6", "i7"]
    batch = processor(histories=[history], return_tensors="pt")
    assert batch["input_ids"].shape[1] == 1 + processor.max_history
    items = set(model.recommend(**batch, k=12).items[0].tolist()) - {-1}
    assert items == {0, 2, 4, 5}


def test_allow_and_deny_masks_hold_for_all_users_or_each(model, batch, processor):
    allowed = processor.item_mask(["i1", "i2", "i3"])
    items, _ = ranks(model, batch, allow=allowed)
    assert set(items.flatten().tolist()) == {-1, 1, 2, 3}
    items, _ = ranks(model, batch, allow=allowed, deny=processor.item_mask(["i2"]))
    assert set(items.flatten().tolist()) == {-1, 1, 3}
    each = torch.zeros(4, 12, dtype=torch.bool)
    each[torch.arange(4), torch.arange(4)] = True
    items, _ = ranks(model, batch, allow=each)
    assert items[:, 0].tolist() == [0, 1, 2, 3]
    assert (items[:, 1:] == -1).all()
    items, _ = ranks(model, batch, deny=each)
    assert all(row not in items[row].tolist() for row in range(4))


def test_masks_change_no_score_of_what_remains(model, batch, processor):
    items, scores = ranks(model, batch)
    kept, kept_scores = ranks(model, batch, deny=processor.item_mask(["i2"]))
    for row in range(4):
        left = items[row] != 2
        assert torch.equal(kept[row, :11], items[row][left])
        assert torch.equal(kept_scores[row, :11], scores[row][left])


def test_fewer_candidates_than_k_end_in_minus_one_and_minus_infinity(model, batch, processor):
    out = model.recommend(**batch, k=5, filter_seen=False, allow=processor.item_mask(["i1", "i2"]))
    assert out.items.shape == out.scores.shape == (4, 5)
    assert (out.items[:, 2:] == -1).all()
    assert out.scores[:, 2:].isneginf().all()
    assert out.scores[:, :2].isfinite().all()


def test_k_beyond_the_catalog_keeps_its_shape(model, batch):
    out = model.recommend(**batch, k=20, filter_seen=False)
    assert out.items.shape == out.scores.shape == (4, 20)
    assert (out.items[:, 12:] == -1).all()
    assert out.scores[:, 12:].isneginf().all()


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_refused(model, batch, k):
    with pytest.raises(ValueError, match=f"k={k}, expected at least 1"):
        model.recommend(**batch, k=k)


@pytest.mark.parametrize(
    "mask", [torch.ones(11, dtype=torch.bool), torch.ones(12), torch.ones(3, 12, dtype=torch.bool)]
)
def test_a_mask_of_the_wrong_shape_or_type_is_refused_with_the_way_to_make_one(model, batch, mask):
    with pytest.raises(ValueError, match=r"`deny` has dtype .*expected bool of shape \(12,\) or \(4, 12\).*item_mask"):
        model.recommend(**batch, deny=mask)


def test_large_batches_go_in_parts_with_the_same_result(monkeypatch, model, batch):
    from llm4rec.modeling_llm4rec import ranking

    each = torch.rand(4, 12, generator=torch.Generator().manual_seed(0)) < 0.7
    whole = ranks(model, batch, allow=each, filter_seen=True)
    monkeypatch.setattr(ranking, "MAX_SCORES_AT_ONCE", 12)
    parts = ranks(model, batch, allow=each, filter_seen=True)
    assert torch.equal(whole[0], parts[0])
    torch.testing.assert_close(whole[1], parts[1])


def test_recommend_in_training_mode_uses_no_dropout_and_leaves_the_mode(tiny, processor, batch):
    model = tiny.model(processor, "gpt_neox", text={"hidden_dropout": 0.5}, event_dropout=0.5, fusion_dropout=0.5)
    expected = ranks(model, batch)
    model.train()
    got = ranks(model, batch)
    assert torch.equal(got[0], expected[0])
    torch.testing.assert_close(got[1], expected[1])
    assert model.training


def test_a_token_beyond_the_catalog_is_refused(model):
    with pytest.raises(ValueError, match=r"token 272, but the vocabulary ends at 272: 260 text tokens and 12 items"):
        model.recommend(torch.tensor([[1, 272]]))


@pytest.mark.parametrize("feature", ["rating_ids", "time_gap_ids"])
def test_event_features_change_scores_and_unknown_ones_do_not(model, batch, feature):
    plain = {name: values for name, values in batch.items() if name not in ("rating_ids", "time_gap_ids")}
    unknown = {**plain, feature: torch.zeros_like(batch[feature])}
    with_feature = {**plain, feature: batch[feature]}
    assert torch.equal(full_scores(model, unknown), full_scores(model, plain))
    assert not torch.allclose(full_scores(model, with_feature)[0], full_scores(model, plain)[0], atol=1e-3)


def test_a_model_that_was_trained_without_ratings_ignores_them(tiny, batch):
    processor = tiny.processor(rating_levels=(), num_time_gaps=0)
    model = tiny.model(processor)
    plain = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(full_scores(model, dict(batch)), full_scores(model, plain))


def test_order_of_the_history_matters(model, processor):
    batch = processor(histories=[["i0", "i4", "i2"], ["i4", "i0", "i2"]], return_tensors="pt")
    scores = full_scores(model, batch)
    assert not torch.allclose(scores[0], scores[1], atol=1e-3)


def test_sdpa_and_eager_attention_agree(tiny, processor, batch):
    model = tiny.model(processor)
    results = {}
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        assert model.model.language_model.config._attn_implementation == implementation
        results[implementation] = full_scores(model, batch)
    torch.testing.assert_close(results["sdpa"], results["eager"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_negatives", [0, 5])
def test_gradient_checkpointing_gives_the_same_loss_and_gradients(tiny, processor, batch, num_negatives):
    model = tiny.model(processor, num_negatives=num_negatives).train()
    inputs = {name: values for name, values in batch.items() if name != "seen_items"}
    labels = batch["input_ids"].masked_fill(batch["input_ids"] < 260, -100)

    def step():
        torch.manual_seed(0)
        model.zero_grad()
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        return loss, {
            name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
        }

    loss, gradients = step()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    checkpointed_loss, checkpointed = step()
    torch.testing.assert_close(checkpointed_loss, loss)
    assert gradients.keys() == checkpointed.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


def test_decode_items_gives_ids_titles_scores_and_raw_fields(model, processor, batch):
    out = model.recommend(**batch, k=3, filter_seen=False, allow=processor.item_mask(["i0", "i11"]))
    for source in (processor.decode_items(out.items), processor.decode_items(out)):
        first = source[0]
        assert {item["item_id"] for item in first} == {"i0", "i11"}
        by_id = {item["item_id"]: item for item in first}
        assert by_id["i0"]["title"] == "red tent"
        assert by_id["i0"]["category"] == ["tent", "shelter"]
        assert by_id["i11"]["price"] is None
        assert first[0]["score"] == pytest.approx(out.scores[0, 0].item())
        assert first[0]["score"] > first[1]["score"]


def test_decode_items_without_scores_says_none(processor):
    assert processor.decode_items(torch.tensor([[4, -1]]))[0][0]["score"] is None


def test_resize_token_embeddings_refuses_and_says_what_to_do(model):
    with pytest.raises(NotImplementedError, match=r"renumber the item tokens.*add_items"):
        model.resize_token_embeddings(300)


def test_exactly_one_of_input_ids_and_inputs_embeds(model):
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
        model(input_ids=torch.tensor([[1]]), inputs_embeds=torch.zeros(1, 1, 16))
