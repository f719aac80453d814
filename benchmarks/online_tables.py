"""The benchmarks' README on online learning, from the rows of `benchmarks/online*.py`; called by `table.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm4rec.benchmarks.markdown import markdown_table, spread

METHODS = ("frozen", "finetune", "ewc", "proximal", "replay", "online", "retrain")
METRICS = (
    "prequential/ndcg@10",
    "learning_average",
    "retained_average",
    "harmonic_mean",
    "forgetting",
    "backward_transfer",
)
NOTES = (
    "The last fifth of each data set comes as a stream to a model that was trained on the rest; each event is asked "
    "for, then learned. A tenth of the stream's events is learned by nobody: accuracy on them, block by block, gives "
    "what is learned, retained and forgotten (definitions in `training/evaluation/continual.py`). All methods start "
    "from the same base of their seed, with its memory if it has one; only `online` goes on filling it. `retrain` "
    "trains a new model on all that is known after each block. NDCG@10, seen items filtered; "
    "mean ± standard deviation over seeds; a figure is of one seed, the last that ran all methods."
)


def online_section(results: Path, figures: str) -> list[str]:
    """Markdown lines; none without rows."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((results / "online").glob("*-seed*.json"))]
    lines = [NOTES, ""] if rows else []
    for dataset in sorted({row["dataset"] for row in rows}):
        found: dict[str, list[dict[str, Any]]] = {
            method: [row for row in rows if (row["dataset"], row["model"]) == (dataset, method)] for method in METHODS
        }
        table = [
            [method, str(len(runs)), *(spread([row["metrics"][metric] for row in runs]) for metric in METRICS)]
            for method, runs in found.items()
            if runs
        ]
        commands = sorted({row["command"] for runs in found.values() for row in runs})
        lines += [f"### Stream of {dataset}", "", *markdown_table(["", "seeds", *METRICS], table), ""]
        lines += [f"![{dataset}, online]({figures}/{dataset}-online.svg)", "", "```bash", *commands, "```", ""]
    for name, title in (("cost", "Cost"), ("kill-test", "Killed at random moments")):
        path = results / "online" / f"{name}.json"
        if path.is_file():
            row = json.loads(path.read_text(encoding="utf-8"))
            table = [
                [key.replace("_", " "), f"{value:,.2f}".removesuffix(".00")] for key, value in row["metrics"].items()
            ]
            lines += [f"### {title}", "", f"On {row['machine']}.", "", *markdown_table(["", ""], table), ""]
            lines += ["```bash", row["command"], "```", ""]
    return lines
