"""Markdown of benchmark tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev


def markdown_table(header: Sequence[str], lines: list[list[str]]) -> list[str]:
    """Markdown lines."""
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *lines)]


def spread(values: list[float]) -> str:
    """Mean, with ± standard deviation if there are several."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
