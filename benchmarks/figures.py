"""Figures of the benchmarks: how the models stand, and what accuracy costs in variety.

Drawn by `benchmarks/table.py` from rows, as SVG that stays the same byte for byte while the rows do.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

FIGURES = Path(__file__).parent / "figures"
STYLE = {
    "svg.hashsalt": "llm4rec",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
METRIC = "filtered/ndcg@10"
VARIETY = "filtered/vector_diversity@10"


def accuracy_figure(
    models: list[tuple[str, list[dict[str, Any]]]], title: str, folder: Path, place: tuple[str, str]
) -> Path:
    """Left: NDCG@10 of every model, a dot for each seed. Right: NDCG@10 against diversity inside the lists.

    A line spans the mean 95 % interval over users, where rows hold one. On the right a tuned model stands for its
    plain one as well.

    Args:
        models: name and rows of each, in the order from bottom to top.
        place: data set and protocol, which name the file.
    """
    tuned = {name.removesuffix("-tuned") for name, _ in models if name.endswith("-tuned")}
    shown = [
        (name, rows) for name, rows in models if name not in tuned and all(VARIETY in row["metrics"] for row in rows)
    ]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, 2 if len(shown) > 1 else 1, figsize=(9, 1.4 + 0.28 * len(models)), squeeze=False, layout="constrained"
        )
        bars = axes[0, 0]
        for height, (name, rows) in enumerate(models):
            _bar(bars, height, [row["metrics"] for row in rows], ours=name.startswith("llm4rec"))
        bars.set_yticks(range(len(models)), [name for name, _ in models])
        bars.set_xlabel("NDCG@10, filtered")
        bars.set_xlim(left=0)
        if len(shown) > 1:
            for name, rows in shown:
                x, y = (mean(row["metrics"][metric] for row in rows) for metric in (METRIC, VARIETY))
                axes[0, 1].plot(x, y, "o", color=_color(name.startswith("llm4rec")), markersize=4)
                axes[0, 1].annotate(name, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7)
            axes[0, 1].set_xlabel("NDCG@10, filtered")
            axes[0, 1].set_ylabel("diversity of the ten items (vectors)")
            axes[0, 1].margins(0.2)
        figure.suptitle(title)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ("-".join(place).replace("_", "-") + ".svg")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
    return path


def _bar(axes: Any, height: int, metrics: list[dict[str, float]], ours: bool) -> None:
    values = [found[METRIC] for found in metrics]
    axes.barh(height, mean(values), height=0.65, color=_color(ours), alpha=0.6, linewidth=0)
    if all(f"{METRIC}/low" in found for found in metrics):
        low, high = (mean(found[f"{METRIC}/{end}"] for found in metrics) for end in ("low", "high"))
        axes.plot([low, high], [height, height], color="black", linewidth=1)
    if len(values) > 1:
        axes.plot(values, [height] * len(values), "o", color="black", markersize=2.5)


def _color(ours: bool) -> str:
    return "#c2410c" if ours else "#64748b"
