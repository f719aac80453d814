"""Loss of item tokens: against torch's cross-entropy, in expectation, and split between items and text."""

import math

import pytest
import torch
import torch.nn.functional as F
from llm4rec.modeling_llm4rec import item_loss
from llm4rec.modeling_llm4rec.debiasing import Background
from llm4rec.modeling_llm4rec.item_loss import LogitOffsets, full_softmax_loss, sampled_softmax_loss


def smoothing_of(share, count, items):
    """Label smoothing in the terms of the losses: weights of the targets and a uniform background."""
    return {
        "weights": torch.full((count,), 1 - share),
        "background": Background(torch.full((count,), share), torch.full((items,), 1 / items)),
    }


@pytest.mark.parametrize("at_once", [2**24, 30])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_full_softmax_equals_torch_cross_entropy_in_value_and_gradient(monkeypatch, at_once, smoothing):
    monkeypatch.setattr(item_loss, "MAX_LOGITS_AT_ONCE", at_once)
    torch.manual_seed(0)
    states, table = torch.randn(17, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(11, (17,))
    ours = full_softmax_loss(states, table, targets, **smoothing_of(smoothing, 17, 11))
    (ours * 0.7).backward()
    got = states.grad.clone(), table.grad.clone()
    states.grad = table.grad = None
    expected = F.cross_entropy(states @ table.T, targets, reduction="sum", label_smoothing=smoothing)
    (expected * 0.7).backward()
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(got[0], states.grad)
    torch.testing.assert_close(got[1], table.grad)


def test_full_softmax_passes_gradcheck():
    torch.manual_seed(0)
    states = torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    table = torch.randn(6, 4, dtype=torch.double, requires_grad=True)
    targets = torch.randint(6, (5,))
    # The loss is computed in single precision, which bounds what finite differences can see.
    assert torch.autograd.gradcheck(
        lambda s, t: full_softmax_loss(s, t, targets, **smoothing_of(0.1, 5, 6)), (states, table), eps=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("at_once", [2**24, 30])
def test_offsets_of_logits_act_as_if_written_into_them_in_value_and_gradient(monkeypatch, at_once):
    monkeypatch.setattr(item_loss, "MAX_LOGITS_AT_ONCE", at_once)
    torch.manual_seed(0)
    states, table = torch.randn(17, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    strength, values = torch.tensor(0.7, requires_grad=True), torch.randn(3, 11)
    targets, kinds = torch.randint(11, (17,)), torch.randint(3, (17,))
    leaves = states, table, strength
    ours = full_softmax_loss(states, table, targets, offsets=LogitOffsets(values, kinds, strength))
    logits = states @ table.T + strength * values[kinds]
    expected = F.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(ours, expected)
    gradients = torch.autograd.grad(expected, leaves)
    torch.testing.assert_close(torch.autograd.grad(ours, leaves), gradients)
    everything = torch.arange(11)
    sampled = sampled_softmax_loss(
        states, table[targets], table, targets, everything, 11, offsets=LogitOffsets(values, kinds, strength)
    )
    torch.testing.assert_close(sampled, expected)
    torch.testing.assert_close(torch.autograd.grad(sampled, leaves), gradients)


def test_the_strength_of_offsets_learns_the_same_under_autocast():
    torch.manual_seed(0)
    states, table, values = 0.3 * torch.randn(4000, 64), 0.3 * torch.randn(3706, 64), torch.randn(13, 3706)
    kinds = torch.randint(13, (4000,))
    targets = torch.multinomial((states @ table.T + 0.7 * values[kinds]).softmax(-1), 1).squeeze(1)
    found = []
    for mixed in (False, True):
        strength = torch.tensor(0.7, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            loss = full_softmax_loss(states, table, targets, offsets=LogitOffsets(values, kinds, strength))
        loss.backward()
        found.append(strength.grad)
    # What it sums nearly cancels: a product in half precision is 1.8 off, always to the same side.
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0.5)


def test_full_softmax_trains_states_when_the_table_is_frozen():
    states, table = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    full_softmax_loss(states, table, torch.tensor([0, 1, 2])).backward()
    assert states.grad.abs().sum() > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sampled_softmax_with_every_item_as_negative_is_the_full_loss(smoothing):
    torch.manual_seed(0)
    states, table = torch.randn(9, 8), torch.randn(7, 8)
    targets, everything = torch.randint(7, (9,)), torch.arange(7)
    options = smoothing_of(smoothing, 9, 7)
    sampled = sampled_softmax_loss(states, table[targets], table, targets, everything, 7, **options)
    expected = F.cross_entropy(states @ table.T, targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(sampled, expected)


def test_sampled_softmax_estimates_the_partition_function_without_bias():
    torch.manual_seed(0)
    table, state = torch.randn(50, 6), torch.randn(1, 6)
    targets = torch.tensor([4])
    logits = (state @ table.T).squeeze(0)
    estimates = []
    for _ in range(3000):
        negatives = torch.randint(50, (10,))
        loss = sampled_softmax_loss(state, table[targets], table[negatives], targets, negatives, 50)
        estimates.append((loss + logits[4]).exp().item())
    error = torch.tensor(estimates).std().item() / math.sqrt(len(estimates))
    assert sum(estimates) / len(estimates) == pytest.approx(logits.exp().sum().item(), abs=4 * error)


def test_sampled_loss_of_the_model_with_many_draws_nears_the_full_loss(tiny, processor):
    batch = processor(histories=[["i0", "i4", "i2"], ["i5", "i1", "i3"]], return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, 0] = -100
    full = tiny.awaken(tiny.model(processor), scale=0.03)
    sampled = tiny.awaken(tiny.model(processor, num_negatives=6), scale=0.03)
    with torch.no_grad():
        expected = full(**batch, labels=labels).loss
        torch.manual_seed(0)
        mean = torch.stack([sampled(**batch, labels=labels).loss for _ in range(300)]).mean()
    assert mean.item() == pytest.approx(expected.item(), rel=0.05)


def test_loss_equals_cross_entropy_over_item_logits_at_every_item_position(model, processor):
    batch = processor(histories=[["i0", "i4", "i2"], ["i5"]], return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[labels == processor.start_id] = -100
    with torch.no_grad():
        loss = model(**batch, labels=labels).loss
        logits = model(**batch).logits[:, :-1, 260:]
    wanted = labels[:, 1:]
    expected = F.cross_entropy(logits[wanted >= 0], wanted[wanted >= 0] - 260)
    torch.testing.assert_close(loss, expected)


def test_text_positions_never_see_items_and_item_positions_never_see_text(tiny, processor):
    model = tiny.model(processor)
    ids = processor(text="buy <|item:i3|> now", return_tensors="pt")["input_ids"]
    text_labels = ids.masked_fill(ids >= 260, -100)
    item_labels = ids.masked_fill(ids < 260, -100)
    with torch.no_grad():
        logits = model(ids).logits[:, :-1]
        text_loss, item_loss_ = model(ids, labels=text_labels).loss, model(ids, labels=item_labels).loss
    wanted = text_labels[:, 1:]
    torch.testing.assert_close(text_loss, F.cross_entropy(logits[..., :260][wanted >= 0], wanted[wanted >= 0]))
    wanted = item_labels[:, 1:]
    torch.testing.assert_close(item_loss_, F.cross_entropy(logits[..., 260:][wanted >= 0], wanted[wanted >= 0] - 260))


def test_num_items_in_batch_divides_the_summed_loss(model, processor):
    ids = processor(histories=[["i0", "i4", "i2"]], return_tensors="pt")["input_ids"]
    labels = ids.masked_fill(ids < 260, -100)
    with torch.no_grad():
        mean = model(ids, labels=labels).loss
        divided = model(ids, labels=labels, num_items_in_batch=torch.tensor(30)).loss
    torch.testing.assert_close(divided, mean * 3 / 30)


def test_a_softmax_over_too_many_items_is_refused_with_the_way_out(tiny, processor):
    model = tiny.model(processor, max_full_softmax_items=5)
    ids = processor(histories=[["i0", "i4"]], return_tensors="pt")["input_ids"]
    with pytest.raises(ValueError, match=r"max_full_softmax_items=5\. Set num_negatives"):
        model(ids, labels=ids)


@pytest.mark.parametrize("num_negatives", [0, 6])
def test_items_that_training_never_saw_do_not_compete(tiny, processor, num_negatives):
    model = tiny.model(processor, num_negatives=num_negatives)
    item_embedding = model.model.item_embedding
    item_embedding.present[[2, 5], 0] = False
    items = torch.tensor([[1, 0, 3, 7, 8]])
    input_ids = torch.where(torch.arange(5) == 0, 1, items + model.config.text_vocab_size)
    torch.manual_seed(0)
    loss = model(input_ids=input_ids, labels=input_ids.masked_fill(input_ids < 16, -100)).loss
    with torch.no_grad():
        item_embedding.features.modality_4[[2, 5]] += 5.0
    torch.manual_seed(0)
    again = model(input_ids=input_ids, labels=input_ids.masked_fill(input_ids < 16, -100)).loss
    assert torch.equal(loss, again)
    with torch.no_grad():
        item_embedding.features.modality_4[[0, 3, 7]] *= -3.0
    torch.manual_seed(0)
    assert not torch.equal(model(input_ids=input_ids, labels=input_ids.masked_fill(input_ids < 16, -100)).loss, loss)


def test_an_item_without_an_id_can_be_a_target(tiny, processor):
    model = tiny.model(processor)
    model.model.item_embedding.present[[2, 5], 0] = False
    input_ids = torch.tensor([[1, model.config.text_vocab_size + 2, model.config.text_vocab_size + 3]])
    labels = input_ids.masked_fill(input_ids < model.config.text_vocab_size, -100)
    with torch.no_grad():
        states = model.model(input_ids).last_hidden_state[0, :2]
        scores = states @ model.model.item_embedding.table().T
        scores[1, 2] += model.model.repeat_bias(torch.tensor([0])).item()
        scores[:, 5] = -torch.inf
    expected = F.cross_entropy(scores, torch.tensor([2, 3]))
    torch.testing.assert_close(model(input_ids=input_ids, labels=labels).loss.detach(), expected)
