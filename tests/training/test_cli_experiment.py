"""`llm4rec experiment`: what a person sees, what a program reads, and what is refused."""

import csv
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


# --- Popularity ------------------------------------------------------------------------------------------------------

FILES = ("csv", "json", "png", "svg")


def written(folder, name):
    return sorted(path.suffix[1:] for path in folder.glob(f"{name}.*"))


def tiny_settings(*overrides):
    tiny = ["data.max_history=8", "model.text_config.hidden_size=16", "model.text_config.intermediate_size=16"]
    settings = [*tiny, "training.batch_size=16", "training.epochs=1", *overrides]
    return [argument for setting in settings for argument in ("--set", setting)]


def test_a_popularity_sweep_trades_accuracy_for_less_popular_lists(folders, tmp_path, capsys):
    strengths = ["--strength", -1, "--strength", 0, "--strength", 2]
    assert run("popularity-sweep", *folders, "--output", tmp_path, *strengths, "--part", "test") == 0
    said = capsys.readouterr().out
    assert "popularity lift" in said
    assert f"Wrote {tmp_path}/popularity-sweep.csv, .json, .png and .svg" in said
    assert written(tmp_path, "popularity-sweep") == sorted(FILES)
    result = json.loads((tmp_path / "popularity-sweep.json").read_text())
    assert [row["strength"] for row in result["rows"]] == [-1, 0, 2]
    lifts = [row["filtered/popularity_lift@10"] for row in result["rows"]]
    assert lifts[0] < lifts[1] < lifts[2]
    allowed = [
        row for row in result["rows"] if row["filtered/ndcg@10"] >= 0.99 * result["most_accurate"]["filtered/ndcg@10"]
    ]
    assert result["least_popular"] == min(allowed, key=lambda row: row["filtered/popularity_lift@10"])
    with (tmp_path / "popularity-sweep.csv").open() as file:
        assert [float(row["strength"]) for row in csv.DictReader(file)] == [-1, 0, 2]


def test_a_popularity_sweep_leaves_the_scores_of_a_model_without_a_prior_as_they_are_at_zero(
    folders, tmp_path, capsys
):
    from llm4rec.training.build import split_of
    from llm4rec.training.data.prepared import PreparedData
    from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
    from llm4rec.training.load import load_recommender, recipe_of
    from llm4rec.training.trainer import ModelScorer

    assert run("popularity-sweep", *folders, "--output", tmp_path, "--strength", 0, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads((tmp_path / "popularity-sweep.json").read_text())
    assert facts["trained_strength"] == 0
    validation = split_of(PreparedData.load(folders[1]), recipe_of(folders[0])).validation
    plain = RankingEvaluator(validation, ks=(10,)).evaluate(ModelScorer(*load_recommender(folders[0]))).metrics
    assert facts["rows"][0]["filtered/ndcg@10"] == pytest.approx(plain["filtered/ndcg@10"])


# --- Fairness --------------------------------------------------------------------------------------------------------


def test_a_fairness_sweep_trains_a_model_for_every_strength_and_takes_those_that_are_finished(
    folders, tmp_path, capsys
):
    sweep = ["fairness-sweep", folders[1], "--output", tmp_path, *tiny_settings()]
    assert run(*sweep, "--strength", 0) == 0
    weights = tmp_path / "models" / "fairness-0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    said = capsys.readouterr().out
    assert "probe AUC" in said
    assert f"Wrote {tmp_path}/fairness-sweep.csv, .json, .png and .svg." in said
    assert "trained earlier" not in said
    assert run(*sweep, "--strength", 0, "--strength", 0.5, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads((tmp_path / "fairness-sweep.json").read_text())
    assert weights.stat().st_mtime_ns == before
    assert written(tmp_path, "fairness-sweep") == sorted(FILES)
    assert (facts["attribute"], facts["categories"]) == ("group", "category")
    assert [row["strength"] for row in facts["rows"]] == [0, 0.5]
    for row in facts["rows"]:
        assert 0 <= row["filtered/parity_gap@10"] <= 1
        assert row["probe/auc"] == max(row["probe/linear_auc"], row["probe/mlp_auc"])
    config = json.loads((tmp_path / "models" / "fairness-0.5" / "config.json").read_text())
    assert config["fairness"]["strength"] == 0.5
    # Models of another recipe are not taken for its own.
    assert run(*sweep, *tiny_settings("training.learning_rate=0.5"), "--strength", 0) == 1
    assert "training.learning_rate was 0.001 when this run began and is 0.5 now" in capsys.readouterr().err


# --- Propensities ----------------------------------------------------------------------------------------------------


def test_propensity_sensitivity_compares_every_model_and_clip_with_no_weights(folders, tmp_path, capsys):
    sweep = ["propensity-sensitivity", folders[1], "--output", tmp_path, *tiny_settings()]
    assert run(*sweep, "--propensity", "popularity", "--clip", 1.5, "--clip", 0) == 0
    said = capsys.readouterr().out
    assert "effective share" in said
    assert "popularity, no clip" in said
    written_first = (tmp_path / "propensity-sensitivity.json").read_text()
    assert run(*sweep, "--propensity", "popularity", "--clip", 1.5, "--clip", 0, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads((tmp_path / "propensity-sensitivity.json").read_text())
    assert facts["rows"] == json.loads(written_first)["rows"]  # the models were taken as they are
    assert written(tmp_path, "propensity-sensitivity") == sorted(FILES)
    none, clipped, unclipped = facts["rows"]
    assert [row["variant"] for row in facts["rows"]] == [
        "without weights", "popularity, clip 1.5", "popularity, no clip",
    ]  # fmt: skip
    assert none["effective_share"] == none["largest_weight"] == 1
    assert clipped["largest_weight"] == pytest.approx(1.5)
    assert unclipped["largest_weight"] > 1.5
    assert 1 > clipped["effective_share"] > unclipped["effective_share"]
    assert facts["weighting"] == "snips"


# --- New items -------------------------------------------------------------------------------------------------------


def test_a_new_items_sweep_trades_known_items_for_new_ones_and_chooses_within_the_tolerance(folders, tmp_path, capsys):
    options = ["--bonus", 40, "--bonus", -40, "--withheld", 0.3, "--tolerance", 0.05]
    arguments = ["new-items-sweep", folders[1], "--output", tmp_path, *options, *tiny_settings()]
    assert run(*arguments, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert written(tmp_path, "new-items-sweep") == sorted(FILES)
    rows = result["rows"]
    assert [row["bonus"] for row in rows] == [-40, 0, 40]
    assert (rows[0]["new/exposure@10"], rows[0]["new/hr@10"]) == (0, 0)
    assert rows[0]["new/exposure@10"] <= rows[1]["new/exposure@10"] < rows[2]["new/exposure@10"]
    assert rows[2]["new/ndcg@10"] > rows[1]["new/ndcg@10"]
    assert rows[2]["known/ndcg@10"] < rows[0]["known/ndcg@10"]
    least = 0.95 * rows[1]["known/ndcg@10"]
    allowed = [row for row in rows if row["known/ndcg@10"] >= least]
    assert result["chosen"] == max(allowed, key=lambda row: row["new/ndcg@10"])
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert "withheld-0.3: trained earlier" in said
    assert f"model.new_item_bonus={result['chosen']['bonus']:g}" in said
    assert run(*arguments, "--set", "model.new_item_bonus=1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows  # what a first sweep chose does not change a second
    options[options.index("--withheld") + 1] = 0.2
    assert run("new-items-sweep", folders[1], "--output", tmp_path, *options, *tiny_settings(), "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["withheld_items"] < result["withheld_items"]
    assert again["rows"] != rows  # a model that was shown more items, not the one that is kept
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["withheld-0.2", "withheld-0.3"]


@pytest.mark.parametrize(
    ("name", "extra", "message"),
    [
        ("new-items-sweep", ["--part", "train"], "expected 'validation' or 'test'"),
        ("new-items-sweep", ["--withheld", "2"], "expected a share of the items in (0, 1)"),
        ("new-items-sweep", ["--bonus", "nan"], "expected finite numbers"),
        ("new-items-sweep", ["--set", "data.item_ids=false"], "needs a recipe that reads item ids and at least one"),
        ("new-items-sweep", ["--set", "data.modalities=[]"], "needs a recipe that reads item ids and at least one"),
        ("popularity-sweep", ["--part", "train"], "expected 'validation' or 'test'"),
        ("popularity-sweep", ["--strength", "nan"], "expected a finite number"),
        ("popularity-sweep", ["--strength", "much"], "unable to parse string as a number"),
        ("fairness-sweep", ["--part", "train"], "expected 'validation' or 'test'"),
        ("fairness-sweep", ["--attribute", "gender"], "no user column; there are user_id, age_group, group"),
        ("fairness-sweep", ["--strength", "-1"], "greater than or equal to 0"),
        ("fairness-sweep", ["--set", "debiasing.fairness_attribute=[group]"], "did you mean"),
        ("propensity-sensitivity", ["--part", "train"], "expected 'validation' or 'test'"),
        ("propensity-sensitivity", ["--propensity", "popularitty"], "expected one of 'popularity', 'logistic'"),
        ("propensity-sensitivity", ["--clip", "0.5"], "debiasing.clip is 0.5, expected at least 1"),
        ("propensity-sensitivity", ["--recipe", "quickest"], "Recipe 'quickest' not found"),
    ],
)
def test_a_sweep_that_cannot_end_well_is_refused_before_anything_is_written(
    folders, tmp_path, capsys, name, extra, message
):
    given = folders if name == "popularity-sweep" else folders[1:]
    assert run(name, *given, "--output", tmp_path / "out", *extra) != 0
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_sweep_into_a_file_is_refused(folders, tmp_path, capsys):
    (tmp_path / "out").write_text("notes")
    assert run("fairness-sweep", folders[1], "--output", tmp_path / "out") == 1
    assert "is a file, expected the name of a folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "notes"
