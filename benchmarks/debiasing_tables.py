"""Sections of the benchmarks' README about debiasing, from the rows of the world, Coat, Open Bandit and the frontiers.

Called by `benchmarks/table.py`; `benchmarks/world_debiasing.py summary` prints the world's alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from llm4rec.benchmarks.markdown import markdown_table, spread
from llm4rec.training.evaluation.intervals import bootstrap_interval

Row = dict[str, Any]
WORLD_METRIC = "random_exposure/filtered/ndcg@10"
FRONTIERS = {
    "popularity-sweep": ("γ′", ("filtered/ndcg@10", "filtered/debiased_ndcg@10", "filtered/popularity_lift@10")),
    "fairness-sweep": ("λ", ("filtered/ndcg@10", "filtered/parity_gap@10", "probe/auc")),
}


def rows_of(folder: Path, pattern: str) -> list[Row]:
    """Rows whose files match, by model and seed."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(pattern))]
    return sorted(rows, key=lambda row: (row["model"], row["seed"] or 0))


def debiasing_sections(results: Path, figures: str) -> list[str]:
    """Markdown of all that there is.

    Args:
        figures: folder of the figures, as links name it.
    """
    lines: list[str] = []
    for title, found in (
        ("Debiasing on a world whose truth is known", world_section(results)),
        ("Debiasing on Coat: train ratings chosen by users, test ratings of random items", coat_section(results)),
        ("Off-policy estimates on Open Bandit", bandit_section(results)),
        ("Frontiers on MovieLens-1M, test", frontier_section(results, figures)),
    ):
        lines += [f"## {title}", "", *found, ""] if found else []
    return lines


def world_section(results: Path) -> list[str]:
    """Every model against the plain one, seed by seed, and errors of loss estimates."""
    folder = results / "world"
    models: dict[str, list[Row]] = {}
    for row in rows_of(folder, "llm4rec*.json"):
        models.setdefault(row["model"], []).append(row)
    if "llm4rec" not in models:
        return []
    plain = {row["seed"]: row["metrics"][WORLD_METRIC] for row in models["llm4rec"]}
    lines = []
    for name, rows in models.items():
        paired = [row for row in rows if row["seed"] in plain]
        gains = np.array([row["metrics"][WORLD_METRIC] - plain[row["seed"]] for row in paired])
        interval = bootstrap_interval(gains) if name != "llm4rec" and len(gains) > 1 else None
        strengths = [row["metrics"]["learned_strength"] for row in rows if "learned_strength" in row["metrics"]]
        lines.append(
            [
                name,
                str(len(rows)),
                spread([row["metrics"][WORLD_METRIC] for row in rows]),
                "–" if interval is None else f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]",
                f"{spread(strengths)} ({min(strengths):.3f} to {max(strengths):.3f})" if strengths else "–",
            ]
        )
    header = [
        "model",
        "seeds",
        "NDCG @10, random exposure",
        "gain over llm4rec, 95 % over worlds",
        "learned γ (true 0.5)",
    ]
    text = ["Every seed is another world and another model.", "", *markdown_table(header, lines), ""]
    estimates = rows_of(folder, "loss-estimates-seed*.json")
    if estimates:
        text += [
            f"Error of the estimated loss of a predictor, as a share of the plain mean's error: mean over "
            f"{len(estimates)} worlds, and the worst.",
            "",
            *_loss_table(estimates),
            "",
        ]
    commands = [row["command"] for rows in models.values() for row in rows] + [row["command"] for row in estimates]
    return [*text, "```bash", *sorted(commands), "```"]


def _loss_table(estimates: list[Row]) -> list[str]:
    naive = np.array([row["metrics"]["naive/error"] for row in estimates])
    lines = []
    for source in ("true", "estimated", "popularity"):
        cells = [source]
        for name in ("ips", "snips", "dr"):
            error = np.array([row["metrics"][f"{source}/{name}/error"] for row in estimates])
            cells.append(f"{abs(error.mean() / naive.mean()):.1%} ({np.abs(error / naive).max():.1%})")
        lines.append(cells)
    return markdown_table(["propensities", "IPS", "SNIPS", "DR"], lines)


def coat_section(results: Path) -> list[str]:
    """Accuracy of every model, and comparisons."""
    names, models = ("auc", "ndcg@5", "ndcg@5-skip-empty"), {}
    for row in rows_of(results / "coat", "*-seed*.json"):
        models.setdefault(row["model"], []).append(row)
    lines = [
        [model, str(len(rows)), *(spread([row["metrics"][name] for row in rows]) for name in names)]
        for model, rows in models.items()
    ]
    text = markdown_table(["model", "seeds", "AUC", "NDCG @5", "NDCG @5, users without a hit left out"], lines)
    commands = sorted({row["command"] for rows in models.values() for row in rows})
    compared = []
    for row in rows_of(results / "coat", "comparison-*.json"):
        for name in names:
            facts = {key.rpartition("/")[2]: v for key, v in row["metrics"].items() if key.startswith(f"{name}/")}
            if "difference" in facts:
                shown = f"{facts['difference']:+.4f} [{facts['low']:+.4f}, {facts['high']:+.4f}]"
                compared.append([row["config"]["a"], row["config"]["b"], name, shown])
        commands.append(row["command"])
    if compared:
        text += ["", *markdown_table(["model", "against", "metric", "difference, 95 % over users"], compared)]
    note = (
        "Every choice by cross-validation on train ratings, weighted by inverse propensity. A user without a relevant "
        "test item counts 1 in NDCG @5. 366 test pairs were rated in train as well, which all models make use of "
        "(how far a known rating counts was set beforehand, not tuned); `new-pairs/` in the rows leaves them out."
    )
    return [note, "", *text, "", "```bash", *commands, "```"] if lines else []


def bandit_section(results: Path) -> list[str]:
    """Estimated click rates beside the observed one."""
    lines, commands = [], set()
    for row in rows_of(results / "open-bandit", "*.json"):
        metrics, campaign = row["metrics"], row["dataset"].rpartition("/")[2]
        commands.add(row["command"])
        names = ["observed", *(name.removesuffix("/z") for name in metrics if name.endswith("/z"))]
        for name in names:
            covers = metrics.get(f"{name}/covers")
            rounds = metrics.get(f"{name}/effective_sample_size")
            lines.append(
                [
                    campaign,
                    "random log" if name == "observed" else name,
                    f"{metrics[f'{name}/value']:.4f}",
                    f"{metrics[f'{name}/low']:.4f} … {metrics[f'{name}/high']:.4f}",
                    "–" if rounds is None else f"{rounds:,.0f}",
                    "–" if covers is None else "yes" if covers else "no",
                ]
            )
    header = ["campaign", "estimate", "click rate", "95 % interval", "effective rounds", "covers the observed rate"]
    return [*markdown_table(header, lines), "", "```bash", *sorted(commands), "```"] if lines else []


def frontier_section(results: Path, figures: str) -> list[str]:
    """A table and a figure for every frontier; mean ± standard deviation where it was run with several seeds."""
    text: list[str] = []
    for name, (symbol, metrics) in FRONTIERS.items():
        rows = rows_of(results / "ml-1m", f"{name}-seed*.json")
        if not rows:
            continue
        points = {"before": "test/start"}
        points |= {f"{value:g}": f"test/strength={value:g}" for value in rows[0]["config"]["strengths"]}
        lines = []
        for point, place in points.items():
            there = [row["metrics"] for row in rows if f"{place}/{metrics[0]}" in row["metrics"]]
            if there:
                lines.append(
                    [point, str(len(there)), *(spread([m[f"{place}/{metric}"] for m in there]) for metric in metrics)]
                )
        named = [metric.rpartition("/")[2].replace("_", " ").replace("@", " @") for metric in metrics]
        text += [
            f"### {name.replace('-', ' ').capitalize()}",
            "",
            *markdown_table([symbol, "seeds", *named], lines),
            "",
        ]
        text += [f"![{name}]({figures}/ml-1m-{name}.svg)", ""]
        text += ["```bash", *sorted({row["command"] for row in rows}), "```", ""]
    return text[:-1]
