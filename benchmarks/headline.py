"""The few numbers that the project's README shows, from the same rows as all other tables.

Called by `benchmarks/table.py`, which puts them between the two markers.
"""

from __future__ import annotations

from statistics import mean
from typing import Any

from llm4rec.benchmarks.markdown import markdown_table, spread
from llm4rec.benchmarks.recommenders import CLASSICAL

START, END = "<!-- results: written by benchmarks/table.py -->", "<!-- end of results -->"
METRIC = "filtered/ndcg@10"
PROTOCOL = "leave_one_out"
NAMES = {"amazon-beauty": "Amazon Beauty", "ml-1m": "MovieLens-1M", "ml-latest-small": "MovieLens-latest-small"}
COLUMNS = {
    "sasrec": "SASRec, ids alone",
    "llm4rec": "LLM4Rec",
    "llm4rec-retrieval": "LLM4Rec with memory",
}

Models = dict[str, list[dict[str, Any]]]


def headline(runs: dict[tuple[str, str], Models]) -> list[str]:
    """Markdown lines: NDCG@10 on test of what matters most, a line per data set.

    Args:
        runs: rows by (data set, protocol) and model.
    """
    lines = []
    for dataset, name in NAMES.items():
        models = runs.get((dataset, PROTOCOL), {})
        if "llm4rec" not in models:
            continue
        values = {model: [row["metrics"][METRIC] for row in rows] for model, rows in models.items()}
        best = max(
            (model for model in values if model in CLASSICAL), key=lambda model: mean(values[model]), default=None
        )
        baseline = "–" if best is None else f"{spread(values[best])} ({best})"
        lines.append([name, baseline, *(_cell(values.get(model, [])) for model in COLUMNS)])
    return markdown_table(["NDCG@10", "best baseline", *COLUMNS.values()], lines)


def with_headline(text: str, table: list[str]) -> str:
    """`text` with the table between its markers.

    Raises:
        ValueError: if the markers are not there, in their order.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"The README needs the lines {START!r} and {END!r}, in this order; the table goes between.")
    return "\n".join([before + START, "", *table, "", END + after])


def _cell(values: list[float]) -> str:
    return f"{spread(values)} ({len(values)} seed{'s' if len(values) > 1 else ''})" if values else "–"
