"""The benchmarks' README on explanations, from the rows of `benchmarks/explanations.py`; called by `table.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from llm4rec.benchmarks.markdown import markdown_table

NOTES = (
    "Removing the item of the history that an explanation names first, and removing a random other one: *wins* is the "
    "share of users whose first costs more, by log-probability and by raw score. Areas lie between the curves of the "
    "explanation's order and of random orders, in nats, with 95 % intervals. Claims are those of the best "
    "recommendations of all users in all four styles. *Long* compares histories of which only the items of the "
    "largest gradients were taken away with all taken away."
)


def explanation_section(results: Path) -> list[str]:
    """Markdown lines; none without rows."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((results / "explanations").glob("*.json"))]
    if not rows:
        return []
    metrics = {row["dataset"]: row["metrics"] for row in rows}

    def number(form: str) -> Callable[[dict[str, float], str], str]:
        return lambda found, name: form.format(found[name]) if name in found else "–"

    def interval(found: dict[str, float], name: str) -> str:
        if name not in found:
            return "–"
        return f"{found[name]:.3f} ({found[f'{name}/low']:.3f} … {found[f'{name}/high']:.3f})"

    shown: list[tuple[str, str, Callable[[dict[str, float], str], str]]] = [
        ("users", "users", number("{:.0f}")),
        ("deletion wins", "deletion_wins", interval),
        ("deletion wins, raw score", "deletion_wins_score", interval),
        ("deletion area", "deletion_area", interval),
        ("insertion area", "insertion_area", interval),
        ("fall without the first three", "necessity", interval),
        ("… three random ones", "random_necessity", interval),
        ("fall with the first three alone", "sufficiency", interval),
        ("… three random ones alone", "random_sufficiency", interval),
        ("claims", "claims", number("{:,.0f}")),
        ("unresolved claims", "unresolved_claims", number("{:.0f}")),
        ("contradictions", "contradictions", number("{:.0f}")),
        ("broken sentences", "broken", number("{:.0f}")),
        ("unique sentences, short style", "unique_sentence_ratio", number("{:.3f}")),
        ("features named, of all in evidence", "short/feature_coverage", number("{:.3f}")),
        ("planted cause is the first reason", "planted_top1", interval),
        ("long: 20 removals find the first item", "long/20/same_top", number("{:.3f}")),
        ("long: 20 removals find of the first three", "long/20/top3", number("{:.3f}")),
        ("long: 50 removals find the first item", "long/50/same_top", number("{:.3f}")),
        ("long: 50 removals find of the first three", "long/50/top3", number("{:.3f}")),
        ("ten recommendations, ms", "ten_plain_ms", number("{:.1f}")),
        ("ten explained, ms", "ten_explained_ms", number("{:.1f}")),
        ("ten explained in words, ms", "ten_in_words_ms", number("{:.1f}")),
        ("explained / plain", "explained_over_plain", number("{:.1f}")),
    ]
    lines = [[title, *(form(found, name) for found in metrics.values())] for title, name, form in shown]
    return [NOTES, "", *markdown_table(["", *metrics], lines), "", "```bash", *(row["command"] for row in rows), "```"]
