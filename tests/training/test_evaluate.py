"""Evaluation of a saved model beside baselines: who stands in the table, with which interval, against whom."""

import re
import shutil

import numpy as np
import pytest
from llm4rec.training.baselines.named import BASELINES, default_baselines, make_baseline
from llm4rec.training.cli.console import Console
from llm4rec.training.cli.evaluate import show
from llm4rec.training.evaluate import against_best_baseline, evaluate_model
from llm4rec.training.evaluation.evaluation_result import EvaluationResult
from llm4rec.training.evaluation.metrics import ndcg
from llm4rec.training.online.feedback_event import FeedbackEvent
from llm4rec.training.online.feedback_log import FeedbackLog
from llm4rec.training.online.learner import OnlineLearner
from llm4rec.training.online.learning_settings import LearningSettings
from llm4rec.training.train import train


@pytest.fixture(scope="module")
def model(shop, tiny_recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "model"
    train(shop, tiny_recipe(), folder, progress=False)
    return folder


def evaluate(model, shop, **options):
    return evaluate_model(model, shop, say=lambda line: None, progress=False, **options)


def test_a_small_catalog_is_ranked_by_the_cheap_baselines_and_ease(model, shop):
    report = evaluate(model, shop)
    assert list(report["metrics"]) == ["llm4rec", "popularity", "itemknn", "transitions", "ease-recency"]
    assert default_baselines(12_000) == ("popularity", "itemknn", "transitions")


def test_every_interval_holds_its_mean_and_the_comparison_is_with_the_best_baseline(model, shop):
    report = evaluate(model, shop)
    for name, found in report["intervals"].items():
        assert set(found) == {"filtered/ndcg@10", "unfiltered/ndcg@10"}
        for metric, interval in found.items():
            assert interval["low"] <= interval["mean"] <= interval["high"]
            assert interval["mean"] == pytest.approx(report["metrics"][name][metric])
    for outcome in report["comparisons"]:
        metric, rivals = outcome["metric"], set(report["metrics"]) - {"llm4rec"}
        assert outcome["b"] == pytest.approx(max(report["metrics"][name][metric] for name in rivals))
        assert outcome["a"] == pytest.approx(report["metrics"]["llm4rec"][metric])


def test_baselines_are_chosen_by_name_or_left_out(model, shop):
    assert list(evaluate(model, shop, baselines=["ease"])["metrics"]) == ["llm4rec", "ease"]
    alone = evaluate(model, shop, baselines=False)
    assert list(alone["metrics"]) == ["llm4rec"]
    assert alone["comparisons"] == []


def test_an_unknown_baseline_is_refused_before_anything_is_loaded(shop):
    with pytest.raises(ValueError, match=r"No baseline is named 'als'; there are popularity.*transitions"):
        evaluate("no-such-model", shop, baselines=["als"])


def test_the_table_shows_the_interval_and_the_difference(model, shop, capsys):
    show(Console(), evaluate(model, shop))
    out = capsys.readouterr().out
    assert len(re.findall(r"^transitions .*0\.\d{4} ±0\.\d{4}", out, re.MULTILINE)) == 2
    assert len(re.findall(r"^llm4rec - [\w-]+: NDCG@10 [+-]0\.\d{4}, 95 % interval .*, p = [\d.e-]+$", out, re.M)) == 2


def test_the_best_baseline_may_differ_between_protocols():
    good, bad = np.zeros(30, dtype=int), np.full(30, 9)

    def result(filtered, unfiltered):
        ranks = {"filtered": filtered, "unfiltered": unfiltered}
        metrics = {f"{protocol}/ndcg@10": ndcg(found, 10).mean() for protocol, found in ranks.items()}
        return EvaluationResult(metrics, ranks, np.arange(30), 50)

    outcomes = against_best_baseline({"llm4rec": result(bad, good), "a": result(good, bad), "b": result(bad, good)})
    assert [outcome["baseline"] for outcome in outcomes] == ["a", "b"]
    assert outcomes[0]["difference"] < 0 == outcomes[1]["difference"]


@pytest.mark.parametrize("name", BASELINES)
def test_every_named_baseline_fits_and_scores(name, shop):
    events = shop.interactions
    scores = make_baseline(name).fit(events).score(events.rows(0, 3))
    assert scores.shape == (3, events.num_items)
    assert np.isfinite(scores).all()


def test_explanations_are_judged_when_asked_for(model, shop, capsys):
    assert evaluate(model, shop, baselines=False)["explanations"] is None
    report = evaluate(model, shop, baselines=False, explanations=5)
    judged = report["explanations"]
    assert 0 < judged["users"] <= 5
    assert judged["unresolved_claims"] == 0
    assert judged["deletion_wins/low"] <= judged["deletion_wins"] <= judged["deletion_wins/high"]
    show(Console(), report)
    assert "the item named first costs more than a random one" in capsys.readouterr().out


def test_a_version_that_was_learned_online_can_be_judged(model, shop, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    ids = shop.items["item_id"].to_list()
    settings = LearningSettings(rank=2, learning_rate=0.05, events_per_step=8, replay=0, ewc=0.0)
    with FeedbackLog(tmp_path / "feedback.db") as log:
        log.append([FeedbackEvent(f"u{n}", ids[n % 5], "buy", time=1e9 + n, event_id=f"e{n}") for n in range(60)])
        with OnlineLearner(folder, log, settings, forgetting_limit=10.0, say=lambda line: None) as learner:
            learner.learn()
    trained, current = (evaluate(folder, shop, baselines=False, version=version) for version in (None, "current"))
    assert (trained["version"], current["version"]) == (None, learner.version.name)
    assert trained["metrics"] == evaluate(folder, shop, baselines=False, version="base")["metrics"]
    with pytest.raises(ValueError, match="No version '000009'"):
        evaluate(folder, shop, version="000009")
    with pytest.raises(ValueError, match=r"org/name is none.*leave the version out"):
        evaluate("org/name", shop, version="current")
