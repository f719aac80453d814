"""`llm4rec recommend --explain` and `llm4rec explain`: what a person reads, what a program gets, what is refused."""

import json
import subprocess
import sys

import pytest
from llm4rec import LLM4RecProcessor
from llm4rec.training.train import train

HISTORY = "item-0001,item-0002,item-0003"


@pytest.fixture(scope="module")
def model(shop, tiny_recipe, tmp_path_factory):
    """A trained model's folder."""
    output = tmp_path_factory.mktemp("explained") / "model"
    train(shop, tiny_recipe("training.epochs=1"), output, say=lambda line: None, progress=False)
    return output


def test_recommendations_come_with_a_sentence_each(run, model):
    result = run("recommend", model, "--history", HISTORY, "-k", 3, "--explain")
    code, out = result.code, result.out
    titles = LLM4RecProcessor.from_pretrained(model).catalog.columns["title"]
    sentences = [line for line in out.splitlines() if line[:3] in {"1. ", "2. ", "3. "}]
    assert code == 0
    assert len(sentences) == 3
    assert all(any(f"“{title}” is recommended" in sentence for title in titles) for sentence in sentences)


def test_a_program_gets_the_evidence_of_every_recommendation(run, model):
    arguments = ["recommend", model, "--history", HISTORY, "-k", 2, "--explain", "--language", "de", "--json"]
    out = run(*arguments).out
    items = json.loads(out)["recommendations"]
    assert [item["explanation"]["item_id"] for item in items] == [item["item_id"] for item in items]
    assert all("wird empfohlen" in item["explanation"]["text"] for item in items)
    kinds = {piece["kind"] for item in items for piece in item["explanation"]["evidence"]}
    assert {"history", "modality"} <= kinds


def test_without_explain_nothing_is_explained(run, model):
    out = run("recommend", model, "--history", HISTORY, "--json").out
    assert all("explanation" not in item for item in json.loads(out)["recommendations"])


def test_an_item_that_is_not_recommended_is_set_against_the_best(run, model):
    out = run("recommend", model, "--history", HISTORY, "-k", 40, "--json").out
    ranked = [item["item_id"] for item in json.loads(out)["recommendations"]]
    result = run("explain", model, "--history", HISTORY, "--item", ranked[20], "--json")
    code, out = result.code, result.out
    (told,) = json.loads(out)["explanations"]
    assert code == 0
    assert (told["rank"], told["item_id"]) == (21, ranked[20])
    assert told["text"].startswith(f"“{told['title']}” stands at place 21")
    assert f"rather than “{told['title']}”" in told["why_not"]


def test_the_best_item_is_not_set_against_itself(run, model):
    out = run("recommend", model, "--history", HISTORY, "-k", 1, "--json").out
    (best,) = json.loads(out)["recommendations"]
    out = run("explain", model, "--history", HISTORY, "--item", best["item_id"], "--style", "contrastive").out
    assert out.startswith(f"“{best['title']}” stands at place 1")


def test_an_item_of_the_history_is_left_out_and_told_so(run, model):
    out = run("explain", model, "--history", HISTORY, "--item", "item-0002").out
    assert "is left out because it is in your history already." in out


def test_evidence_is_shown_as_a_table(run, model):
    out = run("explain", model, "--history", HISTORY, "-k", 1).out
    assert "times as likely" in out
    assert "1 → " in out


def test_a_user_of_a_data_set_is_explained(run, model, shop):
    user = shop.users["user_id"][int(shop.interactions.lengths.argmax())]
    result = run("explain", model, "--user", user, "--data", shop.folder, "-k", 1, "--style", "sceptical")
    code, out = result.code, result.out
    assert code == 0
    assert "your history" in out.splitlines()[0]


def test_a_user_of_whom_nothing_is_known_is_told_so(run, model):
    result = run("explain", model, "-k", 1)
    code, out = result.code, result.out
    assert code == 0
    assert "nothing is known" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--item", "item-12"], 1, "No item has the id “item-12” or a title close to it"),
        (["--style", "poetic"], 1, "choose one of short, detailed, contrastive, sceptical"),
        (["--language", "xx"], 1, "choose one of en, de"),
        (["--user", "u"], 2, "--user and --data go together"),
        (["--popularity", "0.5"], 1, "needs a model with a popularity prior"),
    ],
)
def test_mistakes_are_named(run, model, arguments, code, said):
    result = run("explain", model, "--history", HISTORY, *arguments)
    assert result.code == code
    assert said in " ".join(result.err.replace("│", " ").split())


def test_a_command_asks_nothing_about_the_code_in_a_checkpoint(model):
    command = [sys.executable, "-m", "llm4rec.training.cli", "recommend", str(model), "-k", "1"]
    result = subprocess.run(command, capture_output=True, text=True, input="", timeout=120)
    assert result.returncode == 0
    assert "custom code" not in result.stdout + result.stderr
