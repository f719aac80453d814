"""What the README says is run: its commands, its Python, its YAML, and the names of files that it gives."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from llm4rec.training.cli import app, main
from typer.main import get_command

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [
    SimpleNamespace(language=language, code=code)
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
]
TINY = [
    *("--set", "training.epochs=1", "--set", "data.max_history=8", "--set", "training.batch_size=16"),
    *("--set", "model.text_config.hidden_size=32", "--set", "model.text_config.intermediate_size=16"),
]
MODEL_ON_THE_HUB = "Qwen/Qwen3-0.6B"


def blocks(language, containing):
    """The code of the blocks that contain a text."""
    found = [block.code for block in BLOCKS if block.language == language and containing in block.code]
    assert found, f"README has no {language} block with {containing!r}"
    return found


def commands(code):
    """Its `llm4rec` commands as argument lists."""
    lines = [shlex.split(line, comments=True) for line in code.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["llm4rec"]]


def run(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert not stopped.value.code, arguments


def write_orders(folder):
    """Tables as the README's schema names their columns."""
    folder.mkdir()
    rows = [f"SKU-{(u + t) % 9},c{u},2024-05-{t + 1:02d}T12:00:00Z,{1 + t % 5}\n" for u in range(12) for t in range(6)]
    (folder / "orders.csv").write_text("sku,customer_ref,bought_at,stars\n" + "".join(rows))
    rows = [f"SKU-{i};Thing {i};A fine thing;Garden;red|tool;{i}.5\n" for i in range(9)]
    (folder / "products.csv").write_text("sku;label;blurb;department;tags;price_eur\n" + "".join(rows))


def write_movies(folder):
    """A MovieLens of a few ratings."""
    folder.mkdir()
    rows = [f"{u},{(u + t) % 9 + 1},{1 + t % 5}.0,{1_000_000 + 60 * t}\n" for u in range(1, 13) for t in range(6)]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(rows))
    rows = [f"{i},Film {i} (19{80 + i}),Drama|War\n" for i in range(1, 10)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "".join(rows))


def test_every_command_of_the_readme_is_spelt_right():
    program = get_command(app)
    found = [words for block in BLOCKS if block.language == "bash" for words in commands(block.code)]
    inline = [shlex.split(code)[1:] for code in re.findall(r"`(llm4rec [^`]*)`", TEXT)]
    assert len(found) > 8
    for words in found:
        program.commands[words[0]].make_context(words[0], words[1:])
    assert {words[0] for words in inline if words} <= set(program.commands)


def test_every_make_target_and_path_of_the_readme_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"^make ([\w-]+)", TEXT, flags=re.MULTILINE)) <= targets
    table = TEXT.split("## Where things are")[1]
    for path in [*re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE), *re.findall(r"\]\(([\w.]+)\)", TEXT)]:
        assert (ROOT / path).exists(), path


def test_the_first_python_example_runs_on_the_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(["quickstart", "--users", "60", "--items", "40", *TINY])
    capsys.readouterr()
    namespace = {}
    exec(blocks("python", "decode_items")[0], namespace)
    assert len(capsys.readouterr().out.splitlines()) == 5
    exec(blocks("python", "pipeline(")[0], namespace)
    assert len(namespace["recommender"](["item-0003"], k=3)) == 3
    exec(blocks("python", "add_items")[0], namespace)
    assert namespace["model"].num_items == 41
    assert "item-new" in namespace["processor"].catalog


def test_your_own_data_by_the_readme_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_orders(tmp_path / "shop")
    Path("shop/schema.yaml").write_text(blocks("yaml", "customer_ref")[0], encoding="utf-8")
    steps = commands(blocks("bash", "prepare table shop")[0])
    assert [step[0] for step in steps] == ["prepare", "train", "evaluate", "recommend"]
    for step in steps:
        capsys.readouterr()
        run([*step, *TINY * (step[0] == "train")])
    out = capsys.readouterr().out
    assert "History: Thing 1; Thing 7" in out
    assert "SKU-" in out
    # The section on recipes goes on with the same data.
    recipes = blocks("bash", "--recipe pretrained-llm-lora")[0]
    run([*commands(recipes)[0], *TINY])
    code = blocks("python", "PreparedData.load")[0]
    short = code.replace('"training.epochs=10"', ", ".join(f'"{change}"' for change in TINY[1::2]))
    assert short != code
    exec(short, {})
    # So does the one on explanations.
    capsys.readouterr()
    for step in commands(blocks("bash", "--explain")[0]):
        run(step)
    exec(blocks("python", "explain=True")[0], {})
    out = capsys.readouterr().out
    assert "times as likely" in out
    assert "is recommended" in out
    for step in commands(blocks("bash", "llm4rec push")[0]):
        run(step)
    assert "model.safetensors" in capsys.readouterr().out


def test_public_data_by_the_readme_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_movies(tmp_path / "ml-latest-small")
    for step in commands(blocks("bash", "prepare movielens")[0]):
        run([*step, *TINY * (step[0] == "train")])
    assert "Film " in capsys.readouterr().out


def test_a_pretrained_model_by_the_readme_alone(tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    tiny.backbone("pretrained")
    code = blocks("python", MODEL_ON_THE_HUB)[0]
    namespace = {}
    exec(code.replace(MODEL_ON_THE_HUB, "pretrained"), namespace)
    assert namespace["model"].num_items == 2
    write_orders(tmp_path / "shop")
    Path("shop/schema.yaml").write_text(blocks("yaml", "customer_ref")[0], encoding="utf-8")
    run(["prepare", "table", "shop", "--output", "data/shop"])
    lora = commands(blocks("bash", MODEL_ON_THE_HUB)[0])[1]
    lora = [word.replace(MODEL_ON_THE_HUB, "pretrained") for word in lora]
    run([*lora, *TINY[:6], "--set", "data.text_encoder=hashing", "--set", "model.fusion_width=16"])
    run(["recommend", "models/shop-qwen"])
