"""The repeat bias: learned likelihood of items that the user had already."""

import pytest
import torch
from llm4rec.modeling_llm4rec import item_loss
from llm4rec.modeling_llm4rec.repeat_bias import seen_pairs


@pytest.fixture
def shop(tiny):
    """A processor and a model of its own."""
    processor = tiny.processor()
    return processor, tiny.model(processor)


def test_every_prediction_sees_the_items_up_to_its_position_and_their_ages():
    items = torch.tensor([[-1, 5, 6, 7], [3, 4, -1, -1]])
    predicts = torch.tensor([[True, True, True, False], [True, False, False, False]])
    pairs = seen_pairs(items, predicts)
    assert list(zip(*(part.tolist() for part in pairs), strict=True)) == [(1, 5, 0), (2, 5, 1), (2, 6, 0), (3, 3, 0)]


def test_text_between_items_does_not_age_them():
    pairs = seen_pairs(torch.tensor([[5, -1, -1, 6]]), torch.tensor([[False, False, False, True]]))
    assert pairs.ages.tolist() == [1, 0]


def test_biased_full_softmax_equals_cross_entropy_on_biased_logits(monkeypatch):
    monkeypatch.setattr(item_loss, "MAX_LOGITS_AT_ONCE", 70)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    states, table, values = draw(30, 8), draw(20, 8), draw(60)
    targets = torch.randint(20, (30,), generator=generator)
    rows = torch.randint(30, (60,), generator=generator).sort().values
    items = torch.randint(20, (60,), generator=generator)
    logits = (states @ table.T).index_put((rows, items), values, accumulate=True)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    found = item_loss.full_softmax_loss(states, table, targets, bias=item_loss.LogitBias(rows, items, values))
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)
    for grad, wanted in zip(
        torch.autograd.grad(found, (states, table, values)),
        torch.autograd.grad(expected, (states, table, values)),
        strict=True,
    ):
        torch.testing.assert_close(grad, wanted, atol=1e-5, rtol=1e-5)


def test_biased_sampled_softmax_with_all_items_equals_the_full_one():
    generator = torch.Generator().manual_seed(1)
    states, table = torch.randn(30, 8, generator=generator), torch.randn(20, 8, generator=generator)
    targets = torch.randint(20, (30,), generator=generator)
    rows = torch.randint(30, (60,), generator=generator).sort().values
    bias = item_loss.LogitBias(
        rows, torch.randint(20, (60,), generator=generator), torch.randn(60, generator=generator)
    )
    sampled = item_loss.sampled_softmax_loss(states, table[targets], table, targets, torch.arange(20), 20, bias)
    torch.testing.assert_close(sampled, item_loss.full_softmax_loss(states, table, targets, bias=bias))


def test_a_low_repeat_bias_takes_seen_items_off_the_list_and_leaves_the_others_in_order(shop):
    processor, model = shop
    batch = processor(histories=[["i0", "i1", "i2"]], return_tensors="pt")
    model.model.repeat_bias.bias.data.zero_()
    filtered = model.recommend(**batch, k=9).items[0].tolist()
    model.model.repeat_bias.bias.data.fill_(-10.0)
    unfiltered = model.recommend(**batch, k=12, filter_seen=False).items[0].tolist()
    assert unfiltered[:9] == filtered
    assert set(unfiltered[9:]) == {0, 1, 2}


def test_generation_with_a_cache_applies_the_bias_to_the_whole_sequence(shop):
    processor, model = shop
    batch = processor(histories=[["i0", "i1", "i2"]], return_tensors="pt")
    model.model.repeat_bias.bias.data.fill_(3.0)
    runs = [
        model.generate(**batch, items_only=True, no_repeats=False, max_new_tokens=5, do_sample=False, use_cache=cache)
        for cache in (True, False)
    ]
    assert torch.equal(*runs)
