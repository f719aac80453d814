"""Write `benchmarks/README.md`, its figures, and the results in `README.md`, from the rows in `benchmarks/results/`.

    python benchmarks/table.py

Rows of one model that differ in the seed become mean ± standard deviation over seeds (n - 1).
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from llm4rec.benchmarks.debiasing_tables import debiasing_sections
from llm4rec.benchmarks.explanation_tables import explanation_section
from llm4rec.benchmarks.figures import FIGURES, accuracy_figure
from llm4rec.benchmarks.headline import headline, with_headline
from llm4rec.benchmarks.markdown import markdown_table, spread
from llm4rec.benchmarks.new_item_tables import new_item_section
from llm4rec.benchmarks.online_tables import online_section
from llm4rec.benchmarks.speed.tables import speed_sections

HERE = Path(__file__).parent
ACCURACY = ("filtered/hr@10", "filtered/ndcg@10", "unfiltered/hr@10", "unfiltered/ndcg@10")
BEYOND = tuple(
    f"filtered/{name}@10"
    for name in ("coverage", "gini", "novelty", "popularity_lift", "category_diversity", "vector_diversity")
)
SORTED_BY = "filtered/ndcg@10"
COMPARED = (
    "filtered/ndcg@10",
    "unfiltered/ndcg@10",
    "filtered/category_diversity@10",
    "filtered/vector_diversity@10",
)
ABLATION = "-without-"
INTRODUCTION = """# Benchmarks

Made by `python benchmarks/table.py` from the rows in `results/`; each row holds the command that makes it again, its
configuration, seed, commit and machine. Full-catalog ranking of the test targets, stable time order, seen items taken
out (*filtered*) and left in (*unfiltered*); the epoch of trained models and the hyper-parameters of `-tuned` ones are
chosen on validation. Mean ± standard deviation where there are several seeds.

Comparisons pair the users: each user's metric is averaged over a model's seeds first; 95 % bootstrap interval of the
difference over users, p-value of Fisher's randomisation test. In the figures a dot is a seed, a line the 95 % interval
over users.

What the names mean stands in `recommenders.py`, what the metrics mean in `training/evaluation/ranking_evaluator.py`;
vector diversity uses one text encoder for all models. `$DATA` holds the raw data sets, `$TEXT_ENCODER` is the folder
of a sentence encoder.
"""
PROTOCOL_NOTES = {
    "cold_items": (
        "5 % of the items are drawn by the seed and kept from training, from validation and from all histories; the "
        "test events whose target is one of them are ranked among the whole catalog."
    ),
}

Row = dict[str, Any]
Models = dict[str, list[Row]]


def read_rows(results: Path) -> tuple[dict[tuple[str, str], Models], dict[tuple[str, str], list[Row]]]:
    """Ranking rows by (data set, protocol) and model, and comparison rows by (data set, protocol)."""
    runs: dict[tuple[str, str], Models] = defaultdict(lambda: defaultdict(list))
    comparisons: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for path in sorted(results.glob("*/*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        place = row["dataset"], row["protocol"]
        if SORTED_BY in row["metrics"]:
            runs[place][row["model"]].append(row)
        elif f"{SORTED_BY}/difference" in row["metrics"]:
            comparisons[place].append(row)
    return runs, comparisons


def cell(rows: list[Row], metric: str) -> str:
    """Mean over the rows, with ± standard deviation if there are several; a dash where a row lacks the metric."""
    if any(metric not in row["metrics"] for row in rows):
        return "–"
    return spread([row["metrics"][metric] for row in rows])


def ordered(models: Models) -> list[tuple[str, list[Row]]]:
    """Models, best filtered NDCG@10 last."""
    return sorted(models.items(), key=lambda entry: mean(row["metrics"][SORTED_BY] for row in entry[1]))


def accuracy_table(models: Models) -> list[str]:
    """Accuracy of every model."""
    header = ["model", "seeds", *(_title(metric) for metric in ACCURACY), "seconds"]
    lines = [
        [
            model,
            str(len(rows)),
            *(cell(rows, metric) for metric in ACCURACY),
            f"{mean(r['seconds'] for r in rows):,.0f}",
        ]
        for model, rows in ordered(models)
    ]
    return markdown_table(header, lines)


def beyond_table(models: Models) -> list[str]:
    """What the lists are like, for models whose rows say it; empty if none does."""
    known = [(model, rows) for model, rows in ordered(models) if any(m in r["metrics"] for m in BEYOND for r in rows)]
    lines = [[model, *(cell(rows, metric) for metric in BEYOND)] for model, rows in known]
    return markdown_table(["model", *(_title(metric, short=True) for metric in BEYOND)], lines) if lines else []


def comparison_table(rows: list[Row]) -> list[str]:
    """One line for each comparison and metric; ablations have a table of their own."""
    lines = []
    for row in rows:
        for metric in COMPARED:
            facts = _facts(row, metric)
            if facts:
                ratio = f"{facts['ratio']:.3f}" if "ratio" in facts else "–"
                lines.append([row["config"]["a"], row["config"]["b"], _title(metric), *_difference(facts), ratio])
    header = ["model", "against", "metric", "difference", "95 % interval", "p", "ratio"]
    return markdown_table(header, lines) if lines else []


def ablation_table(rows: list[Row]) -> list[str]:
    """What a model loses when it does not read a kind of modality."""
    lines = []
    for row in rows:
        left_out = row["config"]["b"].removeprefix(row["config"]["a"] + ABLATION)
        for metric in ("filtered/hr@10", "filtered/ndcg@10"):
            facts = _facts(row, metric)
            share = f"{facts['difference'] / facts['a']:.1%}"
            lines.append([row["config"]["a"], left_out, _title(metric), *_difference(facts), share])
    header = ["model", "without", "metric", "lost", "95 % interval", "p", "share lost"]
    return markdown_table(header, lines) if lines else []


def is_ablation(row: Row) -> bool:
    """Whether a comparison is of a model with itself less something."""
    return row["config"]["b"].startswith(row["config"]["a"] + ABLATION)


def _facts(row: Row, metric: str) -> dict[str, float]:
    return {
        name.removeprefix(f"{metric}/"): value
        for name, value in row["metrics"].items()
        if name.startswith(f"{metric}/")
    }


def _difference(facts: dict[str, float]) -> list[str]:
    p = f"{facts['p_value']:.4f}" if facts["p_value"] >= 0.001 else f"{facts['p_value']:.0e}"
    return [f"{facts['difference']:+.4f}", f"{facts['low']:+.4f} … {facts['high']:+.4f}", p]


def _title(metric: str, short: bool = False) -> str:
    name = metric.rpartition("/")[2] if short else metric
    return name.replace("@", " @").replace("_", " ")


def document(results: Path, figures: Path) -> str:
    """The whole README; draws the figures it shows into `figures`."""
    runs, comparisons = read_rows(results)
    lines = [INTRODUCTION]
    for place, models in sorted(runs.items()):
        dataset, protocol = place
        compared = comparisons.get(place, [])
        lines += [f"## {dataset}, {protocol.replace('_', ' ')}", ""]
        if protocol in PROTOCOL_NOTES:
            lines += [PROTOCOL_NOTES[protocol], ""]
        figure = accuracy_figure(ordered(models), f"{dataset}, {protocol.replace('_', ' ')}", figures, place)
        lines += [f"![NDCG@10 of every model]({FIGURES.name}/{figure.name})", ""]
        for title, table in (
            ("Accuracy", accuracy_table(models)),
            ("Beyond accuracy (filtered)", beyond_table(models)),
            ("Comparisons", comparison_table([row for row in compared if not is_ablation(row)])),
            ("What each kind of modality brings", ablation_table([row for row in compared if is_ablation(row)])),
        ):
            if table:
                lines += [f"### {title}", "", *table, ""]
        made = [row for rows in models.values() for row in rows]
        commands = sorted({row["command"] for row in made}) + sorted({row["command"] for row in compared})
        lines += ["```bash", *commands, "```", ""]
        bonus = new_item_section(results, FIGURES.name, dataset) if protocol == "cold_items" else []
        lines += ["### A bonus on new items", "", *bonus] if bonus else []
    lines += debiasing_sections(results, FIGURES.name)
    explanations = explanation_section(results)
    lines += ["## Explanations", "", *explanations, ""] if explanations else []
    online = online_section(results, FIGURES.name)
    lines += ["## Online learning", "", *online] if online else []
    sections = speed_sections(results)
    if sections:
        lines += ["## Speed and memory", ""]
        for title, (header, table), row in sections:
            lines += [f"### {title}", "", f"On {row['machine']}.", "", *markdown_table(header, table), ""]
        lines += ["```bash", *(row["command"] for _, _, row in sections), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the files."""
    (HERE / "README.md").write_text(document(HERE / "results", FIGURES), encoding="utf-8")
    readme = HERE.parent / "README.md"
    text = with_headline(readme.read_text(encoding="utf-8"), headline(read_rows(HERE / "results")[0]))
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
