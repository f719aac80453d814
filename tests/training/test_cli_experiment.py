"""`llm4rec experiment`: what a person sees, what a program reads, and what is refused."""

import json

import pytest
from llm4rec.training.cli import main
from llm4rec.training.train import train

pytestmark = pytest.mark.usefixtures("quick_fit")


@pytest.fixture(scope="module")
def folders(shop, tiny_recipe, tmp_path_factory):
    """A trained model without a memory, and its data."""
    output = tmp_path_factory.mktemp("experiment") / "model"
    train(shop, tiny_recipe("training.epochs=1"), output, say=lambda line: None, progress=False)
    return str(output), str(shop.folder)


def run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["experiment", *map(str, arguments)])
    return stopped.value.code


def test_the_sweep_prints_a_table_and_where_it_lies(folders, tmp_path, capsys):
    assert run("retrieval-sweep", *folders, "--output", tmp_path, "--k", 3) == 0
    said = capsys.readouterr().out
    assert "precision@K" in said
    assert f"Best K: 3. Wrote {tmp_path}/retrieval-sweep.csv" in said


def test_the_sweep_as_json_is_what_was_written(folders, tmp_path, capsys):
    settings = ["--set", "retrieval.time_decay=0.01", "--set", "retrieval.sources=[transitions]"]
    assert run("retrieval-sweep", *folders, "--output", tmp_path, "--k", 3, *settings, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads((tmp_path / "retrieval-sweep.json").read_text())
    assert facts["retrieval"]["time_decay"] == 0.01
    assert "behaviour/precision@K" not in facts["rows"][0]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--k", 0], "equal to 1"),
        (["--set", "retrieval.neighbors=3"], "did you mean"),
        (["--set", "retrieval.sources=[reviews]"], "expected some of"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(folders, tmp_path, capsys, extra, message):
    assert run("retrieval-sweep", *folders, "--output", tmp_path / "out", *extra) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_experiment_is_wrong_usage(capsys):
    assert run("everything") == 2


def test_the_sweep_has_help(capsys):
    assert run("retrieval-sweep", "--help") == 0
    assert "--json" in capsys.readouterr().out
