"""`llm4rec recommend --explain` and `llm4rec explain`: what a person reads, what a program gets, what is refused."""

import json
import subprocess
import sys

import pytest
from llm4rec import LLM4RecProcessor
from llm4rec.training.cli import main
from llm4rec.training.train import train

HISTORY = "item-0001,item-0002,item-0003"


@pytest.fixture(scope="module")
def model(shop, tiny_recipe, tmp_path_factory):
    """A trained model's folder."""
    output = tmp_path_factory.mktemp("explained") / "model"
    train(shop, tiny_recipe("training.epochs=1"), output, say=lambda line: None, progress=False)
    return output


@pytest.fixture
def run(capsys):
    """Run a command: its exit code and what it wrote to stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        return stopped.value.code or 0, *capsys.readouterr()

    return run


def test_recommendations_come_with_a_sentence_each(run, model):
    code, out, _ = run("recommend", model, "--history", HISTORY, "-k", 3, "--explain")
    titles = LLM4RecProcessor.from_pretrained(model).catalog.columns["title"]
    sentences = [line for line in out.splitlines() if line[:3] in {"1. ", "2. ", "3. "}]
    assert code == 0
    assert len(sentences) == 3
    assert all(any(f"“{title}” is recommended" in sentence for title in titles) for sentence in sentences)


def test_a_program_gets_the_evidence_of_every_recommendation(run, model):
    arguments = ["recommend", model, "--history", HISTORY, "-k", 2, "--explain", "--language", "de", "--json"]
    _, out, _ = run(*arguments)
    items = json.loads(out)["recommendations"]
    assert [item["explanation"]["item_id"] for item in items] == [item["item_id"] for item in items]
    assert all("wird empfohlen" in item["explanation"]["text"] for item in items)
    kinds = {piece["kind"] for item in items for piece in item["explanation"]["evidence"]}
    assert {"history", "modality"} <= kinds


def test_without_explain_nothing_is_explained(run, model):
    _, out, _ = run("recommend", model, "--history", HISTORY, "--json")
    assert all("explanation" not in item for item in json.loads(out)["recommendations"])


def test_an_item_that_is_not_recommended_is_set_against_the_best(run, model):
    _, out, _ = run("recommend", model, "--history", HISTORY, "-k", 40, "--json")
    ranked = [item["item_id"] for item in json.loads(out)["recommendations"]]
    code, out, _ = run("explain", model, "--history", HISTORY, "--item", ranked[20], "--json")
    (told,) = json.loads(out)["explanations"]
    assert code == 0
    assert (told["rank"], told["item_id"]) == (21, ranked[20])
    assert told["text"].startswith(f"“{told['title']}” stands at place 21")
    assert f"rather than “{told['title']}”" in told["why_not"]


def test_an_item_of_the_history_is_left_out_and_told_so(run, model):
    _, out, _ = run("explain", model, "--history", HISTORY, "--item", "item-0002")
    assert "is left out because it is in your history already." in out


def test_evidence_is_shown_as_a_table(run, model):
    _, out, _ = run("explain", model, "--history", HISTORY, "-k", 1)
    assert "times as likely" in out
    assert "1 → " in out


def test_a_user_of_a_data_set_is_explained(run, model, shop):
    user = shop.users["user_id"][int(shop.interactions.lengths.argmax())]
    code, out, _ = run("explain", model, "--user", user, "--data", shop.folder, "-k", 1, "--style", "sceptical")
    assert code == 0
    assert "place" in out


def test_a_user_of_whom_nothing_is_known_is_told_so(run, model):
    code, out, _ = run("explain", model, "-k", 1)
    assert code == 0
    assert "nothing is known" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--item", "item-12"], 1, "Unknown item id 'item-12'. Nearest known: item-"),
        (["--style", "poetic"], 1, "choose one of short, detailed, contrastive, sceptical"),
        (["--language", "xx"], 1, "choose one of en, de"),
        (["--user", "u"], 2, "--user and --data go together"),
        (["--popularity", "0.5"], 1, "needs a model with a popularity prior"),
    ],
)
def test_mistakes_are_named(run, model, arguments, code, said):
    got, _, err = run("explain", model, "--history", HISTORY, *arguments)
    assert got == code
    assert said in " ".join(err.replace("│", " ").split())


def test_a_command_asks_nothing_about_the_code_in_a_checkpoint(model):
    command = [sys.executable, "-m", "llm4rec.training.cli", "recommend", str(model), "-k", "1"]
    result = subprocess.run(command, capture_output=True, text=True, input="", timeout=120)
    assert result.returncode == 0
    assert "custom code" not in result.stdout + result.stderr
