"""Frontiers of accuracy against popularity and against parity between groups, on MovieLens-1M.

    python benchmarks/run.py ml-1m llm4rec --seed 2 --models $MODELS --data $DATA
    python benchmarks/frontiers.py popularity --data $DATA --model $MODELS/ml-1m/llm4rec-seed2
    python benchmarks/frontiers.py fairness --seed 0 --data $DATA --model $MODELS/ml-1m/llm4rec-seed2

Both are swept on validation, to choose by, and on test. For every λ training goes on from the model for three epochs
at a falling rate; the seed is of that. Rows go to `benchmarks/results/ml-1m/`, the figure of a whole frontier to
`benchmarks/figures/`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from llm4rec.benchmarks.data_sets import prepared
from llm4rec.benchmarks.run import RESULTS
from llm4rec.configuration import Recipe
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.experiments.fairness_sweep import fairness_sweep
from llm4rec.training.experiments.popularity_sweep import popularity_sweep

DATASET = "ml-1m"
FIGURES = Path(__file__).parent / "figures"
STRENGTHS = {"popularity": (0.1, 0.0, -0.1, -0.2, -0.3, -0.4), "fairness": (0.0, 0.1, 0.5, 1.0)}
FINE_TUNING = [
    "training.epochs=3",
    "training.average_epochs=0.4",
    "training.lr_scheduler=linear",
    "training.max_validation_users=1000",
    "training.patience=0",
    "debiasing.fairness_warmup=0.25",
]


def sweep(
    what: str, data: Any, model: Path, part: str, strengths: tuple[float, ...], folder: Path, seed: int
) -> dict[str, Any]:
    """One sweep on one part of the data."""
    if what == "popularity":
        return popularity_sweep(model, data, folder / part, strengths, part=part, progress=False)
    recipe = Recipe.load("movielens-1m", [f"model.start_from={model}", f"training.seed={seed}", *FINE_TUNING])
    return fairness_sweep(data, recipe, folder, strengths, attribute="gender", part=part, progress=False)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(STRENGTHS))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the raw data sets")
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained recommender")
    parser.add_argument("--seed", type=int, default=0, help="of the training that goes on, for the fairness frontier")
    parser.add_argument("--work", type=Path, help="keep prepared data here between runs")
    parser.add_argument("--keep", type=Path, help="keep the models of the fairness frontier here")
    parser.add_argument("--strength", type=float, action="append", help="repeatable; default: the whole frontier")
    args = parser.parse_args()
    started = time.perf_counter()
    strengths = tuple(args.strength or STRENGTHS[args.what])
    with tempfile.TemporaryDirectory() as scratch:
        data = prepared(DATASET, args.data, args.work or Path(scratch))
        folder = args.keep or Path(scratch) / "sweep"
        metrics: dict[str, float] = {}
        for part in ("validation", "test"):
            result = sweep(args.what, data, args.model, part, strengths, folder, args.seed)
            if result.get("start"):
                metrics |= {f"{part}/start/{name}": value for name, value in result["start"].items()}
            for row in result["rows"]:
                metrics |= {
                    f"{part}/strength={row['strength']:g}/{name}": value
                    for name, value in row.items()
                    if name != "strength"
                }
        name = f"{args.what}-sweep"
        drawn = (folder / part if args.what == "popularity" else folder) / f"{name}.svg"
        figure = drawn.read_text(encoding="utf-8")
    row = report_row(
        DATASET,
        name,
        "leave_one_out",
        metrics,
        seed=result["seed"],
        seconds=time.perf_counter() - started,
        command=f"python benchmarks/frontiers.py {args.what} --data $DATA --model $MODELS/{DATASET}/{args.model.name}"
        + (f" --seed {args.seed}" if args.what == "fairness" else "")
        + "".join(f" --strength {strength:g}" for strength in args.strength or ()),
        config={"strengths": strengths, "fine_tuning": FINE_TUNING if args.what == "fairness" else None},
    )
    if not args.strength:
        (FIGURES / f"{DATASET}-{name}.svg").write_text(figure, encoding="utf-8")
    path = RESULTS / DATASET / f"{name}-seed{result['seed']}.json"
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
