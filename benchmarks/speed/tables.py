"""Tables of the speed rows, for `benchmarks/table.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Table = tuple[list[str], list[list[str]]]
TITLES = {
    "training": "Training on Amazon Beauty (ids alone, width 128, one block, 50 events, 256 negatives)",
    "serving": "One request and a batch (12,101 items, history of 20, k = 10, milliseconds, median)",
    "debiasing": "Debiasing: training steps on MovieLens-1M, plain and with all corrections on",
    "retrieval": "Retrieval (width 128, 20 neighbours, one query at a time)",
    "catalog": "As the catalog grows (milliseconds, median; megabytes, peak of the process)",
    "load": "The Space under load (50 clients with pauses of two seconds, on the same cores; megabytes of the Space)",
}
FOLDERS = {"load": "space"}


def speed_sections(results: Path) -> list[tuple[str, Table, dict[str, Any]]]:
    """Title, (header, lines) and row of each kind of speed row that there is."""
    sections = []
    for what, title in TITLES.items():
        path = results / FOLDERS.get(what, "speed") / f"{what}.json"
        if path.is_file():
            row = json.loads(path.read_text(encoding="utf-8"))
            table = by_size(row["metrics"]) if what == "catalog" else plain(row["metrics"])
            sections.append((title, table, row))
    return sections


def plain(metrics: dict[str, float]) -> Table:
    """A line for each metric."""
    return ["what", "value"], [[spoken(name), number(value)] for name, value in metrics.items()]


def by_size(metrics: dict[str, float]) -> Table:
    """Metrics `<size>_items/<name>`: a line for each name, a column for each size."""
    sizes = list(dict.fromkeys(name.partition("/")[0] for name in metrics))
    names = dict.fromkeys(name.partition("/")[2] for name in metrics)
    lines = [[spoken(name), *(number(metrics[f"{size}/{name}"]) for size in sizes)] for name in names]
    return ["what", *(f"{int(size.partition('_')[0]):,} items" for size in sizes)], lines


def spoken(name: str) -> str:
    """A metric's name in words."""
    return name.replace("_", " ").replace("/", ", ")


def number(value: float) -> str:
    """Three significant digits or whole numbers."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
