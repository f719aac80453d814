"""Debiasing in training: what is counted, what events weigh, what a finished model keeps, and that runs go on."""

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from llm4rec.configuration import Recipe
from llm4rec.modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from llm4rec.modeling_llm4rec.adversary import SensitiveAttributeAdversary
from llm4rec.modeling_llm4rec.configuration_llm4rec import FairnessConfig
from llm4rec.training.build import build_model, build_processor, split_of
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.sequences import SequenceCollator, training_windows
from llm4rec.training.debiasing.adversary_training import AdversaryTraining
from llm4rec.training.debiasing.apply import apply_debiasing, estimate_propensities, sensitive_labels
from llm4rec.training.debiasing.item_popularity import DAY, ItemPopularity
from llm4rec.training.evaluation.leakage_probe import leakage
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
from llm4rec.training.propensity.inverse_weights import inverse_propensity_weights
from llm4rec.training.simulation.world import World, WorldConfig
from llm4rec.training.train import train
from llm4rec.training.trainer import LLM4RecTrainer, ModelScorer
from safetensors.torch import load_file

FAIR = "debiasing.fairness_strength=1"
LEARNED = "debiasing.popularity=learned"


def run(data, recipe, folder, say=lambda line: None, **kwargs):
    return train(data, recipe, folder, say=say, progress=False, **kwargs)


def load(folder):
    return LLM4RecForCausalLM.from_pretrained(folder).eval(), LLM4RecProcessor.from_pretrained(folder)


def facts_of(folder):
    return json.loads((folder / "training.json").read_text())


def validations(folder, name):
    return [entry[f"eval_{name}"] for entry in facts_of(folder)["log"] if f"eval_{name}" in entry]


def log_of(histories, times=None, num_items=4, **columns):
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    return Interactions(offsets, items, num_items, timestamps=None if times is None else np.array(times), **columns)


def applied(data, recipe, **kwargs):
    """Apply a recipe's debiasing to a fresh model; what came of it, the model, the split and what was said."""
    split, said = split_of(data, recipe), []
    model = build_model(build_processor(data, recipe, split), recipe, split.train)
    debiasing = apply_debiasing(model, data, split, recipe.debiasing, say=said.append, **kwargs)
    return SimpleNamespace(debiasing=debiasing, model=model, split=split, said=said)


def with_propensities(data, values):
    return replace(data, interactions=replace(data.interactions, propensities=np.asarray(values, dtype=np.float64)))


def with_users(data, **columns):
    return replace(data, users=data.users.with_columns(**{name: pl.Series(v) for name, v in columns.items()}))


# --- Popularity ------------------------------------------------------------------------------------------------------


def test_popularity_of_a_period_counts_only_what_came_before_it():
    popularity = ItemPopularity.count(log_of([[0, 0, 1], [2, 0, 1]], [10, 30, 50, 20, 40, 60]), periods=3)
    assert popularity.period_starts.tolist() == [10, 20, 40]
    # Before 10 nothing, before 20 item 0, before 40 items 0, 2, 0; item 3 never happens.
    for row, counts in enumerate(([0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 1, 0]), 1):
        expected = np.log1p(counts) - np.log1p(np.mean(counts))
        np.testing.assert_allclose(popularity.log_popularity[row], expected, atol=1e-6)
        assert popularity.unseen[row] == pytest.approx(-np.log1p(np.mean(counts)))
    whole = np.array([3, 2, 1, 0])
    np.testing.assert_allclose(popularity.log_popularity[0], np.log1p(whole) - np.log(2.5), atol=1e-6)
    assert popularity.unseen[0] == pytest.approx(popularity.log_popularity[0, 3])


def test_events_at_the_very_start_of_a_period_do_not_count_for_it():
    popularity = ItemPopularity.count(log_of([[0], [1], [1], [2]], [5, 7, 7, 7]), periods=2)
    assert popularity.period_starts.tolist() == [5, 7]
    assert popularity.log_popularity[1].tolist() == [0, 0, 0, 0]
    expected = np.log1p([1, 0, 0, 0]) - np.log1p(0.25)
    np.testing.assert_allclose(popularity.log_popularity[2], expected, atol=1e-6)


def test_after_a_half_life_an_event_counts_half():
    days = np.array([0, 2, 6, 8], dtype=np.int64) * int(DAY)
    popularity = ItemPopularity.count(log_of([[0], [1], [2], [2]], days), periods=4, half_life_days=2)
    assert popularity.period_starts[-1] == 6 * DAY
    counts = np.array([2**-3.0, 2**-2.0, 0, 0])  # six and four days before
    expected = np.log1p(counts) - np.log1p(counts.mean())
    np.testing.assert_allclose(popularity.log_popularity[-1], expected, atol=1e-6)
    np.testing.assert_allclose(popularity.log_popularity[0], np.log1p([1, 1, 2, 0]) - np.log(2), atol=1e-6)


@pytest.mark.parametrize(
    ("times", "periods"), [(None, 12), ([5, 7, 9], 0), ([-1, -1, -1], 12)], ids=["none", "not asked for", "unknown"]
)
def test_without_times_there_is_one_popularity_for_all(times, periods):
    popularity = ItemPopularity.count(log_of([[0, 1, 1]], times), periods=periods)
    assert popularity.log_popularity.shape == (1, 4)
    assert popularity.period_starts.tolist() == []
    assert popularity.periods_of(None if times is None else np.array(times), 3).tolist() == [0, 0, 0]


def test_events_of_unknown_time_count_in_the_whole_log_alone():
    popularity = ItemPopularity.count(log_of([[0, 0, 1, 2, 2]], [-1, -1, 5, 7, 9]), periods=2)
    assert popularity.log_popularity[0, 0] == popularity.log_popularity[0, 2] > popularity.log_popularity[0, 1]
    assert popularity.log_popularity[2].argmax() == 1
    assert popularity.periods_of(np.array([-1, 5, 6, 9]), 4).tolist() == [0, 1, 1, 2]


def test_the_period_of_an_event_is_the_last_that_began():
    popularity = ItemPopularity.given(np.ones((3, 4)), np.array([100, 200, 300]))
    assert popularity.periods_of(np.array([-1, 99, 100, 199, 200, 10_000]), 6).tolist() == [0, 0, 1, 1, 2, 3]
    prior_rows = torch.bucketize(
        torch.tensor([-1, 99, 100, 199, 200, 10_000]), torch.tensor([100, 200, 300]), right=True
    )
    assert prior_rows.tolist() == [0, 0, 1, 1, 2, 3]


def test_given_popularity_is_relative_to_the_average_item_of_its_period():
    popularity = ItemPopularity.given(np.array([[1.0, 3.0], [20.0, 20.0]]), np.array([5, 9]))
    np.testing.assert_allclose(
        np.exp(popularity.log_popularity), [[10.5 / 11, 11.5 / 11], [0.5, 1.5], [1, 1]], rtol=1e-5
    )
    np.testing.assert_allclose(np.exp(popularity.unseen), [10.5 / 11, 0.5, 1], rtol=1e-5)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_given_popularity_that_is_no_positive_number_is_refused_by_place(wrong):
    with pytest.raises(ValueError, match=r"holds 1 numbers that are not above 0; .* of item 1 in period 2"):
        ItemPopularity.given(np.array([[1, 1], [1, 1], [1, wrong]]), np.array([1, 2, 3]))


@pytest.mark.parametrize("shape", [(2, 3), (3,), (3, 2, 2)])
def test_given_popularity_of_another_number_of_periods_is_refused(shape):
    with pytest.raises(ValueError, match=r"for 3 periods, expected \(periods, items\)|for 3 periods"):
        ItemPopularity.given(np.ones(shape), np.array([1, 2, 3]))


# --- Columns of training windows -------------------------------------------------------------------------------------


def test_columns_stay_with_their_events_when_a_history_is_cut(processor):
    history = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7]  # 14 events: windows of 6, 6 and 2 targets
    log = log_of([[], history, [2]], num_items=12)
    weights = np.arange(15, dtype=np.float32) + 0.5
    columns = {"loss_weights": weights, "popularity_periods": np.arange(15, dtype=np.int16) + 100}
    labels = np.array([[7, 7], [1, 0], [0, -1]])
    windows = training_windows(log, processor, event_columns=columns, user_columns={"sensitive_labels": labels})
    assert windows["sensitive_labels"][:] == [[1, 0], [1, 0], [1, 0], [0, -1]]
    seen = []
    for row in windows:
        begins = row["input_ids"][0] == processor.start_id
        assert row["loss_weights"][0] == 0 if begins else row["loss_weights"][0] > 0
        for token, weight, period in zip(
            *(row[name][1:] for name in ("input_ids", "loss_weights", "popularity_periods")), strict=True
        ):
            event = int(weight - 0.5)
            assert token - processor.text_vocab_size == log.items[event]
            assert period == event + 100
            seen.append(event)
    assert sorted(seen) == list(range(15))


def test_a_batch_pads_columns_with_zero_and_has_a_row_of_labels_for_each_window(processor):
    log = log_of([[3, 1], [4, 1, 5, 9]], num_items=12)
    columns = {"loss_weights": np.array([2, 3, 4, 5, 6, 7.5]), "popularity_periods": np.arange(1, 7)}
    labels = {"sensitive_labels": np.array([[1, -1], [0, 2]])}
    batch = SequenceCollator(0)(list(training_windows(log, processor, "all", columns, labels)))
    assert batch["loss_weights"].tolist() == [[0, 2, 3, 0, 0], [0, 4, 5, 6, 7.5]]
    assert batch["loss_weights"].dtype == torch.float32
    assert batch["popularity_periods"].tolist() == [[0, 1, 2, 0, 0], [0, 3, 4, 5, 6]]
    assert batch["popularity_periods"].dtype == batch["sensitive_labels"].dtype == torch.int64
    assert batch["sensitive_labels"].tolist() == [[1, -1], [0, 2]]


def test_a_column_of_another_length_is_refused_by_name(processor):
    with pytest.raises(ValueError, match="loss_weights has 3 values, expected one for each of the 2 events"):
        training_windows(log_of([[3, 1]], num_items=12), processor, event_columns={"loss_weights": np.ones(3)})


# --- What a run corrects for -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The shop once more, with the propensities that it logged."""
    world = World(WorldConfig(users=60, items=40, sessions=16))
    return world.prepared(tmp_path_factory.mktemp("logged") / "data", with_propensities=True)


@pytest.mark.parametrize("propensity", ["popularity", "logistic", "factorisation", "given"])
def test_weights_of_train_events_have_mean_one_and_no_more_than_the_clip(logged, tiny_recipe, propensity):
    recipe = tiny_recipe("debiasing.weighting=snips", f"debiasing.propensity={propensity}", "debiasing.clip=3")
    found = applied(logged, recipe)
    weights = found.debiasing.event_columns["loss_weights"]
    assert weights.shape == found.split.train.items.shape
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    assert 0 < weights.min() < 1 < weights.max() < 3.001
    assert len(found.debiasing.validation_weights) == len(found.split.validation)
    assert found.debiasing.report["propensities"]["model"] == propensity
    assert found.model.config.loss_weighting == "snips"


def test_given_propensities_are_those_of_the_events_and_of_the_cases(logged, tiny_recipe):
    recipe = tiny_recipe("debiasing.weighting=ips", "debiasing.propensity=given", "debiasing.clip=null")
    found = applied(logged, recipe)
    inverse = 1 / found.split.train.propensities
    np.testing.assert_allclose(found.debiasing.event_columns["loss_weights"], inverse / inverse.mean(), rtol=1e-5)
    everything, cases = logged.interactions, found.split.validation
    inverse = []
    for user, target in zip(cases.users, cases.targets, strict=True):
        place = everything.offsets[user] + np.flatnonzero(everything.history(user) == target)  # bought once
        inverse.append(1 / everything.propensities[place].item())
    np.testing.assert_allclose(found.debiasing.validation_weights, inverse / np.mean(inverse), rtol=1e-5)


@pytest.mark.parametrize("wrong", [0.0, float("nan"), 1.5])
def test_an_impossible_propensity_is_refused_and_its_row_named(logged, tiny_recipe, wrong):
    values = logged.interactions.propensities.copy()
    values[3] = wrong
    recipe = tiny_recipe("debiasing.weighting=snips", "debiasing.propensity=given")
    with pytest.raises(
        ValueError, match=rf"1 of .* propensities are not in \(0, 1\]: row 3, user \d+, item \d+: {wrong:g}"
    ):
        applied(with_propensities(logged, values), recipe)


def test_given_propensities_without_the_column_say_where_it_belongs(shop, tiny_recipe):
    with pytest.raises(ValueError, match=r"needs the column of logged propensities \(`interactions.propensity`"):
        applied(shop, tiny_recipe("debiasing.weighting=snips", "debiasing.propensity=given"))


def test_weights_that_leave_few_effective_events_are_warned_of_with_the_clip_that_helps(logged, tiny_recipe):
    values = np.full(len(logged.interactions.items), 0.5)
    values[0] = 1e-6
    recipe = tiny_recipe("debiasing.weighting=ips", "debiasing.propensity=given", "debiasing.clip=null")
    said = applied(with_propensities(logged, values), recipe).said
    assert sum("Warning" in line and "A clip of" in line for line in said) == 1
    assert not any("Warning" in line for line in applied(logged, recipe).said)


def test_doubly_robust_imputes_a_distribution_in_which_no_item_is_impossible(shop, tiny_recipe):
    found = applied(shop, tiny_recipe("debiasing.weighting=doubly_robust"))
    imputed, train = found.model.imputed_targets, found.split.train
    weighted = 1 + np.bincount(train.items, found.debiasing.event_columns["loss_weights"], train.num_items)
    np.testing.assert_allclose(imputed.numpy(), weighted / weighted.sum(), rtol=1e-5)


def test_doubly_robust_weights_and_label_smoothing_exclude_each_other(tiny_recipe):
    with pytest.raises(ValueError, match=r"debiasing.weighting=doubly_robust and model.label_smoothing both fill in"):
        tiny_recipe("debiasing.weighting=doubly_robust", "model.label_smoothing=0.1")


def test_popularity_is_counted_in_train_events_and_events_know_their_period(shop, tiny_recipe):
    found = applied(shop, tiny_recipe(LEARNED, "debiasing.popularity_periods=4"))
    train, prior = found.split.train, found.model.model.popularity_prior
    counts = train.item_counts()
    assert counts.sum() < len(shop.interactions.items)
    np.testing.assert_allclose(prior.log_popularity[0], np.log1p(counts) - np.log1p(counts.mean()), atol=1e-5)
    periods = found.debiasing.event_columns["popularity_periods"]
    assert periods.tolist() == prior.periods_of(torch.from_numpy(train.timestamps)).tolist()
    assert np.bincount(periods, minlength=5)[1:] == pytest.approx(np.full(4, len(periods) / 4), abs=1.01)


def test_popularity_that_is_known_takes_the_place_of_counting(shop, tiny_recipe):
    known = ItemPopularity.given(np.linspace(1, 2, 80).reshape(2, 40), np.array([0, 1_710_000_000]))
    found = applied(shop, tiny_recipe("debiasing.popularity=fixed"), popularity=known)
    np.testing.assert_array_equal(found.model.model.popularity_prior.log_popularity, known.log_popularity)
    assert not list(found.model.model.popularity_prior.parameters())
    assert set(found.debiasing.event_columns["popularity_periods"]) == {1, 2}


def test_users_of_unknown_group_are_marked_and_not_counted(shop, tiny_recipe):
    groups = shop.users["group"].to_list()
    groups[:10] = [None] * 10
    found = applied(with_users(shop, group=groups), tiny_recipe(FAIR))
    labels = found.debiasing.user_columns["sensitive_labels"]
    assert labels.shape == (60, 1)
    assert (labels[:10] == -1).all()
    assert labels[10:, 0].tolist() == [{"A": 0, "B": 1}[group] for group in groups[10:]]
    assert found.debiasing.report["groups/group"] == {"A": groups.count("A"), "B": groups.count("B")}


def test_several_attributes_each_have_a_column_and_a_classifier(shop, tiny_recipe):
    found = applied(shop, tiny_recipe(FAIR, "debiasing.fairness_attributes=[age_group,group]"))
    assert found.debiasing.user_columns["sensitive_labels"].max(axis=0).tolist() == [3, 1]
    assert found.model.config.fairness.sizes == [4, 2]
    assert len(found.model.model.adversary.classifiers) == 2
    assert found.model.model.state_eraser.reads.shape == (16, 4)


def test_attributes_that_cannot_be_hidden_are_refused(shop, tiny_recipe):
    with pytest.raises(ValueError, match=r"names 'gender'; the users' columns are age_group, group"):
        applied(shop, tiny_recipe(FAIR, "debiasing.fairness_attributes=[gender]"))
    with pytest.raises(ValueError, match="All users have the same 'group'"):
        applied(with_users(shop, group=["A"] * 60), tiny_recipe(FAIR))
    with pytest.raises(ValueError, match="the data calls no user column sensitive"):
        applied(shop, tiny_recipe(FAIR, "debiasing.fairness_attributes=[]"))


def test_without_debiasing_nothing_is_added(shop, tiny_recipe):
    found = applied(shop, tiny_recipe())
    assert not found.debiasing.event_columns
    assert not found.debiasing.user_columns
    assert found.debiasing.validation_weights is None
    assert found.said == []


# --- Whole runs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def popular(shop, tiny_recipe, tmp_path_factory):
    """A model that learned γ; its folder and its recipe."""
    recipe = tiny_recipe(LEARNED, "debiasing.serving_popularity=0.25", "training.learning_rate=1e-2")
    folder = tmp_path_factory.mktemp("popular") / "model"
    run(shop, recipe, folder)
    return folder, recipe


def test_a_learned_strength_moves_is_saved_and_serves(popular):
    folder, recipe = popular
    model, processor = load(folder)
    strength = model.model.popularity_prior.strength.item()
    assert abs(strength - 1) > 0.01
    assert strength in validations(folder, "popularity_strength")
    assert facts_of(folder)["debiasing"] == {"popularity_periods": 12}
    assert Recipe.load(folder / "recipe.yaml") == recipe
    batch = processor(histories=[[]], return_tensors="pt")
    plain, default, popular = (model.score_items(**batch, popularity=p) for p in (0.0, None, 50.0))
    latest = model.model.popularity_prior.log_popularity[-1]
    torch.testing.assert_close(default - plain, 0.25 * latest[None], atol=1e-4, rtol=1e-4)
    assert popular.argmax() == latest.argmax()
    shown = model.recommend(**batch, k=40, popularity=50.0).items[0]
    assert shown[0] == latest.argmax()


def test_validation_ranks_with_the_prior_that_training_has(popular, shop):
    folder, recipe = popular
    model, processor = load(folder)
    strength = model.model.popularity_prior.strength.item()
    validation = RankingEvaluator(split_of(shop, recipe).validation, ks=(10,))
    found = validation.evaluate(ModelScorer(model, processor, popularity=strength)).metrics["filtered/ndcg@10"]
    assert found == pytest.approx(facts_of(folder)["validation"]["filtered/ndcg@10"], abs=1e-6)
    without = validation.evaluate(ModelScorer(model, processor, popularity=0.0)).metrics["filtered/ndcg@10"]
    assert without != pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("weighting", ["snips", "doubly_robust"])
def test_a_weighted_run_keeps_the_epoch_of_the_best_weighted_validation(shop, tiny_recipe, tmp_path, weighting):
    recipe = tiny_recipe(
        f"debiasing.weighting={weighting}", "training.learning_rate=3e-2", "training.max_validation_users=20"
    )
    report = run(shop, recipe, tmp_path / "model")
    weighted = validations(tmp_path / "model", "weighted/ndcg@10")
    assert len(weighted) == 3
    assert report.validation["weighted/ndcg@10"] == max(weighted)
    # The same number by hand, from the model that was kept.
    split = split_of(shop, recipe)
    estimated = estimate_propensities("popularity", shop, split.train)
    chances = estimated.predict(split.validation.users, split.validation.targets)
    watched = split.validation.sample(20, recipe.training.seed)
    weights = dict(zip(split.validation.users, inverse_propensity_weights(chances, 10.0), strict=True))
    values = RankingEvaluator(watched, ks=(10,)).evaluate(ModelScorer(*load(tmp_path / "model")))
    by_hand = np.average(values.values("filtered/ndcg@10"), weights=[weights[user] for user in watched.users])
    assert report.validation["weighted/ndcg@10"] == pytest.approx(by_hand, abs=1e-6)
    assert report.validation["weighted/ndcg@10"] != pytest.approx(report.validation["filtered/ndcg@10"], abs=1e-4)
    propensities = facts_of(tmp_path / "model")["debiasing"]["propensities"]
    assert (propensities["model"], propensities["clip"]) == ("popularity", 10.0)
    assert 0 < propensities["effective_share"] <= 1


@pytest.fixture(scope="module")
def fair(shop, tiny_recipe, tmp_path_factory):
    """A run with an adversary whose validation worsens from the first epoch on; its folder, checkpoints left there."""
    recipe = tiny_recipe(FAIR, "training.patience=1", "training.learning_rate=1e-2")
    folder = tmp_path_factory.mktemp("fair") / "model"
    original = LLM4RecTrainer.log

    def log_worse(self, logs, *args, **kwargs):
        if "eval_filtered/ndcg@10" in logs:
            logs["eval_filtered/ndcg@10"] = 0.5 / (1 + self.state.epoch)
        original(self, logs, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LLM4RecTrainer, "log", log_worse)
        patch.setattr("llm4rec.training.train.shutil", SimpleNamespace(rmtree=lambda folder: None))
        report = run(shop, recipe, folder)
    return SimpleNamespace(folder=folder, recipe=recipe, report=report)


def test_with_an_adversary_the_last_epoch_is_kept_however_accurate_the_first_was(fair):
    assert fair.report.epochs == 3
    assert fair.report.validation["epoch"] == 3
    last = max((fair.folder / "checkpoints").iterdir(), key=lambda path: int(path.name.rsplit("-")[-1]))
    kept, final = load_file(fair.folder / "model.safetensors"), load_file(last / "model.safetensors")
    moments = {f"model.state_eraser.{name}" for name in ("first", "second", "share")}
    assert final.keys() - kept.keys() == moments | {name for name in final if ".adversary." in name}
    assert not [name for name in kept if not torch.equal(kept[name], final[name])]


def test_a_finished_fair_model_has_the_eraser_of_its_training_and_no_adversary(fair):
    names = load_file(fair.folder / "model.safetensors").keys()
    assert not [name for name in names if "adversary" in name]
    assert {f"model.state_eraser.{name}" for name in ("mean", "reads", "writes")} <= names
    model, _ = load(fair.folder)
    assert model.model.adversary is None
    assert model.config.fairness.attributes == ["group"]
    assert model.model.state_eraser.reads.any()


def test_the_report_counts_the_groups(fair, shop):
    groups = shop.users["group"].to_list()
    expected = {"groups/group": {name: groups.count(name) for name in ("A", "B")}}
    assert facts_of(fair.folder)["debiasing"] == expected


def test_a_run_with_an_adversary_resumed_after_ctrl_c_ends_as_the_whole_run(shop, tiny_recipe, monkeypatch, tmp_path):
    recipe = tiny_recipe(FAIR, LEARNED, "training.learning_rate=1e-2")
    run(shop, recipe, tmp_path / "whole")
    original = LLM4RecTrainer.training_step

    def interrupted_step(self, *args, **kwargs):
        if self.state.global_step + 1 == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LLM4RecTrainer, "training_step", interrupted_step)
        assert run(shop, recipe, tmp_path / "model").interrupted
    assert run(shop, recipe, tmp_path / "model", resume=True).steps == 15
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "model"))
    assert whole.keys() == resumed.keys()
    assert not [name for name in whole if not torch.equal(whole[name], resumed[name])]


def telling_states(number=2048):
    """States whose first number is the label, and the labels."""
    states = torch.randn(number, 8)
    return states, (states[:, :1] > 0).long()


def test_classifiers_learn_while_the_model_waits():
    torch.manual_seed(0)
    adversary = SensitiveAttributeAdversary(FairnessConfig(["group"], [2]), 8)
    training = AdversaryTraining(adversary)
    before = {name: weight.clone() for name, weight in adversary.named_parameters()}
    training.step()  # nothing was seen yet
    assert all(torch.equal(weight, before[name]) for name, weight in adversary.named_parameters())
    states, labels = telling_states()
    untaught = adversary(states, labels)
    for _ in range(15):
        training.step()
    unseen, their_labels = telling_states()
    assert adversary(unseen, their_labels) < untaught / 2


def test_classifiers_go_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path):
    torch.manual_seed(0)
    adversary = SensitiveAttributeAdversary(FairnessConfig(["group", "age"], [2, 2]), 8)
    training = AdversaryTraining(adversary)
    states, labels = telling_states()
    adversary(states, labels.expand(-1, 2))
    training.step()
    training.save(tmp_path)
    again = SensitiveAttributeAdversary(FairnessConfig(["group", "age"], [2, 2]), 8)
    again.load_state_dict(adversary.state_dict())
    resumed = AdversaryTraining(again)
    resumed.resume(tmp_path)
    for one in (training, resumed):
        torch.manual_seed(1)
        one.step()
    for weight, other in zip(adversary.parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_a_checkpoint_without_an_adversary_says_what_to_do(tmp_path):
    training = AdversaryTraining(SensitiveAttributeAdversary(FairnessConfig(["group"], [2]), 8))
    with pytest.raises(FileNotFoundError, match="--overwrite"):
        training.resume(tmp_path)


# --- LoRA ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(shop, tmp_path_factory):
    """An adapter on a tiny Qwen3, with a popularity prior and trained against an adversary; its folder and recipe."""
    from llm4rec.modeling_llm4rec import byte_tokenizer
    from transformers import AutoModelForCausalLM, Qwen3Config

    backbone = tmp_path_factory.mktemp("backbone")
    config = Qwen3Config(
        vocab_size=264, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(backbone)
    byte_tokenizer().save_pretrained(backbone)
    recipe = Recipe.load(
        "pretrained-llm-lora",
        [
            f"model.backbone={backbone}", "model.fusion_width=16", "model.lora.rank=2", "model.dtype=float32",
            "data.text_encoder=hashing", "data.max_history=8", "training.epochs=2", "training.warmup_steps=2",
            LEARNED, FAIR,
        ],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("adapter") / "model"
    run(shop, recipe, folder)
    return folder, recipe


def test_an_adapter_keeps_its_prior_and_its_eraser_and_leaves_the_adversary_behind(adapter, shop):
    folder, recipe = adapter
    names = load_file(folder / "adapter_model.safetensors").keys()
    assert not [name for name in names if "adversary" in name]
    model, processor = load(folder)
    prior, eraser = model.model.popularity_prior, model.model.state_eraser
    assert prior.strength.item() == pytest.approx(validations(folder, "popularity_strength")[-1], abs=1e-5)
    assert prior.strength.item() != 1
    counted = ItemPopularity.count(split_of(shop, recipe).train)
    np.testing.assert_allclose(prior.log_popularity.numpy(), counted.log_popularity, atol=1e-6)
    assert eraser.reads.any()
    batch = processor(histories=[[]], return_tensors="pt")
    assert model.recommend(**batch, k=1, popularity=100.0).items[0, 0] == prior.log_popularity[-1].argmax()


# --- Going on from a trained model -----------------------------------------------------------------------------------


def test_training_goes_on_from_a_trained_model(shop, tiny_recipe, popular, tmp_path):
    folder, _ = popular
    again = tiny_recipe(f"model.start_from={folder}", "training.epochs=1", "training.learning_rate=1e-4")
    again.model.new_item_bonus = 0.5
    report = run(shop, again, tmp_path / "model")
    losses = {name: facts_of(path)["log"][0]["loss"] for name, path in (("first", folder), ("again", report.output))}
    assert losses["again"] < losses["first"] - 0.1
    model, _ = load(report.output)
    assert model.config.new_item_bonus == 0.5  # this recipe asks for it
    assert model.config.popularity is None  # and for no popularity
    assert model.model.popularity_prior is None
    assert Recipe.load(report.output / "recipe.yaml").model.start_from == str(folder)


def test_the_average_of_a_model_that_is_trained_on_leaves_it_slowly(shop, tiny_recipe, popular, tmp_path):
    folder, _ = popular
    moved = {}
    for epochs in (0, 1000):
        again = tiny_recipe(f"model.start_from={folder}", "training.epochs=1", f"training.average_epochs={epochs}")
        run(shop, again, tmp_path / str(epochs))
        start, end = (load_file(path / "model.safetensors") for path in (folder, tmp_path / str(epochs)))
        moved[epochs] = sum((end[name] - start[name]).norm() for name in end if ".layers." in name)
    assert moved[1000] < moved[0] / 100


def test_a_fair_and_weighted_model_goes_on_without_what_its_new_recipe_does_not_ask_for(
    fair, shop, tiny_recipe, tmp_path
):
    weighted, processor = load(fair.folder)
    weighted.config.loss_weighting = "snips"
    for part in (weighted, processor):
        part.save_pretrained(tmp_path)
    recipe = tiny_recipe(f"model.start_from={tmp_path}")
    split = split_of(shop, recipe)
    model = build_model(build_processor(shop, recipe, split), recipe, split.train)
    assert model.config.loss_weighting == "none"
    assert model.config.fairness is None
    assert model.model.state_eraser is None
    assert model.model.adversary is None


def test_a_model_of_another_catalog_is_no_start(popular, tiny_recipe, tmp_path):
    other = World(WorldConfig(users=30, items=41, sessions=8)).prepared(tmp_path / "data")
    with pytest.raises(ValueError, match=r"has 41 items, the model knows 40, and 1 are new to it"):
        run(other, tiny_recipe(f"model.start_from={popular[0]}"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_adapter_is_no_start_and_neither_is_a_backbone_beside_one(adapter, popular, shop, tiny_recipe, tmp_path):
    with pytest.raises(ValueError, match=r"is an adapter on a backbone. Train it with model.lora.merge=true"):
        run(shop, tiny_recipe(f"model.start_from={adapter[0]}"), tmp_path / "model")
    with pytest.raises(ValueError, match=r"leave model.backbone out"):
        run(shop, tiny_recipe(f"model.start_from={popular[0]}", "model.backbone=some/model"), tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"model.start_from: .* holds no model \(no config.json\)"):
        run(shop, tiny_recipe(f"model.start_from={tmp_path}"), tmp_path / "model")


# --- What it is for --------------------------------------------------------------------------------------------------


def test_with_adversary_and_eraser_states_tell_less_of_the_group_that_steered_what_was_shown(tiny_recipe, tmp_path):
    config = WorldConfig(users=220, items=60, sessions=20, demographic_confounding=1.5)
    data = World(config).prepared(tmp_path / "data")
    labels, _ = sensitive_labels(data, "group")
    cases = split_of(data, tiny_recipe()).test

    def told(*overrides):
        # Long enough for the eraser to follow: its moments are those of some hundred steps.
        steps = ["training.epochs=20", "training.evaluate_every=20", "training.lr_scheduler=linear"]
        recipe = tiny_recipe("training.learning_rate=5e-3", "training.average_epochs=1", *steps, *overrides)
        folder = tmp_path / f"model{len(overrides)}"
        run(data, recipe, folder)
        return leakage(ModelScorer(*load(folder)).states(cases.histories).numpy(), labels[cases.users]).linear_auc

    plain, fair = told(), told(FAIR)
    assert plain > 0.85
    assert fair < plain - 0.1, (plain, fair)
