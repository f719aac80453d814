"""Training of relevance models: what a batch holds, what is learned, what weights and propensities do."""

import numpy as np
import pytest
import torch
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForRelevance
from llm4rec.modeling_llm4rec.debiasing import doubly_robust_error, sampled_doubly_robust_error
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.propensity.given import GivenPropensities
from llm4rec.training.relevance.fit import fit_relevance, predict_ratings
from llm4rec.training.relevance.joint_learning import JointLearning, soft_losses
from llm4rec.training.relevance.rated_users import RandomSplits, RatedUsers

USERS, ITEMS, LEVELS = 40, 20, [1.0, 2.0, 3.0, 4.0, 5.0]


def planted(seed=0):
    """Users of two kinds, each loves one half of the items; everybody rated twelve of the twenty."""
    generator = np.random.default_rng(seed)
    loves = (np.arange(USERS)[:, None] % 2) == (np.arange(ITEMS) % 2)
    full = np.where(loves, 5, 1) + np.where(generator.random((USERS, ITEMS)) < 0.2, np.where(loves, -1, 1), 0)
    seen = generator.random((USERS, ITEMS)).argsort(1)[:, :12]
    items = np.sort(seen, axis=1)
    ratings = np.take_along_axis(full, items, 1)
    offsets = np.arange(USERS + 1) * 12
    return Interactions(offsets, items.ravel().astype(np.int32), ITEMS, ratings.ravel().astype(np.float32)), loves


def make_model(weighting="none", **changes):
    torch.manual_seed(0)
    decoder = {"model_type": "gpt_neox", "vocab_size": 260, "hidden_size": 8, "intermediate_size": 8}
    decoder |= {"num_hidden_layers": 1, "num_attention_heads": 1}
    return LLM4RecForRelevance(
        LLM4RecConfig(
            num_items=ITEMS,
            modalities=[{"name": "id", "kind": "id"}],
            rating_levels=LEVELS,
            text_config=decoder,
            initializer_range=0.1,
            loss_weighting=weighting,
            relevance=changes,
        )
    )


def given(train, values=0.5):
    users = np.repeat(np.arange(train.num_users), train.lengths)
    propensities = np.broadcast_to(values, users.shape)
    return GivenPropensities(users, train.items, propensities).fit(train)


def fit(weighting="none", seed=0, steps=40, values=0.5, **changes):
    train, _ = planted()
    propensity = None if weighting == "none" else given(train, values)
    strengths = {"l2_id": 0.1, "l2_content": 0.1, "l2_user": 0.1, "l2_projection": 0.1}
    options = {"max_steps": steps, "learning_rate": 0.03, "average_steps": 5, **strengths, **changes}
    return fit_relevance(make_model(weighting), train, propensity=propensity, seed=seed, **options)


def unseen_pairs():
    train, loves = planted()
    seen = np.zeros((USERS, ITEMS), bool)
    seen[np.repeat(np.arange(USERS), train.lengths), train.items] = True
    users, items = np.nonzero(~seen)
    return train, users, items, loves[users, items]


def probabilities(model):
    train, users, items, _ = unseen_pairs()
    return predict_ratings(model, train, users, items, threshold=3).probability.numpy()


@pytest.mark.parametrize("weighting", ["none", "doubly_robust"])
def test_tastes_are_learned_from_ratings(weighting):
    loved = unseen_pairs()[-1]
    found = probabilities(fit(weighting))
    assert found[loved].min() > found[~loved].max()


def test_a_trained_model_is_saved_and_loaded(tmp_path):
    model = fit(steps=3)
    model.save_pretrained(tmp_path)
    np.testing.assert_allclose(
        probabilities(LLM4RecForRelevance.from_pretrained(tmp_path).eval()), probabilities(model), rtol=1e-5
    )


def test_a_seed_fixes_the_result_and_another_one_changes_it():
    first = probabilities(fit(steps=5))
    np.testing.assert_array_equal(first, probabilities(fit(steps=5)))
    assert not np.allclose(first, probabilities(fit(steps=5, seed=1)))


@pytest.mark.parametrize("weighting", ["ips", "snips"])
def test_equal_propensities_train_the_plain_model(weighting):
    np.testing.assert_allclose(
        probabilities(fit(weighting, steps=5, values=0.25)), probabilities(fit(steps=5)), rtol=1e-4
    )


def test_pairs_are_predicted_in_the_order_asked_for():
    model = fit(steps=3)
    train, users, items, _ = unseen_pairs()
    shuffled = np.random.default_rng(0).permutation(len(users))
    found = predict_ratings(model, train, users[shuffled], items[shuffled], threshold=3)
    np.testing.assert_allclose(found.probability.numpy(), probabilities(model)[shuffled], rtol=1e-5)


def test_a_split_gives_every_rating_to_history_or_targets():
    train, _ = planted()
    rated = RatedUsers(train, LEVELS)
    torch.manual_seed(0)
    batch = RandomSplits(rated)(range(USERS))
    history, target = batch["history_items"] >= 0, batch["labels"] > 0
    assert (history ^ target).all()
    assert torch.equal(batch["history_ratings"] + batch["labels"], rated.known(torch.arange(USERS))["history_ratings"])
    assert 0.5 < history.float().mean() < 0.95


def test_items_drawn_for_unobserved_pairs_are_not_in_the_history():
    rated = RatedUsers(planted()[0], LEVELS)
    batch = RandomSplits(rated, sampled=50)(range(USERS))
    drawn = batch["sampled"]
    assert not (drawn[:, :, None] == batch["history_items"][:, None])[drawn >= 0].any()
    assert (drawn >= 0).any()


def test_users_of_unequal_histories_are_padded():
    short = Interactions(np.array([0, 0, 2]), np.array([3, 1], np.int32), 5, np.array([4, np.nan], np.float32))
    known = RatedUsers(short, LEVELS).known(torch.tensor([1, 0]))
    assert known["history_items"].tolist() == [[3, 1], [-1, -1]]
    assert known["history_ratings"].tolist() == [[4, 0], [0, 0]]


def test_doubly_robust_errors_know_the_right_answer_by_hand():
    found = sampled_doubly_robust_error(
        torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]), torch.tensor([1.0, 3.0]), torch.tensor([4.0, 6.0])
    )
    assert found.item() == pytest.approx(5 + (-1 + 3) / 4)


@pytest.mark.parametrize("right", ["propensities", "imputations"])
def test_doubly_robust_errors_are_right_if_propensities_or_imputations_are(right):
    generator = torch.Generator().manual_seed(0)
    errors = torch.rand(4000, generator=generator)
    chances = 0.1 + 0.8 * errors  # large errors are seen more often
    observed = [torch.rand(4000, generator=generator) < chances for _ in range(200)]
    guesses = errors if right == "imputations" else torch.full_like(errors, 0.2)
    assumed = chances if right == "propensities" else torch.full_like(errors, 0.5)
    exact = torch.stack([doubly_robust_error(errors, guesses, seen, assumed) for seen in observed]).mean()
    sampled = torch.stack(
        [sampled_doubly_robust_error(errors[o], guesses[o], 1 / assumed[o], guesses) for o in observed]
    ).mean()
    assert exact.item() == pytest.approx(errors.mean().item(), abs=2e-3)
    assert sampled.item() == pytest.approx(errors.mean().item(), abs=2e-3)
    naive = torch.stack([errors[seen].mean() for seen in observed]).mean()
    assert abs(naive - errors.mean()) > 0.05


def test_each_model_of_joint_learning_learns_from_its_own_loss():
    learner = JointLearning(make_model("doubly_robust"))
    batch = RandomSplits(RatedUsers(planted()[0], LEVELS), sampled=4)(range(USERS))
    learner(**batch).loss.backward()
    for part in (learner.prediction, learner.imputation):
        assert part.heads[0].level_values.grad.abs().sum() > 0
    assert learner.prediction.model is not learner.imputation.model


def test_certain_imputations_cost_what_a_rating_costs():
    logits = torch.tensor([[[[2.0, -1.0]]]])
    torch.testing.assert_close(
        soft_losses(logits, torch.tensor([[[1.0, 0.0]]])),
        (torch.nn.functional.softplus(torch.tensor(-2.0)) + torch.nn.functional.softplus(torch.tensor(-1.0))).reshape(
            1, 1
        )
        / 2,
    )


def test_propensities_are_asked_for_exactly_where_they_are_used():
    train, _ = planted()
    with pytest.raises(ValueError, match="'ips' and a propensity model was not given"):
        fit_relevance(make_model("ips"), train)
    with pytest.raises(ValueError, match="'none' and a propensity model was given"):
        fit_relevance(make_model(), train, propensity=given(train))


def test_a_log_without_ratings_is_refused():
    train, _ = planted()
    train.ratings = None
    with pytest.raises(ValueError, match="hold no ratings"):
        RatedUsers(train, LEVELS)
