"""Write `benchmarks/README.md` from the rows in `benchmarks/results/`.

    python benchmarks/table.py

Rows of one model that differ in the seed become mean ± standard deviation over seeds (n - 1).
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

HERE = Path(__file__).parent
SHOWN = ("filtered/hr@10", "filtered/ndcg@10", "unfiltered/hr@10", "unfiltered/ndcg@10", "filtered/coverage@10")
INTRODUCTION = """# Benchmarks

Made by `python benchmarks/table.py` from the rows in `results/`; each row holds the command that makes it again, its
configuration, seed, commit and machine. Full-catalog ranking of the test targets, stable time order, seen items taken
out (*filtered*) and left in (*unfiltered*); the epoch of trained models is chosen on validation. Mean ± standard
deviation where there are several seeds. `$DATA` holds the raw data sets, `$TEXT_ENCODER` is the folder of a sentence
encoder.
"""


def rows() -> dict[tuple[str, str], dict[str, list[dict[str, Any]]]]:
    """Ranking rows by (data set, protocol) and model."""
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(HERE.glob("results/*/*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        if SHOWN[1] in row["metrics"]:
            found[row["dataset"], row["protocol"]][row["model"]].append(row)
    return found


def cell(values: list[float]) -> str:
    """Mean, with ± standard deviation if there are several values."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def table(models: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Markdown lines of one data set, best filtered NDCG@10 last."""
    header = ["model", "seeds", *(name.replace("@", " @") for name in SHOWN), "seconds"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for model, seeds in sorted(models.items(), key=lambda e: mean(row["metrics"][SHOWN[1]] for row in e[1])):
        cells = [cell([row["metrics"][name] for row in seeds]) for name in SHOWN]
        seconds = f"{mean(row['seconds'] for row in seeds):,.0f}"
        lines.append(f"| {model} | {len(seeds)} | " + " | ".join(cells) + f" | {seconds} |")
    return lines


def main() -> None:
    """Write the file."""
    lines = [INTRODUCTION]
    for (dataset, protocol), models in sorted(rows().items()):
        lines += [f"## {dataset}, {protocol.replace('_', ' ')}", "", *table(models), ""]
        commands = sorted({row["command"] for seeds in models.values() for row in seeds})
        lines += ["```bash", *commands, "```", ""]
    (HERE / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
