"""New items: recommendable at once, nothing else changes; and the cached item table keeps up with every change."""

import pytest
import torch


@pytest.fixture
def shop(tiny):
    """A processor and a model of its own."""
    processor = tiny.processor()
    return processor, tiny.model(processor)


def add(shop, table):
    processor, model = shop
    processor.add_items(table)
    model.add_items(processor.item_features(table))


@torch.no_grad()
def scores_of(shop, history=("i0", "i4")):
    processor, model = shop
    return model.score_items(**processor(histories=[list(history)], return_tensors="pt"))[0]


def test_a_new_item_is_recommended_without_training(shop, tiny):
    add(shop, tiny.new_items())
    processor, model = shop
    batch = processor(histories=[["i0", "i4"], []], return_tensors="pt")
    out = model.recommend(**batch, k=14, filter_seen=False)
    shown = processor.decode_items(out.items)
    assert all({"n0", "n1"} <= {item["item_id"] for item in user} for user in shown)
    assert out.scores.isfinite().all()
    assert model.config.num_items == model.num_items == 14


def test_a_new_item_is_not_scored_like_an_item_of_nothing(shop, tiny):
    add(shop, tiny.new_items())
    scores = scores_of(shop)
    assert scores[12] != scores[13]
    assert scores[12:].abs().min() > 1e-3


def test_a_copy_of_an_item_known_by_content_alone_gets_its_score(shop, tiny):
    _, model = shop
    model.model.item_embedding.present[0, 0] = False
    model.model.repeat_bias.bias.data.zero_()  # the one stands in the history, its copy does not
    twin = {name: [values[0]] for name, values in tiny.catalog().items()} | {"item_id": ["twin"]}
    add(shop, twin)
    scores = scores_of(shop)
    torch.testing.assert_close(scores[12], scores[0])


def test_new_items_leave_existing_scores_as_they_were(shop, tiny):
    before = scores_of(shop)
    add(shop, tiny.new_items())
    torch.testing.assert_close(scores_of(shop)[:12], before, rtol=1e-6, atol=1e-6)


def test_a_new_item_may_stand_in_a_history(shop, tiny):
    add(shop, tiny.new_items())
    before = scores_of(shop, ["i0", "i4"])
    assert not torch.allclose(scores_of(shop, ["i0", "n0"]), before, atol=1e-3)


def test_a_new_item_may_be_generated(shop, tiny):
    add(shop, tiny.new_items())
    processor, model = shop
    batch = processor(histories=[["i0"]], return_tensors="pt")
    out = model.generate(**batch, items_only=True, allow=processor.item_mask(["n0", "n1"]), max_new_tokens=2)
    assert sorted(out[0, -2:].tolist()) == [272, 273]


def test_items_can_be_added_twice(shop):
    for index in range(2):
        add(shop, {"item_id": [f"n{index}"], "title": ["red tent"]})
    assert scores_of(shop).shape == (14,)


def test_an_item_with_no_modality_is_refused_and_nothing_changes(shop, tiny):
    processor, model = shop
    before = scores_of(shop)
    table = {"item_id": ["ok", "bare"], "title": ["red tent", None]}
    with pytest.raises(ValueError, match=r"New item 1 of 2 has no modality .*title, category, price, picture"):
        model.add_items(processor.item_features(table))
    assert model.num_items == 12
    assert torch.equal(scores_of(shop), before)
    fresh = tiny.processor(), tiny.model(tiny.processor())
    for each in (shop, fresh):
        add(each, {"item_id": ["ok"], "title": ["red tent"]})
    assert torch.equal(scores_of(shop), scores_of(fresh))


def test_features_of_the_wrong_shape_are_refused_and_nothing_changes(shop, tiny):
    processor, model = shop
    features = processor.item_features(tiny.new_items())
    features["picture"] = features["picture"][:, :2]
    with pytest.raises(ValueError, match=r"'picture' has shape \(2, 2\), expected \(2, 4\)"):
        model.add_items(features)
    del features["picture"]
    with pytest.raises(ValueError, match=r"lack \['picture'\]"):
        model.add_items(features)
    assert scores_of(shop).shape == (12,)


def test_the_processor_refuses_an_id_it_has_and_changes_nothing(tiny):
    processor = tiny.processor()
    with pytest.raises(ValueError, match="'i3' is in the catalog already"):
        processor.add_items({"item_id": ["n0", "i3"], "title": ["a", "b"]})
    assert len(processor.catalog) == 12
    assert "n0" not in processor.catalog


def test_set_items_refuses_another_catalog_size(shop, tiny):
    processor, model = shop
    with pytest.raises(ValueError, match=r"features of 2 items, .* configured for 12.*add_items"):
        model.set_items(processor.item_features(tiny.new_items()))


def assert_fresh(model):
    """The table that is served is the one that the weights of now would give."""
    with torch.no_grad():
        torch.testing.assert_close(model.model.item_table(), model.model.item_embedding.table())


@pytest.mark.parametrize("implementation", ["plain", "foreach", "fused"])
def test_the_cached_table_follows_an_optimizer_step(shop, implementation):
    processor, model = shop
    batch = processor(histories=[["i0", "i4", "i2"]], return_tensors="pt")
    options = {"plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}[implementation]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, **options)
    for _ in range(2):
        before = scores_of(shop).clone()
        # Without train() in between: evaluation and updates alternate in online learning.
        labels = batch["input_ids"].masked_fill(batch["input_ids"] < 260, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        assert_fresh(model)
        assert not torch.allclose(scores_of(shop), before, atol=1e-3)


def test_the_cached_table_follows_a_loaded_state_dict(shop, tiny):
    processor, model = shop
    before = scores_of(shop)
    other = tiny.awaken(tiny.model(processor), seed=5)
    model.load_state_dict(other.state_dict())
    assert_fresh(model)
    torch.testing.assert_close(scores_of(shop), scores_of((processor, other)))
    assert not torch.allclose(scores_of(shop), before, atol=1e-3)


def test_the_cached_table_follows_assigned_weights_features_and_device_moves(shop, tiny):
    processor, model = shop
    scores_of(shop)
    model.load_state_dict(tiny.awaken(tiny.model(processor), seed=6).state_dict(), assign=True)
    assert_fresh(model)
    scores_of(shop)
    features = processor.item_features()
    features["price"] = features["price"] + 1
    model.set_items(features)
    assert_fresh(model)
    scores_of(shop)
    model.to(torch.float64)
    assert_fresh(model)
    assert model.model.item_table().dtype == torch.float64


def test_the_table_is_computed_once_for_many_requests(shop, monkeypatch):
    _, model = shop
    scores_of(shop)

    def boom(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(model.model.item_embedding, "table", boom)
    scores_of(shop)
