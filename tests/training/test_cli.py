"""The command line as a new user meets it: what it prints and where, its exit codes, what it says of mistakes."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from llm4rec.training.cli import main
from llm4rec.training.cli.console import Console, plain, to_json

COMMANDS = ("quickstart", "prepare", "train", "evaluate", "recommend", "explain", "push", "info")
TINY = [
    *("--set", "training.epochs=1", "--set", "data.max_history=8", "--set", "training.batch_size=16"),
    *("--set", "model.text_config.hidden_size=32", "--set", "model.text_config.intermediate_size=16"),
]


@pytest.fixture(scope="module")
def trained(shop, tmp_path_factory, invoke):
    """A model folder, trained by the command."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    with contextlib.redirect_stdout(io.StringIO()):
        assert invoke("train", shop.folder, "--output", folder, *TINY) == 0
    return folder


@pytest.fixture
def copy(tmp_path):
    """A copy of a folder that a test may damage."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / f"copy of {folder.name}"))


def cut(path):
    """Leave the first half of a file, as an interrupted copy does."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


# --- Help and usage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llm4rec", "python -m llm4rec.training.cli"])
def test_help_answers_at_once(name, tmp_path):
    beside = Path(sys.executable).parent
    program = shutil.which("llm4rec", path=os.pathsep.join([str(beside), os.environ["PATH"]]))
    command = [program] if name == "llm4rec" else [sys.executable, *name.split()[1:]]
    before = os.times()
    result = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=tmp_path)
    after = os.times()
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    assert result.returncode == 0
    assert all(command in result.stdout for command in COMMANDS)
    assert seconds < 2


def test_help_loads_none_of_the_heavy_libraries(tmp_path):
    script = """
import sys
sys.argv = ["llm4rec"]
from llm4rec.training.cli import main
try:
    main(["--help"])
finally:
    print("LOADED", [name for name in ("torch", "transformers", "datasets", "polars", "numpy") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert "LOADED []" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run, name):
    result = run(name, "--help")
    assert result.code == 0
    assert "--json" in result.out


def test_version_is_shown(run):
    from llm4rec import __version__

    assert run("--version").out.strip() == f"llm4rec {__version__}"


def test_train_lists_all_recipe_fields(run):
    result = run("train", "--fields")
    assert result.code == 0
    assert "training.epochs (float, default 50.0)" in result.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["train"],
        ["train", "data"],
        ["train", "data", "--output"],
        ["recommend", "model", "-k", "0"],
        ["recommend", "model", "-k", "many"],
        ["recommend", "model", "--user", "u"],
        ["recommend", "model", "--data", "d"],
        ["recommend", "model", "--history", "i", "--user", "u", "--data", "d"],
        ["quickstart", "--seed", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_explains_itself_on_stderr(run, arguments):
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Error" in result.err


# --- The path of a new user ------------------------------------------------------------------------------------------


def test_quickstart_ends_with_a_table_five_titles_and_a_model(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("quickstart", "--users", 60, "--items", 40, *TINY)
    assert (result.code, result.err) == (0, "")
    assert all(word in result.out for word in ("NDCG@10", "llm4rec", "popularity", "itemknn"))
    titles = result.out.split("5 recommendations:\n")[1].split("\n\n")[0].splitlines()
    known = set(pl.read_parquet("quickstart/data/items.parquet")["title"])
    assert [line.split()[0] for line in titles] == ["1.", "2.", "3.", "4.", "5."]
    assert {line.strip()[3:] for line in titles} <= known
    model = LLM4RecForCausalLM.from_pretrained("quickstart/model")
    assert model.num_items == len(LLM4RecProcessor.from_pretrained("quickstart/model").catalog) == 40
    next_command = result.out.strip().splitlines()[-1].removeprefix("Next: llm4rec ").split()
    assert run(*next_command).code == 0


def test_quickstart_replaces_only_an_earlier_quickstart(refused, run, tmp_path):
    small = ["--users", 60, "--items", 40, *TINY]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.csv").write_text("years of work")
    assert "exists already. Pass --overwrite" in refused("quickstart", "--output", tmp_path, *small)
    assert "not written by a quickstart" in refused("quickstart", "--output", tmp_path, "--overwrite", *small)
    assert (tmp_path / "data" / "thesis.csv").is_file()
    assert run("quickstart", "--output", tmp_path / "new", *small).code == 0
    assert run("quickstart", "--output", tmp_path / "new", "--overwrite", *small).code == 0


SCHEMA = """
interactions: {path: Käufe 2024.csv, user: Kunde, item: Artikel-Nr., time: "wann?", rating: "★"}
items:
  path: Artikel.csv
  item: Nr.
  title: Bezeichnung (kurz)
  modalities: {Bezeichnung (kurz): text, Preis in €: numerical, Gruppe: {kind: categorical, separator: "/"}}
"""


@pytest.fixture
def odd_shop(tmp_path):
    """Tables with odd names in a folder with an odd name."""
    folder = tmp_path / "mein Läden"
    folder.mkdir()
    (folder / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    items = "".join(f"Nr {i};Ding {i}, blau;{i},5;Haus/Hof\n".replace(",5", ".5") for i in range(9))
    (folder / "Artikel.csv").write_text(f"Nr.;Bezeichnung (kurz);Preis in €;Gruppe\n{items}", encoding="utf-8")
    bought = "".join(f"Nr {(u + t) % 9},k{u},2024-03-{t + 1:02d},{1 + t % 5}\n" for u in range(12) for t in range(6))
    (folder / "Käufe 2024.csv").write_text(f"Artikel-Nr.,Kunde,wann?,★\n{bought}", encoding="utf-8")
    return folder


def test_odd_names_of_columns_files_and_folders_go_all_the_way(run, odd_shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, model = "vor bereitet", "modell für ö"
    prepared = run("prepare", "table", odd_shop.name, "--output", data)
    assert (prepared.code, prepared.err) == (0, "")
    assert "12 users, 9 items, 72 interactions" in prepared.out
    assert f"Next: llm4rec train '{data}' --output MODEL" in prepared.out
    trained = run("train", data, "--output", model, *TINY)
    assert (trained.code, trained.err) == (0, "")
    assert f"Next: llm4rec evaluate '{model}' '{data}'" in trained.out
    assert run("evaluate", model, data, "--output", "ergebnisse/test.json").code == 0
    assert json.loads(Path("ergebnisse/test.json").read_text())["cases"] == 12
    monkeypatch.chdir("/")
    recommended = run("recommend", tmp_path / model, "--history", "Nr 1, Nr 2", "-k", 3)
    assert (recommended.code, recommended.err) == (0, "")
    assert "History: Ding 1, blau; Ding 2, blau" in recommended.out
    assert recommended.out.count(", blau ") == 3
    assert "numerical" in run("info", tmp_path / model).out
    assert "2024-03-01 00:00 UTC" in run("info", tmp_path / data).out


def test_interactions_without_an_item_table_train(run, tmp_path):
    events = [(f"u{u}", f"i{(u + t) % 7}") for u in range(9) for t in range(5)]
    (tmp_path / "clicks.csv").write_text("who,what\n" + "".join(f"{u},{i}\n" for u, i in events))
    (tmp_path / "schema.yaml").write_text("interactions: {path: clicks.csv, user: who, item: what}\n")
    prepared = run("prepare", "table", tmp_path, "--output", tmp_path / "data")
    assert "items have nothing but their ids" in prepared.out
    assert run("train", tmp_path / "data", "--output", tmp_path / "model", *TINY).code == 0
    assert "i0" in run("recommend", tmp_path / "model").out


def test_with_json_stdout_holds_json_and_nothing_else(run, shop, trained, odd_shop, tmp_path):
    model, data = tmp_path / "model", tmp_path / "data"
    facts = {}
    for arguments in (
        ["quickstart", "--output", tmp_path / "quick", "--users", 60, "--items", 40, *TINY],
        ["prepare", "table", odd_shop, "--output", data],
        ["train", data, "--output", model, *TINY],
        ["evaluate", model, data],
        ["recommend", model, "--user", "k3", "--data", data, "-k", 2],
        ["info", model],
    ):
        result = run(*arguments, "--json")
        assert result.code == 0
        facts[arguments[0]] = json.loads(result.out)
    assert len(facts["quickstart"]["recommendations"]) == 5
    assert facts["prepare"]["interactions"] == 72
    assert facts["train"]["interrupted"] is False
    assert list(facts["evaluate"]["metrics"]) == ["llm4rec", "popularity", "itemknn", "transitions", "ease-recency"]
    assert [set(item) >= {"item_id", "title", "score"} for item in facts["recommend"]["recommendations"]] == [True] * 2
    assert facts["info"]["items"] == 9
    assert json.loads(run("info", data, "--json").out)["users"] == 12


def test_json_numbers_that_are_none_are_null(tmp_path):
    assert json.loads(to_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": "ü"}, ascii_only=True)) == {
        "a": None, "b": [None, 1.5], "c": "ü",
    }  # fmt: skip


def test_a_pretrained_backbone_trains_in_silence_and_loads_from_anywhere(run, shop, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.backbone("backbone", "llama")
    lora = ["--recipe", "pretrained-llm-lora", "--set", "model.backbone=backbone"]
    lora += ["--set", "data.text_encoder=hashing", "--set", "training.epochs=1", "--set", "model.fusion_width=16"]
    trained = run("train", shop.folder, "--output", "model", *lora)
    assert (trained.code, trained.err) == (0, "")
    assert len(trained.out.splitlines()) < 12
    monkeypatch.chdir("/")
    for arguments in (["recommend"], ["info"], ["evaluate"]):
        data = [shop.folder] * (arguments == ["evaluate"])
        result = run(*arguments, tmp_path / "model", *data)
        assert (result.code, result.err) == (0, "")


def test_a_sentence_encoder_shows_no_bar_where_nobody_watches(run, shop, tmp_path):
    pytest.importorskip("sentence_transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "tent", "hat"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(tmp_path / "encoder")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(tmp_path / "encoder")
    train = ["train", shop.folder, "--output", tmp_path / "model", *TINY, "--text-encoder", tmp_path / "encoder"]
    result = run(*train)
    assert (result.code, result.err) == (0, "")
    assert f"text by {tmp_path / 'encoder'}" in result.out
    assert run("recommend", tmp_path / "model").code == 0


# --- Titles from anywhere --------------------------------------------------------------------------------------------

NASTY = "\x1b[2J\x1b[31mRed\x1b[0m\x1b]0;title\x07 al\x07ert\r\nsecond\tline\x9b5A \u202egnp.exe \u2028 end"


def test_titles_cannot_steer_the_terminal():
    assert plain(NASTY) == "Red al ert second line gnp.exe end"


def test_long_titles_are_cut_for_people_by_columns_not_letters():
    assert plain("a" * 100, 10) == "a" * 9 + "…"
    assert plain("漢" * 100, 10) == "漢" * 4 + "…"
    assert plain("short", 10) == "short"


def test_columns_stand_below_each_other_with_wide_letters(capsys):
    Console().table(["title", "score"], [["漢字", 1.0], ["e\u0301a", 20.0]])
    assert capsys.readouterr().out.splitlines()[2:] == ["漢字    1.0000", "e\u0301a     20.0000"]


def test_recommend_takes_popularity_out_or_puts_it_in(run, refused, shop, trained, tmp_path):
    fixed = ("--set", "debiasing.popularity=fixed", "--set", "debiasing.popularity_periods=0")
    assert run("train", shop.folder, "--output", tmp_path / "model", *TINY, *fixed).code == 0

    def items(*arguments):
        whole = json.loads(run("recommend", tmp_path / "model", *arguments, "--json").out)["recommendations"]
        return [item["item_id"] for item in whole]

    counts = LLM4RecForCausalLM.from_pretrained(tmp_path / "model").model.popularity_prior.log_popularity[0]
    most, rarest = (
        {shop.items["item_id"][index] for index in (counts == value).nonzero().flatten().tolist()}
        for value in (counts.max(), counts.min())
    )
    assert items("--popularity", "100")[0] in most
    assert items("--popularity", "-100", "-k", 1)[0] in rarest
    assert items("--popularity", "0") == items()
    assert "expected a finite number" in refused("recommend", tmp_path / "model", "--popularity", "inf")
    assert "needs a model with a popularity prior" in refused("recommend", trained, "--popularity", "0.5")


def test_recommend_shows_odd_titles_in_one_clean_line_each_and_whole_in_json(run, trained, copy):
    model = copy(trained)
    catalog = pl.read_parquet(model / "catalog.parquet")
    titles = [NASTY, "very " * 200, *catalog["title"][2:]]
    catalog.with_columns(title=pl.Series(titles)).write_parquet(model / "catalog.parquet")
    ids = catalog["item_id"].to_list()
    shown = run("recommend", model, "--history", ids[0], "-k", 40)
    lines = shown.out.splitlines()
    assert shown.code == 0
    assert "\x1b" not in shown.out
    assert lines[0] == "History: Red al ert second line gnp.exe end"
    assert len(lines) == 3 + len(ids) - 1
    assert max(map(len, lines)) < 100
    whole = json.loads(run("recommend", model, "-k", 40, "--json").out)["recommendations"]
    assert {"very " * 200, NASTY} <= {item["title"] for item in whole}


def test_a_terminal_without_unicode_gets_question_marks_not_an_error(trained, tmp_path):
    code = f"from llm4rec.training.cli import main; main(['prepare', 'table', {str(tmp_path)!r}, '-o', 'x'])"
    (tmp_path / "schema.yaml").write_text("interactions: {path: é.csv, user: u, item: i}\n", encoding="utf-8")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", f"import sys; sys.argv = ['llm4rec']; {code}"]
    result = subprocess.run(command, capture_output=True, text=True, env=env)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "?.csv not found" in result.stderr


# --- Mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--recipe", "movilens"], "Built in are amazon-beauty, movielens, movielens-1m, pretrained-llm-lora"),
        (["--recipe", "mine.yaml"], "'mine.yaml' not found"),
        (["--set", "training.epoch=3"], "did you mean 'training.epochs'"),
        (["--set", "training.epochs=many"], "training.epochs is 'many' (str), expected float"),
        (["--set", "training.epochs"], "not of the form section.field=value"),
        (["--set", "training.epochs=0"], "training.epochs is 0.0, expected more than 0"),
        (["--set", "training.report_to=[tensorboard"], "training.report_to=[tensorboard"),
        (["--set", "data.modalities=[titel]"], "the prepared items have title"),
        (["--set", "model.text_config.hidden_size=wide"], "'hidden_size' expected int, got str"),
        (["--set", "model.text_config.hiden_size=32"], "did you mean 'hidden_size'"),
        (["--set", "model.text_config.model_type=qwen"], "unknown to transformers; near are"),
        (["--text-encoder", "."], "data.text_encoder: "),
        (["--set", "training.arguments.batch=3"], "It takes the fields of trl.SFTConfig"),
        (["--set", "training.lr_scheduler=wavy"], "wavy"),
        (["--set", "model.attention=none"], "none"),
        (["--resume"], "holds no checkpoint to resume from"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_the_recipe_is_explained_and_leaves_nothing(refused, shop, tmp_path, changes, message):
    tiny = [] if any("text_config" in change for change in changes) else TINY[2:]
    assert message in refused("train", shop.folder, "--output", tmp_path / "model", *tiny, *changes)
    assert not (tmp_path / "model").exists()


def test_the_output_of_a_run_that_failed_before_its_first_step_may_be_used_again(run, refused, shop, tmp_path):
    report_to = ["--set", "training.report_to=[nosuch]"]
    assert "nosuch" in refused("train", shop.folder, "--output", tmp_path / "model", *TINY, *report_to)
    assert run("train", shop.folder, "--output", tmp_path / "model", *TINY).code == 0


def test_an_existing_model_is_kept_unless_told_otherwise(refused, run, shop, trained, copy):
    model = copy(trained)
    assert "exists already. Pass --overwrite" in refused("train", shop.folder, "--output", model, *TINY)
    wrong = ["--overwrite", "--set", "data.modalities=[titel]"]
    assert "titel" in refused("train", shop.folder, "--output", model, *TINY, *wrong)
    assert run("recommend", model).code == 0
    assert run("train", shop.folder, "--output", model, *TINY, "--overwrite").code == 0


def test_overwrite_never_deletes_the_data(refused, shop, copy):
    data = copy(shop.folder)
    assert "Choose another folder" in refused("train", data, "--output", data, *TINY, "--overwrite")
    (data / "recipe.yaml").write_text("training: {epochs: 1}\n")
    assert "Choose another folder" in refused("train", data, "--output", data, *TINY, "--overwrite")
    assert "Choose another folder" in refused("train", data, "--output", data.parent, *TINY, "--overwrite")
    assert (data / "items.parquet").is_file()


def test_folders_of_the_wrong_kind_are_told_apart(refused, shop, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, file = shop.folder, shop.folder / "items.parquet"
    (tmp_path / "empty").mkdir()
    (tmp_path / "stopped" / "checkpoints").mkdir(parents=True)
    shutil.copytree(trained, tmp_path / "quick" / "model")
    for arguments, message in (
        (["train", "nosuch", "--output", "x"], "nosuch not found: expected a prepared data set"),
        (["train", "empty", "--output", "x"], "empty is not a prepared data set: it lacks"),
        (["train", file, "--output", "x"], "is a file: expected a prepared data set"),
        (["train", trained, "--output", "x"], "is not a prepared data set"),
        (["train", data, "--output", file], "is a file"),
        (["train", data, "--output", file / "x"], f"x cannot be made: {file} is a file"),
        (["evaluate", trained, "nosuch"], "nosuch not found"),
        (["evaluate", trained, trained], "is not a prepared data set"),
        (["evaluate", trained, data, "--output", tmp_path], "is a folder, expected the name of a file"),
        (["recommend", "nosuch"], "nosuch not found: expected a model folder"),
        (["recommend", "empty"], "empty holds no model (no config.json). Train one"),
        (["recommend", "stopped"], "training was interrupted: finish it with the same `llm4rec train` command"),
        (["recommend", "quick"], f"Did you mean {Path('quick/model')}?"),
        (["recommend", data], "is a prepared data set: train a model on it"),
        (["recommend", file], "is a file, expected a model folder"),
        (["info", "nosuch"], "nosuch not found"),
        (["info", "empty"], "holds no model"),
        (["prepare", "table", "nosuch", "--output", "x"], "nosuch not found"),
        (["prepare", "table", "empty", "--output", "x"], "cannot tell which file holds the interactions"),
        (["prepare", "table", trained / "model.safetensors", "--output", "x"], "unknown type '.safetensors'"),
        (["prepare", "table", data, "--output", "empty"], "exists already"),
        (["prepare", "table", data, "--output", data, "--overwrite"], "holds the raw data"),
        (["prepare", "table", data, "--output", file / "x"], f"x cannot be made: {file} is a file"),
        (["quickstart", "--output", file], "is a file, expected the name of a folder"),
        (["prepare", "table", data, "--output", "x", "--schema", "nosuch.yaml"], "nosuch.yaml not found"),
        (["prepare", "table", data, "--output", "x", "--items", "empty"], "empty is a folder"),
        (["prepare", "shop", data, "--output", "x"], "Unknown source 'shop'. Sources are movielens"),
        (["prepare", "movielens", data, "--output", "x"], "expected ratings.csv"),
    ):
        assert message in refused(*arguments), arguments
    assert not (tmp_path / "x").exists()


def test_unknown_ids_name_the_nearest(refused, shop, trained):
    message = refused("recommend", trained, "--history", "item-12")
    assert "No item has the id “item-12” or a title close to it. Nearest ids: item-" in message
    assert "No item has the id “nosuch”" in refused("recommend", trained, "--allow", "nosuch")
    assert "No item has the id “nosuch”" in refused("recommend", trained, "--deny", "nosuch")
    message = refused("recommend", trained, "--user", "user-12", "--data", shop.folder)
    assert "has no user 'user-12'. Nearest known: user-" in message


def test_nothing_left_to_recommend_is_said(run, trained):
    result = run("recommend", trained, "--allow", "item-0001", "--deny", "item-0001")
    assert result.code == 0
    assert "No item is left to recommend" in result.out


def test_more_than_the_catalog_is_the_catalog(run, trained):
    facts = json.loads(run("recommend", trained, "-k", 1000, "--json").out)
    assert len({item["item_id"] for item in facts["recommendations"]}) == 40


def test_a_model_is_not_evaluated_on_what_it_was_not_made_for(refused, run, shop, trained, odd_shop, tmp_path):
    run("prepare", "table", odd_shop, "--output", tmp_path / "data")
    assert "are new to it (the first: 'Nr 0')" in refused("evaluate", trained, tmp_path / "data")
    message = refused("evaluate", trained, shop.folder, "--split", "global_time")
    assert "trained on the leave_one_out split" in message
    assert "--set data.split=global_time" in message
    assert "expected 'leave_one_out' or 'global_time'" in refused(
        "evaluate", trained, shop.folder, "--split", "random"
    )
    assert "expected 'test' or 'validation'" in refused("evaluate", trained, shop.folder, "--part", "train")


# --- Damaged files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.parquet", None, r"items.parquet cannot be read"),
        ("interactions.parquet", "hello", r"interactions.parquet cannot be read"),
        ("users.parquet", "", r"users.parquet cannot be read"),
        ("stats.json", "{", r"stats.json is damaged"),
        ("stats.json", "[]", r"stats.json is damaged"),
        ("schema.yaml", "", r"schema.yaml is empty"),
        ("schema.yaml", "items: [", r"schema.yaml, line 1, column 9 is not valid YAML"),
        ("schema.yaml", "itens: {}", r"did you mean 'items'"),
        ("schema.yaml", "items: {modalities: [title]}", r"items.modalities holds ['title'], expected a kind for each"),
        ("schema.yaml", "items: {modalities: {title: txt}}", r"Unknown modality kind 'txt'"),
        ("schema.yaml", "items: {title: 3}", r"items: title is 3 (int), expected str; put it in quotes"),
        ("schema.yaml", "items: {modalities: {titel: text}}", r"'titel' has no column in the item table"),
    ],
)
def test_a_damaged_data_set_names_the_file(refused, shop, copy, tmp_path, name, content, message):
    data = copy(shop.folder)
    cut(data / name) if content is None else (data / name).write_text(content)
    assert message in refused("train", data, "--output", tmp_path / "model", *TINY)
    assert not (tmp_path / "model").exists()


def test_a_table_of_another_form_names_the_missing_column(refused, shop, copy, tmp_path):
    data = copy(shop.folder)
    pl.DataFrame({"a": [1]}).write_parquet(data / "interactions.parquet")
    assert "has no column 'user_id' (it has a)" in refused("train", data, "--output", tmp_path / "model", *TINY)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", None, "model.safetensors is damaged"),
        ("model.safetensors", "gone", "no file named model.safetensors"),
        ("text_encoder.safetensors", None, "text_encoder.safetensors is damaged"),
        ("text_encoder.safetensors", "gone", "text_encoder.safetensors"),
        ("catalog.parquet", None, "catalog.parquet"),
        ("catalog.parquet", "gone", "is no whole model: catalog.parquet missing"),
        ("config.json", None, "config.json is damaged"),
        ("config.json", "[]", "config.json is not the configuration of a model"),
        ("config.json", '{"model_type": "bert"}', "holds a 'bert' model, expected a recommender"),
        ("processor_config.json", "{", "processor_config.json is damaged"),
        ("processor_config.json", "gone", "is no whole model: processor_config.json missing"),
        ("tokenizer.json", None, "tokenizer.json is damaged"),
        ("training.json", "{}", "training.json is not the report of a training run"),
    ],
)
def test_a_damaged_model_names_the_file(refused, trained, copy, name, content, message):
    model = copy(trained)
    if content is None:
        cut(model / name)
    elif content == "gone":
        (model / name).unlink()
    else:
        (model / name).write_text(content)
    assert message in refused("info", model)


def test_files_of_two_models_are_not_taken_for_one(refused, trained, copy):
    model = copy(trained)
    pl.read_parquet(model / "catalog.parquet").head(39).write_parquet(model / "catalog.parquet")
    assert "catalog.parquet lists 39 items, the model has 40" in refused("recommend", model)


def test_a_model_that_lacks_a_weight_is_refused(refused, trained, copy):
    from safetensors.torch import load_file, save_file

    model = copy(trained)
    weights = load_file(model / "model.safetensors")
    name = max(weights)
    del weights[name]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert f"lacks 1 of its weights, such as {name}" in refused("recommend", model)


# --- Without a network -----------------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch):
    """As with HF_HUB_OFFLINE=1, which the library reads when it is first imported."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_a_backbone_is_either_pretrained_or_described(refused, shop, tiny, tmp_path):
    tiny.backbone(tmp_path / "backbone")
    backbone = ["--set", f"model.backbone={tmp_path / 'backbone'}"]
    assert "leave one of them out" in refused("train", shop.folder, "--output", tmp_path / "model", *TINY, *backbone)


@pytest.mark.usefixtures("offline")
def test_what_the_hub_does_not_give_is_named(refused, shop, tmp_path):
    train = ["train", shop.folder, "--output", tmp_path / "model", *TINY]
    message = refused(*train[:-4], "--set", "model.backbone=nosuch/model")
    assert "model.backbone: 'nosuch/model'" in message
    assert "network" in message
    pytest.importorskip("sentence_transformers")
    message = refused(*train, "--text-encoder", "nosuch/encoder")
    assert "data.text_encoder: 'nosuch/encoder'" in message
    assert "'hashing'" in message
    assert "nosuch/model is no folder here and was not downloaded before, and HF_HUB_OFFLINE" in refused(
        "info", "nosuch/model"
    )
    assert "nosuch/data is neither on disk nor readable on the Hub" in refused(
        "prepare", "table", "nosuch/data", "--output", tmp_path / "data"
    )
    assert not (tmp_path / "model").exists()


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


def test_ctrl_c_during_training_says_how_to_go_on_and_going_on_ends_well(run, refused, shop, tmp_path):
    model = tmp_path / "model"
    train = ["train", shop.folder, "--output", model, *TINY, "--set", "training.patience=0"]
    long = [str(argument) for argument in [*train, "--set", "training.epochs=100000", "--json"]]
    code = f"import sys; sys.argv = ['llm4rec']; from llm4rec.training.cli import main; main({long!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    for line in process.stderr:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Go on with the same command and --resume." in err
    assert "Traceback" not in err
    facts = json.loads(out)
    assert facts["interrupted"] is True
    assert "interrupted: finish it with the same `llm4rec train` command" in refused("info", model)
    assert "Pass --resume to go on" in refused(*train)
    rest = ["--set", f"training.epochs={int(facts['epochs']) + 2}", "--resume"]
    assert run(*train, *rest).code == 0
    assert run("recommend", model).code == 0


def test_ctrl_c_anywhere_else_stops_with_a_word(run, trained, monkeypatch):
    def press_ctrl_c(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("llm4rec.training.online.published.load_recommender", press_ctrl_c)
    result = run("recommend", trained)
    assert (result.code, result.err) == (130, "Stopped.\n")


def test_ctrl_c_during_prepare_leaves_nothing_that_looks_whole(odd_shop, tmp_path):
    code = """
import sys, time
sys.argv = ["llm4rec"]
import polars as pl
from llm4rec.training.cli import main

def write_slowly(*args, **kwargs):
    print("WRITING", flush=True)
    time.sleep(60)

pl.DataFrame.write_parquet = write_slowly
main(["prepare", "table", sys.stdin.readline().strip(), "--output", "data"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, bufsize=1,
    )  # fmt: skip
    process.stdin.write(f"{odd_shop}\n")
    for line in process.stdout:
        if line == "WRITING\n":
            break
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, err) == (130, "Stopped.\n")
    assert [path.name for path in tmp_path.iterdir()] == [odd_shop.name]


# --- The machine around it -------------------------------------------------------------------------------------------


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named_before_the_work(refused, odd_shop, shop, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for arguments in (["prepare", "table", odd_shop], ["train", shop.folder, *TINY], ["quickstart"]):
        assert refused(*arguments, "--output", locked / "x") == f"{locked / 'x'}: Permission denied."


def test_errors_of_the_system_name_the_file_first(refused, monkeypatch, trained):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "model/config.json")

    monkeypatch.setattr("llm4rec.training.load.load_recommender", full)
    assert refused("info", trained) == "model/config.json: No space left on device."


def test_a_traceback_can_be_had(trained, monkeypatch):
    monkeypatch.setenv("LLM4REC_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        main(["info", "./nosuch"])
