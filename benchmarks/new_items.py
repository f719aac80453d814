"""How far to push new items on Amazon Beauty: what `NEW_ITEM_BONUS` of `recommenders.py` was read off.

    python benchmarks/new_items.py --seed 7 --data $DATA --text-encoder $TEXT_ENCODER

The seed draws the items that are withheld: other ones than those of the rows, but for what two draws of a twentieth
have in common; and the events are of validation, where those of the rows are of test. The row goes to
`benchmarks/results/amazon-beauty/`, the figure to `benchmarks/figures/`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from llm4rec.benchmarks.data_sets import DATA_SETS, prepared
from llm4rec.benchmarks.figures import FIGURES
from llm4rec.benchmarks.run import RESULTS
from llm4rec.configuration import Recipe
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.experiments.new_items_sweep import new_items_sweep

DATASET = "amazon-beauty"
SWEEP = "new-items-sweep"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the raw data sets")
    parser.add_argument("--text-encoder", required=True, help="sentence-transformers id or folder")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--work", type=Path, help="keep prepared data here between runs")
    parser.add_argument("--keep", type=Path, help="keep the model here; one that is there is taken")
    args = parser.parse_args()
    recipe = Recipe.load(
        DATA_SETS[DATASET].recipe, [f"data.text_encoder={args.text_encoder}", f"training.seed={args.seed}"]
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        data = prepared(DATASET, args.data, args.work or Path(scratch))
        folder = args.keep or Path(scratch) / "sweep"
        result = new_items_sweep(data, recipe, folder, progress=False)
        figure = (folder / f"{SWEEP}.svg").read_text(encoding="utf-8")
    metrics = {
        f"validation/bonus={row['bonus']:g}/{name}": value
        for row in result["rows"]
        for name, value in row.items()
        if name != "bonus"
    }
    row = report_row(
        DATASET,
        SWEEP,
        "cold_items",
        metrics,
        seed=args.seed,
        seconds=time.perf_counter() - started,
        command=f"python benchmarks/new_items.py --seed {args.seed} --data $DATA --text-encoder $TEXT_ENCODER",
        config={
            "bonuses": [row["bonus"] for row in result["rows"]],
            "tolerance": result["tolerance"],
            "chosen": result["chosen"]["bonus"],
            "withheld_items": result["withheld_items"],
            "cases": result["cases"],
        },
    )
    (FIGURES / f"{DATASET}-{SWEEP}.svg").write_text(figure, encoding="utf-8")
    path = RESULTS / DATASET / f"{SWEEP}-seed{args.seed}.json"
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
