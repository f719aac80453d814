"""What every experiment leaves behind: a table as CSV and JSON, a plot as PNG and SVG."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STYLE = {
    "svg.hashsalt": "llm4rec",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def write_table(folder: Path, name: str, result: dict[str, Any]) -> None:
    """`name.json` with the whole result, `name.csv` with its `rows`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    rows = result["rows"]
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def write_plot(folder: Path, name: str, panels: int = 1) -> Iterator[Any]:
    """Axes to draw on, side by side; saved as `name.png` and `name.svg` at the end.

    Raises:
        ImportError: without matplotlib.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots of experiments need matplotlib: `pip install 'llm4rec[experiments]'`.") from error
    with rc_context(STYLE):
        figure = Figure(figsize=(4.5 * panels, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(1, panels)
        yield axes
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", dpi=150)
