"""The section of the benchmarks' README about the bonus on new items, from the rows of `new_items.py`.

Called by `benchmarks/table.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

from llm4rec.benchmarks.markdown import markdown_table

COLUMNS = {
    "new/hr@10": "HR @10, new items",
    "new/ndcg@10": "NDCG @10, new items",
    "new/exposure@10": "share of lists",
    "known/ndcg@10": "NDCG @10, known items",
}


def new_item_section(results: Path, figures: str, dataset: str) -> list[str]:
    """Markdown lines: what every bonus brings to new items and costs the known ones; none without a row.

    Args:
        figures: folder of the figures, as links name it.
    """
    lines: list[str] = []
    for path in sorted(results.glob(f"{dataset}/new-items-sweep-seed*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        metrics, config = row["metrics"], row["config"]
        table = [
            [f"{bonus:g}", *(f"{metrics[f'validation/bonus={bonus:g}/{name}']:.4f}" for name in COLUMNS)]
            for bonus in config["bonuses"]
        ]
        lines += [
            f"Validation events, {config['withheld_items']:,} items withheld by seed {row['seed']}: "
            f"{config['cases']['new']:,} events of them, {config['cases']['known']:,} of others. Chosen: "
            f"{config['chosen']:g}, the best for new items that costs the known ones no more than "
            f"{config['tolerance']:.0%}.",
            "",
            *markdown_table(["bonus", *COLUMNS.values()], table),
            "",
            f"![What a bonus brings and costs]({figures}/{dataset}-new-items-sweep.svg)",
            "",
            "```bash",
            row["command"],
            "```",
            "",
        ]
    return lines
