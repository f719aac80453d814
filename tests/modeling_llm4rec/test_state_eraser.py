"""The state eraser: no linear classifier is left anything to tell, and nothing else of a state is touched."""

import numpy as np
import pytest
import torch
from llm4rec.modeling_llm4rec import FairnessConfig, LLM4RecForCausalLM
from llm4rec.modeling_llm4rec.state_eraser import StateEraser

WIDTH = 8


def telling_states(labels, seed=0, shift=1.0):
    """Correlated states (n, 8), off centre, whose mean depends on every attribute's value."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(labels), WIDTH, generator=generator) @ torch.randn(WIDTH, WIDTH, generator=generator) + 2
    for said in labels.unbind(1):
        states += shift * torch.randn(5, WIDTH, generator=generator)[said]
    return states


def random_labels(*sizes, n=600, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (n,), generator=generator) for size in sizes], dim=1)


def fitted(states, labels, *sizes):
    eraser = StateEraser(WIDTH, list(sizes)).eval()
    eraser.fit(states, labels)
    return eraser


def linearly_told(states, labels):
    """R² of the best linear guess of the most telling value, by numpy; what varies by rounding alone is left out."""
    design = np.concatenate([np.ones((len(states), 1)), states.double().numpy()], axis=1)
    wanted = np.concatenate([np.eye(int(said.max()) + 1)[said.numpy()] for said in labels.unbind(1)], axis=1)
    residual = wanted - design @ np.linalg.lstsq(design, wanted, rcond=1e-6)[0]
    return float((1 - residual.var(axis=0) / wanted.var(axis=0)).max())


def labels_of(batch):
    """Every item token but the first is predicted."""
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, 0] = -100
    return labels


@pytest.fixture
def fair(tiny):
    """A model with adversary and eraser for one attribute, and a batch of eight users."""
    processor = tiny.processor()
    model = tiny.model(processor)
    torch.manual_seed(0)
    model.add_fairness(FairnessConfig(["group"], [2], erase=True))
    generator = torch.Generator().manual_seed(2)
    histories = [[f"i{item}" for item in torch.randint(12, (5,), generator=generator)] for _ in range(8)]
    return model.eval(), processor(histories=histories, return_tensors="pt")


def fit_to(model, batch, labels):
    """Fit the model's eraser on the users' own states."""
    with torch.no_grad():
        model.model.state_eraser.fit(model.user_states(**inputs(batch)), labels)


def inputs(batch):
    return {name: values for name, values in batch.items() if name != "seen_items"}


@pytest.mark.parametrize("sizes", [(2,), (4,), (2, 3)])
def test_after_a_fit_no_linear_classifier_tells_the_groups(sizes):
    labels = random_labels(*sizes)
    states = telling_states(labels)
    assert linearly_told(states, labels) > 0.1
    erased = fitted(states, labels, *sizes)(states)
    for said in labels.unbind(1):
        means = torch.stack([erased[said == value].mean(dim=0) for value in said.unique()])
        assert (means - means[0]).abs().max() < 1e-4
    assert linearly_told(erased, labels) < 1e-6


def test_the_projection_is_leace():
    labels = random_labels(3)
    states = telling_states(labels)
    h, z = states.double().numpy(), np.eye(3)[labels[:, 0].numpy()]
    centred = h - h.mean(axis=0)
    own, cross = centred.T @ centred / len(h), centred.T @ (z - z.mean(axis=0)) / len(h)
    # Theorem 4.2 of Belrose et al.: W⁺ P W with the whitening W and the orthogonal projection P onto W Σ_hz.
    values, vectors = np.linalg.eigh(own)
    whiten, unwhiten = (vectors * values**power @ vectors.T for power in (-0.5, 0.5))
    onto = (whiten @ cross) @ np.linalg.pinv(whiten @ cross, rcond=1e-8)
    expected = h - centred @ (unwhiten @ onto @ whiten).T
    found = fitted(states, labels, 3)(states)
    np.testing.assert_allclose(found.numpy(), expected, atol=0.01 * np.abs(expected - h).max())


def test_an_eraser_that_was_never_fitted_changes_nothing():
    states = torch.randn(5, WIDTH)
    assert torch.equal(StateEraser(WIDTH, [2, 3])(states), states)


def test_states_with_an_unknown_label_are_left_out_of_the_fit():
    labels = random_labels(2, 3)
    states = telling_states(labels)
    known = fitted(states, labels, 2, 3)
    strange = torch.full((50, WIDTH), 100.0)
    unknown = torch.stack([torch.arange(50) % 2, torch.full((50,), -1)], dim=1)
    with_strangers = fitted(torch.cat([strange, states]), torch.cat([unknown, labels]), 2, 3)
    torch.testing.assert_close(with_strangers(states), known(states))
    nobody = fitted(states, torch.full_like(labels, -1), 2, 3)
    assert torch.equal(nobody(states), states)


def test_a_batch_of_one_group_alone_leaves_numbers_finite():
    labels = torch.zeros(20, 1, dtype=torch.long)
    states = telling_states(labels)
    assert torch.isfinite(fitted(states, labels, 2)(states)).all()


def test_in_training_the_projection_follows_states_that_drift():
    labels = random_labels(2)
    early, late = telling_states(labels, seed=3), telling_states(labels, seed=4)
    eraser = StateEraser(WIDTH, [2]).train()
    eraser(early, labels)
    assert linearly_told(eraser(early), labels) < 1e-6
    told_at_first = linearly_told(eraser(late), labels)
    for _ in range(600):
        eraser(late, labels)
    assert told_at_first > 0.1
    assert linearly_told(eraser(late), labels) < 1e-3


def test_in_training_every_history_counts_the_same_however_long_it_is():
    labels = random_labels(2, n=80)[:, None].repeat(1, 6, 1)
    states = telling_states(labels.flatten(0, 1)).view(80, 6, WIDTH)
    short = labels.clone()
    short[:40, 1:] = -1  # one place is known of these; in the others all six, which are alike
    states[40:] = states[40:, :1]
    eraser, of_single_places = StateEraser(WIDTH, [2]).train(), StateEraser(WIDTH, [2]).train()
    eraser(states, short)
    of_single_places(states[:, :1], labels[:, :1])
    torch.testing.assert_close(eraser.writes, of_single_places.writes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(eraser.mean, of_single_places.mean)


def test_outside_of_training_and_without_labels_nothing_is_learned():
    labels = random_labels(2)
    states = telling_states(labels)
    eraser = StateEraser(WIDTH, [2])
    eraser.train()(states)
    eraser.eval()(states, labels)
    assert not eraser.reads.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_states_stay_in_half_precision(dtype):
    labels = random_labels(2)
    states = telling_states(labels)
    eraser = fitted(states, labels, 2)
    erased = eraser(states.to(dtype))
    assert erased.dtype == dtype
    torch.testing.assert_close(erased.float(), eraser(states), rtol=0.02, atol=0.1)
    assert eraser.reads.dtype == torch.float32


def test_it_is_fitted_in_single_precision_where_the_training_around_it_is_not():
    labels = random_labels(2)
    states = telling_states(labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = fitted(states, labels, 2)
    torch.testing.assert_close(under_autocast.reads, fitted(states, labels, 2).reads)


def test_a_models_states_and_recommendations_go_through_its_eraser(fair):
    model, batch = fair
    labels = torch.tensor([[0], [1]] * 4)
    before = model.user_states(**inputs(batch))
    scores = model.recommend(**batch, k=12, filter_seen=False).scores
    fit_to(model, batch, labels)
    after = model.user_states(**inputs(batch))
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after[::2].mean(0), after[1::2].mean(0), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(model.recommend(**batch, k=12, filter_seen=False).scores, scores, atol=1e-3)


def test_in_training_a_model_teaches_its_eraser_late_states_with_a_known_label_only(fair):
    model, batch = fair
    taught = []
    model.model.state_eraser._follow = lambda states, labels: taught.append(labels)
    model.train()
    said = torch.tensor([[1], [-1], [0], [1], [0], [1], [0], [1]])
    model(**batch, labels=labels_of(batch), sensitive_labels=said)
    labels = taught[0].squeeze(-1)
    # Start token and five items: six states, of which the first five predict; those of the last two or three are late.
    assert labels[0].tolist() == [-1, -1, 1, 1, 1, -1]
    assert labels[1].tolist() == [-1] * 6
    assert labels[2].tolist() == [-1, -1, 0, 0, 0, -1]


def test_a_checkpoint_keeps_what_was_fitted(fair, tmp_path):
    model, batch = fair
    fit_to(model, batch, torch.tensor([[0], [1]] * 4))
    model.save_pretrained(tmp_path)
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.model.state_eraser.reads.any()
    torch.testing.assert_close(loaded.user_states(**inputs(batch)), model.user_states(**inputs(batch)))
    expected = model.recommend(**batch, k=5)
    found = loaded.recommend(**batch, k=5)
    assert torch.equal(found.items, expected.items)
    torch.testing.assert_close(found.scores, expected.scores)


def test_a_finished_model_has_its_eraser_and_no_adversary(fair, tmp_path):
    model, batch = fair
    fit_to(model, batch, torch.tensor([[0], [1]] * 4))
    expected = model.score_items(**batch)
    model.remove_adversary()
    torch.testing.assert_close(model.score_items(**batch), expected)
    model.save_pretrained(tmp_path)
    loaded, info = LLM4RecForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]  # noqa: PT018
    assert loaded.model.adversary is None
    assert loaded.config.fairness.adversary is False
    assert loaded.config.fairness.strength == 1.0
    torch.testing.assert_close(loaded.eval().score_items(**batch), expected)


def test_a_loaded_eraser_follows_states_from_the_start_or_from_where_training_stopped(fair, tmp_path):
    model, batch = fair
    labels = torch.tensor([[0], [1]] * 4)
    fit_to(model, batch, labels)
    model.save_pretrained(tmp_path / "stopped")
    moments = model.model.state_eraser.second.clone()
    model.remove_adversary()
    model.save_pretrained(tmp_path / "finished")
    stopped, finished = (LLM4RecForCausalLM.from_pretrained(tmp_path / name) for name in ("stopped", "finished"))
    assert torch.equal(stopped.model.state_eraser.second, moments)
    assert torch.equal(finished.model.state_eraser.second, torch.zeros_like(moments))
    assert finished.model.state_eraser.share == 0


def test_generation_reads_erased_states_as_recommendation_does(fair):
    model, batch = fair
    fit_to(model, batch, torch.tensor([[0], [1]] * 4))
    best = model.recommend(**batch, k=1).items[:, 0]
    tokens = model.generate(**batch, items_only=True, max_new_tokens=1, do_sample=False)[:, -1]
    assert (tokens - model.config.text_vocab_size).tolist() == best.tolist()
