"""Tables and figures made from rows: what stands in the document is what stands in the rows."""

import json

import pytest
from llm4rec.benchmarks.headline import END, START, headline, with_headline
from llm4rec.benchmarks.table import HERE, document, read_rows


def row(model, seed, ndcg, protocol="leave_one_out", **more):
    metrics = {f"{p}/{name}@10": ndcg for p in ("filtered", "unfiltered") for name in ("hr", "ndcg")}
    return {
        "dataset": "shop",
        "model": model,
        "protocol": protocol,
        "seed": seed,
        "metrics": metrics | more,
        "seconds": 1500.0,
        "command": f"python benchmarks/run.py shop {model} --seed {seed}",
        "config": {},
    }


def comparison(a, b, difference):
    facts = {"a": 0.05, "b": 0.05 - difference, "difference": difference, "low": 0.001, "high": 0.02}
    facts |= {"p_value": 0.0001, "ratio": 0.05 / (0.05 - difference)}
    metrics = {f"filtered/{name}@10/{fact}": value for name in ("hr", "ndcg") for fact, value in facts.items()}
    return row(f"{a}-vs-{b}", None, 0) | {
        "metrics": metrics,
        "config": {"a": a, "b": b},
        "command": f"python benchmarks/compare.py shop {a} {b}",
    }


@pytest.fixture
def write(tmp_path):
    """Write rows, make the document."""

    def made(*rows):
        folder = tmp_path / "results" / "shop"
        folder.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(rows):
            (folder / f"{number}.json").write_text(json.dumps(one))
        return document(tmp_path / "results", tmp_path / "figures")

    return made


def test_seeds_become_mean_and_spread_and_the_best_model_stands_last(write):
    text = write(row("good", 0, 0.1), row("good", 1, 0.2), row("plain", None, 0.05))
    assert "| good | 2 | 0.1500 ± 0.0707 |" in text
    assert text.index("| plain | 1 | 0.0500 |") < text.index("| good | 2 |")
    assert "python benchmarks/run.py shop good --seed 1" in text


def test_what_a_row_does_not_hold_is_a_dash(write):
    text = write(row("old", 0, 0.1), row("new", 0, 0.2, **{"filtered/vector_diversity@10": 0.875}))
    beyond = text[text.index("### Beyond accuracy") :]
    assert "| new | – | – | – | – | – | 0.8750 |" in beyond
    assert "| old |" not in beyond


def test_an_ablation_says_what_is_lost_and_other_comparisons_the_ratio(write):
    text = write(
        row("llm4rec", 0, 0.05),
        comparison("llm4rec", "llm4rec-without-text", 0.01),
        comparison("llm4rec", "sasrec", 0.01),
    )
    assert "| llm4rec | sasrec | filtered/ndcg @10 | +0.0100 | +0.0010 … +0.0200 | 1e-04 | 1.250 |" in text
    assert "| llm4rec | text | filtered/hr @10 | +0.0100 | +0.0010 … +0.0200 | 1e-04 | 20.0% |" in text
    assert "llm4rec-without-text |" not in text


def test_every_protocol_has_its_own_section_and_figure(write, tmp_path):
    text = write(row("a", 0, 0.05), row("a", 0, 0.01, protocol="cold_items"))
    assert "## shop, cold items" in text
    assert "kept from training" in text
    for name in ("shop-leave-one-out.svg", "shop-cold-items.svg"):
        assert f"(figures/{name})" in text
        assert (tmp_path / "figures" / name).read_text().startswith("<?xml")


def test_the_same_rows_give_the_same_bytes(write, tmp_path):
    rows = [row("a", seed, 0.05 + seed / 100, **{"filtered/vector_diversity@10": 0.5}) for seed in range(3)]
    rows.append(row("b", 0, 0.01, **{"filtered/vector_diversity@10": 0.5}))
    figure = tmp_path / "figures" / "shop-leave-one-out.svg"
    assert write(*rows) == write(*rows)
    first = figure.read_bytes()
    write(*rows)
    assert figure.read_bytes() == first


def test_the_headline_is_the_best_baseline_and_the_models_of_each_data_set():
    models = {
        "popularity": [row("popularity", None, 0.01)],
        "transitions": [row("transitions", None, 0.04)],
        "llm4rec": [row("llm4rec", 0, 0.05), row("llm4rec", 1, 0.07)],
        "llm4rec-diverse": [row("llm4rec-diverse", 0, 0.9)],
    }
    table = headline({("ml-1m", "leave_one_out"): models, ("ml-1m", "cold_items"): models, ("shop", "x"): models})
    assert table[2:] == ["| MovieLens-1M | 0.0400 (transitions) | – | 0.0600 ± 0.0141 (2 seeds) | – |"]


def test_the_headline_replaces_what_stood_between_the_markers_and_nothing_else():
    once = with_headline(f"above\n{START}\nold\n{END}\nbelow\n", ["| new |"])
    assert once == f"above\n{START}\n\n| new |\n\n{END}\nbelow\n"
    assert with_headline(once, ["| new |"]) == once
    with pytest.raises(ValueError, match="README needs the lines"):
        with_headline("no markers", ["| new |"])


def test_the_readme_shows_what_the_rows_say():
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    assert with_headline(text, headline(read_rows(HERE / "results")[0])) == text


def test_the_bonus_on_new_items_stands_with_the_cold_items(write, tmp_path):
    sweep = row("new-items-sweep", 7, 0, protocol="cold_items") | {
        "metrics": {
            f"validation/bonus={bonus}/{name}": value
            for bonus, values in {"0": (0.05, 0.03, 0.04, 0.07), "0.5": (0.08, 0.05, 0.1, 0.069)}.items()
            for name, value in zip(
                ("new/hr@10", "new/ndcg@10", "new/exposure@10", "known/ndcg@10"), values, strict=True
            )
        },
        "config": {
            "bonuses": [0.0, 0.5],
            "tolerance": 0.05,
            "chosen": 0.5,
            "withheld_items": 605,
            "cases": {"new": 1000, "known": 20000},
        },
    }
    folder = tmp_path / "results" / "shop"
    folder.mkdir(parents=True)
    (folder / "new-items-sweep-seed7.json").write_text(json.dumps(sweep))
    text = write(row("a", 0, 0.01, protocol="cold_items"))
    assert "| 0.5 | 0.0800 | 0.0500 | 0.1000 | 0.0690 |" in text
    assert "605 items withheld by seed 7" in text
    assert "Chosen: 0.5" in text
