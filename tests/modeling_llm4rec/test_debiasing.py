"""Weights of events, the doubly robust loss, the popularity prior and the adversary: known answers in small."""

import math

import pytest
import torch
import torch.nn.functional as F
from llm4rec.modeling_llm4rec import FairnessConfig, LLM4RecForCausalLM, PopularityConfig
from llm4rec.modeling_llm4rec.adversary import SensitiveAttributeAdversary, history_weights, reverse_gradient
from llm4rec.modeling_llm4rec.debiasing import doubly_robust_error, target_weights
from llm4rec.modeling_llm4rec.item_loss import full_softmax_loss, sampled_softmax_loss


@pytest.fixture
def logits():
    """States (200, 6), a table (9, 6), targets, and weights of mean 1 that span a factor of 30."""
    torch.manual_seed(0)
    weights = torch.rand(200) ** 2 + 0.03
    return torch.randn(200, 6), torch.randn(9, 6), torch.randint(9, (200,)), weights / weights.mean()


@pytest.fixture
def with_prior(tiny):
    """A processor and a model whose prior knows two periods; popularity grows with the item's number in the first."""
    processor = tiny.processor()
    model = tiny.model(processor)
    rising = torch.linspace(-1, 1, 12)
    model.add_popularity_prior(
        PopularityConfig(strength=0.7),
        torch.stack([torch.zeros(12), rising, -rising]),
        torch.tensor([-2.0, -2.0, -3.0]),
        torch.tensor([100, 200]),
    )
    return processor, model


def labels_of(batch):
    """Every item token but the first is predicted."""
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, 0] = -100
    return labels


def test_weighted_full_softmax_is_the_weighted_sum_of_cross_entropies(logits):
    states, table, targets, weights = logits
    states.requires_grad_()
    found = full_softmax_loss(states, table, targets, weights=weights)
    expected = weights @ F.cross_entropy(states @ table.T, targets, reduction="none")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, states)[0] for loss in (found, expected)))


def test_inverse_propensity_weights_undo_the_selection_of_targets(logits):
    """Targets drawn with probability ∝ e·r and weighted by 1/e give the loss of targets drawn ∝ r."""
    _, table, _, _ = logits
    generator = torch.Generator().manual_seed(1)
    state = torch.randn(1, 6, generator=generator)
    relevance = torch.rand(9, generator=generator) + 0.1
    exposure = torch.tensor([8.0, 4.0, 2.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25])
    losses = F.cross_entropy((state @ table.T).expand(9, -1), torch.arange(9), reduction="none")
    truth = (relevance / relevance.sum() @ losses).item()
    drawn = torch.multinomial(exposure * relevance, 40_000, replacement=True, generator=generator)
    inverse = 1 / exposure[drawn]
    weights, _ = target_weights(inverse, "snips")
    states = state.expand(len(drawn), -1)
    weighted = full_softmax_loss(states, table, drawn, weights=weights).item() / len(drawn)
    naive = full_softmax_loss(states, table, drawn).item() / len(drawn)
    assert abs(weighted - truth) < 0.1 * abs(naive - truth)


def test_self_normalised_weights_have_mean_one_in_every_batch_and_plain_ones_are_left_alone():
    weights = torch.tensor([0.5, 4.0, 1.5])
    assert target_weights(weights, "snips")[0].tolist() == pytest.approx([0.25, 2.0, 0.75])
    assert target_weights(weights, "ips")[0].tolist() == weights.tolist()


def test_doubly_robust_loss_adds_the_imputed_loss_with_one_minus_the_weight(logits):
    states, table, targets, weights = logits
    states.requires_grad_()
    imputed = torch.rand(9)
    imputed /= imputed.sum()
    coefficients, background = target_weights(weights, "doubly_robust", imputed)
    found = full_softmax_loss(states, table, targets, weights=coefficients, background=background)
    every_loss = -torch.log_softmax(states @ table.T, dim=-1)
    guess = every_loss @ imputed
    expected = (guess + weights * (every_loss.gather(1, targets[:, None]).squeeze(1) - guess)).sum()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    for ours, theirs in zip(torch.autograd.grad(found, states), torch.autograd.grad(expected, states), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_doubly_robust_error_is_right_if_either_the_propensities_or_the_guesses_are():
    generator = torch.Generator().manual_seed(0)
    errors, propensities = torch.rand(400, generator=generator), torch.rand(400, generator=generator) * 0.8 + 0.1
    wrong_guesses, wrong_propensities = torch.rand(400, generator=generator), torch.full((400,), 0.5)
    selected = errors + propensities  # what is observed depends on the error too, through the propensity
    chances = (selected / selected.max()).clamp(0.05, 1)
    means = {"propensities": 0.0, "guesses": 0.0, "neither": 0.0}
    for _ in range(600):
        observed = torch.rand(400, generator=generator) < chances
        means["propensities"] += doubly_robust_error(errors, wrong_guesses, observed, chances).item() / 600
        means["guesses"] += doubly_robust_error(errors, errors, observed, wrong_propensities).item() / 600
        means["neither"] += doubly_robust_error(errors, wrong_guesses, observed, wrong_propensities).item() / 600
    truth = errors.mean().item()
    assert means["propensities"] == pytest.approx(truth, abs=0.01)
    assert means["guesses"] == pytest.approx(truth, abs=1e-5)
    assert abs(means["neither"] - truth) > 0.03


def test_an_unknown_weighting_and_a_missing_imputation_are_refused():
    with pytest.raises(ValueError, match="Unknown loss weighting 'isp', expected one of none, ips"):
        target_weights(torch.ones(2), "isp")
    with pytest.raises(ValueError, match="set_imputed_targets"):
        target_weights(torch.ones(2), "doubly_robust")


@pytest.mark.parametrize("method", ["ips", "snips", "doubly_robust"])
def test_weights_of_one_leave_the_loss_of_a_model_as_it_is(tiny, method):
    processor = tiny.processor()
    model = tiny.model(processor)
    batch = processor(histories=[["i0", "i4", "i2"], ["i5", "i1"]], return_tensors="pt")
    plain = model(**batch, labels=labels_of(batch)).loss
    model.config.loss_weighting = method
    model.set_imputed_targets(torch.rand(12))
    weighted = model(**batch, labels=labels_of(batch), loss_weights=torch.ones_like(batch["input_ids"]).float()).loss
    torch.testing.assert_close(weighted, plain)


def test_weights_belong_to_the_event_at_their_place_not_to_the_one_before(tiny):
    processor = tiny.processor()
    model = tiny.model(processor)
    batch = processor(histories=[["i0", "i4", "i2"]], return_tensors="pt")
    weights = torch.tensor([[9.0, 0.0, 0.0, 1.0]])  # of the start token and the first two items: nothing counts
    model.config.loss_weighting = "ips"
    found = model(**batch, labels=labels_of(batch), loss_weights=weights).loss * 3
    labels = labels_of(batch)
    labels[:, :3] = -100
    torch.testing.assert_close(found, model(**batch, labels=labels).loss)


@pytest.mark.parametrize("method", ["ips", "snips", "doubly_robust"])
def test_a_weighted_loss_in_bfloat16_stays_finite_and_near_the_exact_one(tiny, method):
    processor = tiny.processor()
    model = tiny.model(processor, loss_weighting=method)
    model.set_imputed_targets(torch.ones(12))
    batch = processor(histories=[["i0", "i4", "i2"], ["i5", "i1"]], return_tensors="pt")
    inputs = {**batch, "labels": labels_of(batch), "loss_weights": torch.tensor([[1.0, 40.0, 0.01, 3.0]] * 2)}
    exact = model(**inputs).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(**inputs).loss
    rough.backward()
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


def test_the_prior_is_in_the_softmax_of_training(with_prior):
    """The loss equals cross-entropy over scores plus γ log p at the period of each event."""
    processor, model = with_prior
    batch = processor(histories=[["i0", "i4", "i2"]], return_tensors="pt")
    periods = torch.tensor([[0, 1, 2, 1]])
    found = model(**batch, labels=labels_of(batch), popularity_periods=periods).loss
    scores = model(**batch).logits[0, :-1, model.config.text_vocab_size :]
    biased = scores + 0.7 * model.model.popularity_prior.log_popularity[periods[0, 1:]]
    torch.testing.assert_close(found, F.cross_entropy(biased, torch.tensor([0, 4, 2])))


def test_sampling_negatives_neither_cancels_the_prior_nor_counts_it_twice(tiny, with_prior):
    """With sampled negatives the loss estimates the full one with the prior, in the mean, and so does γ's slope."""
    processor, model = with_prior
    tiny.awaken(model, scale=0.03)  # the logarithm of an estimate errs with its variance
    with torch.no_grad():
        model.model.popularity_prior.weight.fill_(0.07)
    batch = processor(histories=[["i0", "i4", "i2"], ["i5", "i11", "i3"]], return_tensors="pt")
    inputs = {**batch, "labels": labels_of(batch), "popularity_periods": torch.tensor([[0, 1, 1, 2]] * 2)}
    strength = model.model.popularity_prior.weight

    def loss_and_slope():
        loss = model(**inputs).loss
        return torch.stack([loss.detach(), torch.autograd.grad(loss, strength)[0]])

    expected = loss_and_slope()
    model.config.num_negatives = 11
    torch.manual_seed(0)
    draws = torch.stack([loss_and_slope() for _ in range(400)])
    error = draws.std(dim=0) / math.sqrt(len(draws))
    assert ((draws.mean(dim=0) - expected).abs() < 4 * error + 0.02 * expected.abs()).all()
    with torch.no_grad():  # twice the prior would have been noticed
        model.config.num_negatives = 0
        model.model.popularity_prior.weight.fill_(0.14)
        assert abs(model(**inputs).loss - expected[0]) > 4 * error[0] + 0.02 * expected[0]


def test_serving_takes_popularity_out_and_puts_any_amount_back_in(with_prior):
    processor, model = with_prior
    batch = processor(histories=[["i0", "i4"], ["i5"]], return_tensors="pt")
    plain = model.score_items(**batch)
    now = torch.tensor([150, 250])
    shift = model.score_items(**batch, popularity=2.0, request_time=now) - plain
    rising = torch.linspace(-1, 1, 12)
    torch.testing.assert_close(shift, torch.stack([2 * rising, -2 * rising]), atol=1e-5, rtol=1e-5)
    per_user = model.score_items(**batch, popularity=torch.tensor([0.0, 1.0]), request_time=now) - plain
    torch.testing.assert_close(per_user, torch.stack([0 * rising, -rising]), atol=1e-5, rtol=1e-5)


def test_requests_without_a_time_meet_the_latest_popularity_and_unknown_times_that_of_the_whole_log(with_prior):
    processor, model = with_prior
    batch = processor(histories=[["i0", "i4"]], return_tensors="pt")
    plain = model.score_items(**batch)
    latest = model.score_items(**batch, popularity=1.0)
    torch.testing.assert_close(latest - plain, -torch.linspace(-1, 1, 12)[None], atol=1e-5, rtol=1e-5)
    unknown = model.score_items(**batch, popularity=1.0, request_time=torch.tensor([-1]))
    torch.testing.assert_close(unknown, plain)


def test_enough_popularity_puts_the_most_popular_item_first_and_generation_agrees(with_prior):
    processor, model = with_prior
    batch = processor(histories=[["i4", "i5"]], return_tensors="pt")
    assert model.recommend(**batch, k=1, popularity=100.0).items.tolist() == [[0]]  # the latest period falls
    model.config.popularity.serving_strength = 100.0
    assert model.recommend(**batch, k=1).items.tolist() == [[0]]
    token = model.generate(**batch, items_only=True, max_new_tokens=1, do_sample=False)[0, -1]
    assert token.item() - model.config.text_vocab_size == 0


def test_a_checkpoint_keeps_the_prior_and_items_added_later_count_as_unseen(with_prior, tmp_path, tiny):
    processor, model = with_prior
    model.save_pretrained(tmp_path)
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path).eval()
    batch = processor(histories=[["i0", "i4"]], return_tensors="pt")
    torch.testing.assert_close(loaded.score_items(**batch, popularity=1.0), model.score_items(**batch, popularity=1.0))
    assert float(loaded.model.popularity_prior.strength) == pytest.approx(0.7)
    loaded.add_items({name: values[:1] for name, values in processor.item_features().items()})
    shift = loaded.score_items(**batch, popularity=1.0) - loaded.score_items(**batch)
    assert shift[0, -1].item() == pytest.approx(-3.0, abs=1e-4)


def test_popularity_of_a_model_without_a_prior_and_numbers_that_are_none_are_refused(model, processor, with_prior):
    batch = processor(histories=[["i0"]], return_tensors="pt")
    with pytest.raises(ValueError, match="needs a model with a popularity prior"):
        model.recommend(**batch, popularity=0.5)
    for wrong in (float("nan"), torch.ones(3)):
        with pytest.raises(ValueError, match="expected a finite number, or one for each of the 1 users"):
            with_prior[1].recommend(**batch, popularity=wrong)


def test_a_prior_of_wrong_numbers_leaves_the_model_without_one(tiny):
    model = tiny.model(tiny.processor())
    with pytest.raises(ValueError, match="holds 1 numbers that are not finite"):
        model.add_popularity_prior(PopularityConfig(), torch.tensor([[float("-inf")] + [0.0] * 11]), torch.zeros(1))
    with pytest.raises(ValueError, match="must ascend"):
        model.add_popularity_prior(PopularityConfig(), torch.zeros(3, 12), torch.zeros(3), torch.tensor([200, 100]))
    assert model.config.popularity is None
    assert model.model.popularity_prior is None


def test_reversal_turns_the_gradient_and_scales_it():
    states = torch.ones(2, 3, requires_grad=True)
    assert torch.equal(reverse_gradient(states, 0.5), states)
    reverse_gradient(states, 0.5).sum().backward()
    assert torch.equal(states.grad, torch.full((2, 3), -0.5))


def test_the_adversary_pushes_states_to_where_its_classifiers_err():
    torch.manual_seed(0)
    adversary = SensitiveAttributeAdversary(FairnessConfig(["group"], [2], strength=1.0), 8)
    states = torch.randn(64, 8, requires_grad=True)
    labels = (states[:, :1] > 0).long()
    before = adversary(states, labels)
    before.backward()
    with torch.no_grad():
        assert adversary(states - 0.1 * states.grad, labels) > before
    assert all(weight.grad is None for weight in adversary.parameters())


def test_classifiers_learn_from_the_states_of_training_and_from_no_others():
    torch.manual_seed(0)
    adversary = SensitiveAttributeAdversary(FairnessConfig(["group", "age"], [2, 3]), 8)
    states = torch.randn(64, 8)
    labels = torch.stack([(states[:, 0] > 0).long(), torch.full((64,), -1)], dim=1)
    adversary.eval()(states, -labels)
    with torch.no_grad():
        adversary.train()(states, -labels)
    assert not adversary.recent
    adversary(states, labels)
    weights = {name: weight.detach().requires_grad_() for name, weight in adversary.named_parameters()}
    optimizer = torch.optim.AdamW(weights.values(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        adversary.classifier_loss(weights).backward()
        optimizer.step()
    assert adversary(states, labels) < 0.2  # the weights share the classifiers' storage
    adversary.recent.clear()
    adversary(states, torch.full((64, 2), -1))
    assert adversary.classifier_loss(weights).item() == 0


def test_unknown_labels_teach_the_adversary_nothing(tiny):
    adversary = SensitiveAttributeAdversary(FairnessConfig(["group", "age"], [2, 3]), 8)
    states, labels = torch.randn(4, 8), torch.tensor([[0, -1], [1, -1], [-1, -1], [0, -1]])
    some = adversary(states, labels)
    known = adversary(states[[0, 1, 3]], labels[[0, 1, 3]])
    torch.testing.assert_close(some, known)
    assert adversary(states, torch.full((4, 2), -1)).item() == 0


def test_every_history_counts_the_same_to_the_adversary():
    marked = torch.tensor([[True, True, False, True], [False, False, False, True], [False] * 4])
    torch.testing.assert_close(history_weights(marked), torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 2]))
    assert history_weights(marked[2:]).shape == (0,)
    adversary = SensitiveAttributeAdversary(FairnessConfig(["group"], [2]), 8)
    states, labels = torch.randn(2, 8), torch.tensor([[0], [1]])
    repeated = adversary(states[[0, 0, 0, 1]], labels[[0, 0, 0, 1]], history_weights(marked))
    torch.testing.assert_close(repeated, adversary(states, labels))


def test_sensitive_labels_change_what_is_learned_and_never_what_is_read(tiny):
    processor = tiny.processor()
    model = tiny.model(processor)
    batch = processor(histories=[["i0", "i4", "i2"], ["i5", "i1", "i3"]], return_tensors="pt")
    before = model.score_items(**batch)
    model.add_fairness(FairnessConfig(["gender"], [2]))
    torch.testing.assert_close(model.score_items(**batch), before)
    plain = model(**batch, labels=labels_of(batch)).loss
    fair = model(**batch, labels=labels_of(batch), sensitive_labels=torch.tensor([[0], [1]])).loss
    assert fair > plain
    model.remove_adversary()
    assert not any("adversary" in name for name in model.state_dict())
    assert model.config.fairness is None


def test_sampled_softmax_takes_weights_too(logits):
    states, table, targets, weights = logits
    everything = torch.arange(9)
    sampled = sampled_softmax_loss(states, table[targets], table, targets, everything, 9, weights=weights)
    torch.testing.assert_close(sampled, full_softmax_loss(states, table, targets, weights=weights))
