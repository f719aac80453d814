"""The model card says what was trained, measured and estimated, in a form that the Hub reads."""

import json
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from llm4rec.training.card_results import BEGIN, END, add_evaluation, with_section
from llm4rec.training.data.terms import terms_of
from llm4rec.training.energy import estimate_energy
from llm4rec.training.evaluate import evaluate_model
from llm4rec.training.load import load_recommender
from llm4rec.training.model_card import write_model_card
from llm4rec.training.train import train

GOLDEN = Path(__file__).with_name("golden") / "model_card.md"


@pytest.fixture(scope="module")
def trained(shop, tiny_recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "shop-model"
    train(shop, tiny_recipe("training.epochs=1"), folder, progress=False, say=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def report(trained, shop):
    return evaluate_model(trained, shop, say=lambda line: None, progress=False)


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "shop-model")


def form(text):
    """A card without what differs from run to run and from machine to machine."""
    text = re.sub(r"s on [^)]*\)", "s on MACHINE)", text)
    text = re.sub(r"co2_eq_emissions:\n(?:  .*\n)+", "", text)
    text = re.sub(r"\nEnergy and carbon.*\n", "", text)
    return re.sub(r"-?\d[\d,.]*(?:e-\d+)?(?=\W|$)", "N", text)


def test_the_card_has_the_form_that_was_agreed(folder, report):
    add_evaluation(folder, report)
    assert form((folder / "README.md").read_text(encoding="utf-8")) == GOLDEN.read_text(encoding="utf-8")


def test_before_an_evaluation_the_card_shows_validation(trained):
    text = (trained / "README.md").read_text(encoding="utf-8")
    section = text.split(BEGIN)[1].split(END)[0]
    assert "on validation" in section
    best = json.loads((trained / "training.json").read_text())["validation"]
    assert f"| NDCG@10 | {best['filtered/ndcg@10']:.4f} | {best['unfiltered/ndcg@10']:.4f} |" in section
    assert ModelCard.load(trained / "README.md").data.eval_results is None


def test_the_hub_reads_both_protocols_of_the_test_results(folder, report):
    add_evaluation(folder, report)
    card = ModelCard.load(folder / "README.md")
    card.data.to_yaml()
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == "shop-model"
    values = {result.metric_name: result.metric_value for result in results}
    own = report["metrics"]["llm4rec"]
    assert values["NDCG@10 (seen items filtered)"] == pytest.approx(own["filtered/ndcg@10"], abs=5e-5)
    assert values["NDCG@10 (seen items not filtered)"] == pytest.approx(own["unfiltered/ndcg@10"], abs=5e-5)
    assert values["NDCG gap@10 (seen items filtered)"] == pytest.approx(own["filtered/ndcg_gap@10"], abs=5e-5)
    assert {(r.task_type, r.dataset_name, r.dataset_config, r.dataset_split) for r in results} == {
        ("recommendation", "simulation", "leave_one_out", "test")
    }


def test_the_gap_on_the_card_is_that_between_the_groups(report):
    accuracy = [metrics["filtered/ndcg@10"] for metrics in report["groups"].values()]
    assert report["user_groups"] == "group"
    assert report["metrics"]["llm4rec"]["filtered/ndcg_gap@10"] == pytest.approx(max(accuracy) - min(accuracy))


def test_words_of_the_author_stay_and_a_second_evaluation_takes_the_place_of_the_first(folder, report):
    path = folder / "README.md"
    path.write_text(path.read_text(encoding="utf-8").replace("## Limits", "## From the author\n\nHello.\n\n## Limits"))
    add_evaluation(folder, report)
    once = path.read_text(encoding="utf-8")
    add_evaluation(folder, report)
    assert path.read_text(encoding="utf-8") == once
    assert "## From the author\n\nHello." in once
    other = {**report, "dataset": "another", "part": "validation"}
    add_evaluation(folder, other)
    results = ModelCard.load(path).data.eval_results
    assert {result.dataset_name for result in results} == {"simulation", "another"}
    assert path.read_text(encoding="utf-8").count(BEGIN) == 1


def test_a_card_without_a_place_for_results_gets_one_at_its_end(folder, report):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Ours\n\nWords.\n", encoding="utf-8")
    add_evaluation(folder, report)
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "mit"
    assert card.text.startswith("\n# Ours\n\nWords.\n\n## Results\n\n" + BEGIN)
    assert with_section("a", "b") == f"a\n\n## Results\n\n{BEGIN}\nb\n{END}\n"
    (folder / "README.md").unlink()
    add_evaluation(folder, report)
    assert "# shop-model" in (folder / "README.md").read_text(encoding="utf-8")


def test_metadata_that_cannot_be_read_leaves_the_card_alone(folder, report):
    broken = "---\nlicense: [mit\n---\n# Ours\n"
    (folder / "README.md").write_text(broken)
    with pytest.raises(ValueError, match=r"The metadata at the top of .*README\.md cannot be read"):
        add_evaluation(folder, report)
    assert (folder / "README.md").read_text() == broken


def test_the_command_keeps_the_result_with_the_model(folder, shop, run):
    result = run("evaluate", folder, shop.folder, "--no-baselines", "--update-card")
    assert result.code == 0, result.err
    kept = json.loads((folder / "evaluation.json").read_text())
    assert kept["part"] == "test"
    assert "model" not in kept  # where it lies on this disk is nobody's business
    assert str(folder.parent) not in (folder / "README.md").read_text(encoding="utf-8")
    assert f"| NDCG@10 | {kept['metrics']['llm4rec']['filtered/ndcg@10']:.4f} |" in (folder / "README.md").read_text()
    assert run("evaluate", "org/shop", shop.folder, "--update-card").code == 2


def test_energy_is_power_times_time_and_nothing_where_power_is_unknown():
    found = estimate_energy(3600, cores=4, gpus=[])
    assert (found.kwh, found.grams) == (pytest.approx(0.04), pytest.approx(19.2))
    two = estimate_energy(1800, cores=1, gpus=["NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"])
    assert two.kwh == pytest.approx((10 + 1400) * 0.5 / 1000)
    assert "700 W for the NVIDIA H100 80GB HBM3" in two.assumptions
    assert estimate_energy(1800, cores=1, gpus=["Some New GPU"]) is None


def test_a_bonus_on_new_items_is_said(folder, shop, tiny_recipe):
    model, processor = load_recommender(folder)
    training = json.loads((folder / "training.json").read_text())
    for bonus, said in ((0.0, False), (0.5, True)):
        model.config.new_item_bonus = bonus
        write_model_card(folder, model, processor, tiny_recipe(), training)
        assert ("get +0.5 on their scores" in (folder / "README.md").read_text(encoding="utf-8")) == said


def test_terms_of_public_data_are_said(trained):
    assert "may not be redistributed" in terms_of("movielens").sentence
    assert terms_of("simulation") is terms_of(None) is None
