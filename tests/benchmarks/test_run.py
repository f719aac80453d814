"""The benchmark runner on a tiny world: rows, kept ranks, and what is chosen on validation."""

import json
import shlex
import signal

import numpy as np
import pytest
import torch
from llm4rec.benchmarks import recommenders, run
from llm4rec.benchmarks.compare import compare
from llm4rec.benchmarks.diverse_lists import DiverseScorer
from llm4rec.benchmarks.run import Run, run_benchmark
from llm4rec.benchmarks.saved_ranks import SavedRanks
from llm4rec.benchmarks.tuned_baselines import GRIDS, tune
from llm4rec.modeling_llm4rec.diversity import diversify
from llm4rec.modeling_llm4rec.recommendation import RecommendOutput
from llm4rec.training.baselines.item_knn import ItemKNN
from llm4rec.training.data.splits import leave_one_out
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
from llm4rec.training.evaluation.report import ROW_KEYS
from llm4rec.training.trainer import LLM4RecTrainer

TINY = [
    "data.max_history=8",
    "model.text_config.hidden_size=16",
    "model.text_config.intermediate_size=16",
    "training.batch_size=16",
    "training.epochs=1",
]


@pytest.fixture
def measured(work, tmp_path):
    """Run one benchmark of the tiny world; returns its row and what was kept of every case."""

    def once(model, **kwargs):
        path = run_benchmark(Run("world", model, work=work, **kwargs), tmp_path / "results", tmp_path / "ranks")
        kept = SavedRanks.load(tmp_path / "ranks" / "world" / f"{path.stem}.npz")
        return json.loads(path.read_text()), kept, path

    return once


def test_a_row_holds_accuracy_lists_groups_and_validation(measured):
    row, kept, path = measured("transitions")
    assert path.name == "transitions.json"
    assert tuple(row) == ROW_KEYS
    assert row["seed"] is None
    metrics = row["metrics"]
    for name in ("coverage", "novelty", "popularity_lift", "category_diversity", "vector_diversity", "gini", "hr_gap"):
        assert f"filtered/{name}@10" in metrics
    assert "validation/filtered/ndcg@10" in metrics
    assert metrics["filtered/ndcg@10/low"] <= metrics["filtered/ndcg@10"] <= metrics["filtered/ndcg@10/high"]
    assert len(kept.users) == row["config"]["cases"]


def test_kept_ranks_and_diversities_give_the_means_of_the_row(measured):
    row, kept, _ = measured("itemknn")
    for metric in ("filtered/hr@10", "unfiltered/ndcg@10", "filtered/vector_diversity@10"):
        assert np.nanmean(kept.metric(metric)) == pytest.approx(row["metrics"][metric], rel=1e-6)
    assert kept.ranks["filtered"].dtype == np.int32


def test_the_command_of_a_row_asks_for_the_same_run(monkeypatch, tmp_path):
    asked = Run("amazon-beauty", "llm4rec", 3, "cold_items", tmp_path, "encoder", ["model.id_dropout=0.2"], "named")
    made = []
    row = tmp_path / "row.json"
    row.write_text('{"metrics": {}}')
    monkeypatch.setattr(run, "run_benchmark", lambda found: made.append(found) or row)
    words = [{"$DATA": str(tmp_path), "$TEXT_ENCODER": "encoder"}.get(w, w) for w in shlex.split(asked.command)]
    monkeypatch.setattr("sys.argv", words[1:])
    run.main()
    assert made == [asked]


def test_unseen_items_trade_places_for_variety_and_seen_ones_stay(shop):
    histories = shop.interactions.rows(0, 5)
    scores = torch.randn(5, 60, generator=torch.Generator().manual_seed(0))
    vectors = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    diverse = DiverseScorer(lambda _: scores, vectors, 0.5)(histories)
    assert not torch.equal(diverse, scores)
    assert torch.equal(DiverseScorer(lambda _: scores, vectors, 0.0)(histories), scores)
    for user in range(5):
        seen = torch.tensor(histories.history(user).tolist(), dtype=torch.long)
        unseen = np.setdiff1d(np.arange(60), seen)
        assert torch.equal(diverse[user, seen], scores[user, seen])
        assert torch.equal(diverse[user, unseen].sort().values, scores[user, unseen].sort().values)
        best = torch.as_tensor(unseen)[scores[user, unseen].argsort(descending=True)]
        candidates = RecommendOutput(best[None], scores[user, best][None])
        wanted = diversify(candidates, vectors, min(20, len(best)), 0.5).items[0]
        found = torch.as_tensor(unseen)[diverse[user, unseen].argsort(descending=True)][: len(wanted)]
        assert found.tolist() == wanted.tolist()


def test_a_tuned_baseline_says_what_was_chosen_and_from_what(shop):
    split = leave_one_out(shop.interactions)
    baseline, record = tune(*GRIDS["transitions"], split)
    assert record["chosen"] == {"window": baseline.window, "recency": baseline.recency}
    assert len(record["validation"]) == np.prod([len(values) for values in record["grid"].values()])
    best = RankingEvaluator(split.validation, ks=(10,)).evaluate(baseline.score).metrics["filtered/ndcg@10"]
    assert best == max(record["validation"].values())


def test_tuning_looks_at_validation_only(shop):
    split = leave_one_out(shop.interactions)
    split.test = None
    _, record = tune(ItemKNN, {"recency": (0.5, 1.0)}, split)
    assert set(record["validation"]) == {"recency=0.5", "recency=1.0"}


def test_sasrec_reads_ids_alone_and_the_ablations_leave_out_a_kind(shop):
    read = {
        name: recommenders.recipe_of(name, "world", "quickstart", shop, [], seed=4) for name in recommenders.LLM4REC
    }
    assert read["sasrec"].data.modalities == []
    assert read["sasrec"].model.num_negatives == 0
    assert read["sasrec-sampled"].model.num_negatives == 256
    assert read["llm4rec-without-text"].data.modalities == ["category", "brand", "price"]
    assert read["llm4rec-without-categories"].data.modalities == ["title", "description", "price"]
    assert {recipe.training.seed for recipe in read.values()} == {4}


def test_what_is_asked_for_overrules_what_was_tuned(shop, monkeypatch):
    tuned = {("world", "sasrec"): ["training.weight_decay=0.3", "training.epochs=7"]}
    monkeypatch.setattr(recommenders, "OVERRIDES", tuned)
    recipe = recommenders.recipe_of("sasrec", "world", "quickstart", shop, ["training.epochs=2"], seed=0)
    assert (recipe.training.weight_decay, recipe.training.epochs) == (0.3, 2)
    other = recommenders.recipe_of("llm4rec", "world", "quickstart", shop, [], seed=0)
    assert other.training.weight_decay != 0.3


def test_cold_items_are_ranked_by_a_model_that_never_trained_on_them(measured, tmp_path):
    row, kept, path = measured("llm4rec", protocol="cold_items", seed=1, overrides=TINY)
    assert path.name == "llm4rec-cold-items-seed1.json"
    assert (row["protocol"], row["seed"]) == ("cold_items", 1)
    assert row["config"]["cold_items"] == 3
    assert row["config"]["data"]["text_encoder"] == "hashing"
    assert len(kept.users) == row["config"]["cases"] >= 1
    neighbours, _, path = measured("text-neighbours", protocol="cold_items", seed=1)
    assert path.name == "text-neighbours-cold-items-seed1.json"
    assert set(neighbours["config"]["chosen"]) == {"centred", "recency"}
    path = compare("world", "llm4rec", "text-neighbours", "cold_items", tmp_path / "results", tmp_path / "ranks")
    assert path.name == "comparison-cold-items-llm4rec-vs-text-neighbours.json"


def test_cold_items_get_the_bonus_that_was_chosen_for_them_without_another_training(measured, monkeypatch, tmp_path):
    cold = {"protocol": "cold_items", "overrides": TINY, "models": tmp_path / "models"}
    plain, *_ = measured("llm4rec", **cold)
    monkeypatch.setitem(run.NEW_ITEM_BONUS, "world", 30.0)
    monkeypatch.setattr(recommenders, "train", None)
    pushed, *_ = measured("llm4rec", **cold)
    assert (plain["config"]["model"]["new_item_bonus"], pushed["config"]["model"]["new_item_bonus"]) == (0, 30)
    assert pushed["metrics"]["filtered/hr@10"] > plain["metrics"]["filtered/hr@10"]
    assert pushed["command"] == plain["command"]
    by_hand, *_ = measured("llm4rec", **cold | {"overrides": [*TINY, "model.new_item_bonus=0"]})
    assert by_hand["metrics"]["filtered/hr@10"] == plain["metrics"]["filtered/hr@10"]


def test_diverse_lists_are_those_of_the_kept_model_reordered(measured, tmp_path):
    row, plain, _ = measured("llm4rec", overrides=TINY, models=tmp_path / "models")
    weights = tmp_path / "models" / "world" / "llm4rec-seed0" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    diverse_row, diverse, path = measured("llm4rec-diverse", overrides=TINY, models=tmp_path / "models")
    assert path.name == "llm4rec-diverse-seed0.json"
    assert weights.stat().st_mtime_ns == written
    assert "strength" in diverse_row["config"]["diversity"]["chosen"]
    assert diverse_row["metrics"]["validation/filtered/ndcg@10"] == row["metrics"]["validation/filtered/ndcg@10"]
    assert plain.targets.tolist() == diverse.targets.tolist()
    with pytest.raises(ValueError, match=r"training\.weight_decay was"):
        measured("llm4rec", overrides=[*TINY, "training.weight_decay=0.5"], models=tmp_path / "models")


def test_an_interrupted_run_goes_on_and_counts_the_time_before(measured, monkeypatch, tmp_path):
    overrides = [*TINY, "training.epochs=3", "training.patience=0"]
    whole, *_ = measured("llm4rec", overrides=overrides, models=tmp_path / "whole")
    step = LLM4RecTrainer.training_step

    def press_ctrl_c(trainer, *args, **kwargs):
        if trainer.state.global_step == 6:
            signal.raise_signal(signal.SIGINT)
        return step(trainer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LLM4RecTrainer, "training_step", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt, match="goes on from"):
            measured("llm4rec", overrides=overrides, models=tmp_path / "models")
    (state,) = (tmp_path / "models").rglob("checkpoint-7/trainer_state.json")
    facts = json.loads(state.read_text())
    assert facts["stateful_callbacks"]["Stopwatch"]["attributes"]["before"] > 0
    facts["stateful_callbacks"]["Stopwatch"]["attributes"]["before"] = 1000.0
    state.write_text(json.dumps(facts))
    row, *_ = measured("llm4rec", overrides=overrides, models=tmp_path / "models")
    assert row["metrics"] == pytest.approx(whole["metrics"])
    assert 1000 < row["seconds"] < 1100
    again, *_ = measured("llm4rec", overrides=overrides, models=tmp_path / "models")
    assert 1000 < again["seconds"] < 1100


def test_diverse_lists_can_spend_accuracy_down_to_that_of_another_model(measured, tmp_path):
    accurate, *_ = measured("llm4rec", overrides=TINY, models=tmp_path / "models")
    floor = 0.5 * accurate["metrics"]["validation/filtered/ndcg@10"]
    other, _, path = measured("popularity")
    other["metrics"]["validation/filtered/ndcg@10"] = floor
    path.write_text(json.dumps(other))
    row, _, path = measured("llm4rec-diverse", overrides=TINY, models=tmp_path / "models", as_accurate_as="popularity")
    assert path.name == "llm4rec-diverse-as-popularity-seed0.json"
    record = row["config"]["diversity"]
    assert f"keeps {floor:.4f}" in record["chosen_on"]
    assert record["validation"][f"{record['chosen']['strength'] or 0}"] >= floor
    with pytest.raises(ValueError, match="holds no row of ease; run it first"):
        measured("llm4rec-diverse", overrides=TINY, models=tmp_path / "models", as_accurate_as="ease")
    with pytest.raises(ValueError, match="is for llm4rec-diverse and llm4rec-retrieval-diverse only"):
        measured("llm4rec", overrides=TINY, models=tmp_path / "models", as_accurate_as="popularity")


def test_what_the_protocol_decides_cannot_be_overridden(measured):
    with pytest.raises(ValueError, match="decide it by --protocol and --seed"):
        measured("llm4rec", overrides=["data.split=global_time"])


def test_a_split_by_time_is_a_protocol_too(measured):
    row, _, path = measured("popularity", protocol="global_time")
    assert (row["protocol"], path.name) == ("global_time", "popularity-global-time.json")


def test_a_peer_without_its_environment_is_refused(measured):
    with pytest.raises(ValueError, match="give its interpreter with --peer-python"):
        measured("rectools-sasrec")


def test_a_memory_is_added_to_the_plain_model_and_chosen_on_validation(measured, tmp_path):
    plain, plain_kept, _ = measured("llm4rec", overrides=TINY, models=tmp_path / "models")
    overrides = [*TINY, "retrieval.neighbours=10"]
    row, kept, path = measured("llm4rec-retrieval", overrides=overrides, models=tmp_path / "models")
    assert path.name == "llm4rec-retrieval-seed0.json"
    assert [folder.name for folder in (tmp_path / "models" / "world").iterdir()] == ["llm4rec-seed0"]
    assert row["config"]["retrieval"]["neighbours"] == 10
    assert row["metrics"]["validation/off/filtered/ndcg@10"] == pytest.approx(
        plain["metrics"]["validation/filtered/ndcg@10"], abs=1e-3
    )
    assert np.array_equal(kept.targets, plain_kept.targets)
    assert "validation/retrieval/all/precision@10" in row["metrics"]
    row, diverse, _ = measured("llm4rec-retrieval-diverse", overrides=overrides, models=tmp_path / "models")
    assert {"retrieval", "diversity"} <= set(row["config"])
    assert row["config"]["diversity"]["validation"]["0"] > 0
    assert np.array_equal(kept.targets, diverse.targets)
