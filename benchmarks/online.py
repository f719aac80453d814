"""Methods of online learning on the last fifth of MovieLens: one row per method and seed.

    python benchmarks/online.py ml-100k --seed 0 --data $DATA --work $WORK
    python benchmarks/online.py ml-1m --seed 0 --data $DATA --work $WORK

Rate and size of the steps were chosen on the last fifth of what comes before the stream, which the reported runs learn
as base (`docs/design.md`); `--before 0.2` measures there. Rows go to
`benchmarks/results/online/<dataset>-<method>-seed<k>.json`, the figure of a run with all methods to
`benchmarks/figures/`. ML-1M has times for a quarter of its events: its stream is the last fifth of every user, in
turns of a sitting each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from llm4rec.benchmarks.data_sets import prepared
from llm4rec.configuration import Recipe
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.experiments.online_learning import methods_named, online_experiment

HERE = Path(__file__).parent
RECIPES = {
    "ml-100k": ("movielens", ["model.id_dropout=0", "retrieval.enabled=true"], "time", 0.5),
    "ml-1m": (
        "movielens-1m",
        ["data.max_history=50", "training.max_validation_users=3000", "training.patience=4", "retrieval.enabled=true"],
        "user",
        0.05,
    ),
}
"""Recipe, what is changed in it, order of the stream, and the share of events that are asked for."""
SETTINGS: dict[str, list[str]] = {
    "ml-100k": [],
    "ml-1m": ["events_per_step=1024", "replay.replay=128", "online.replay=128"],
}
"""Of all methods, and of single ones, where they are not those of `METHODS`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=list(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the raw data sets")
    parser.add_argument("--work", type=Path, required=True, help="prepared data and base models are kept here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", action="append", help="repeatable; default: all but retrain")
    parser.add_argument("--before", type=float, help="choose settings; writes no rows")
    parser.add_argument("--learning", action="append", default=[], help="[method.]field=value")
    arguments = parser.parse_args()
    name = arguments.dataset
    recipe, overrides, order, asked = RECIPES[name]
    output = arguments.work / f"online-{name}-seed{arguments.seed}{'-before' if arguments.before else ''}"
    started = time.perf_counter()
    result = online_experiment(
        prepared(name, arguments.data, arguments.work),
        Recipe.load(recipe, [*overrides, f"training.seed={arguments.seed}"]),
        output,
        methods_named(arguments.method or [], [*SETTINGS[name], *arguments.learning]),
        order=order,
        asked=asked,
        before=arguments.before,
        say=lambda line: print(line, flush=True),
    )
    if arguments.before:
        return
    seconds = time.perf_counter() - started
    folder = HERE / "results" / "online"
    folder.mkdir(parents=True, exist_ok=True)
    for row in result["rows"]:
        row_method = row.pop("method")
        metrics = {key: value for key, value in row.items() if isinstance(value, float) and key not in vars_of(row)}
        stored = report_row(
            name,
            row_method,
            f"stream-by-{order}",
            metrics,
            seed=arguments.seed,
            seconds=seconds / len(result["rows"]),
            command=" ".join(
                [f"python benchmarks/online.py {name} --seed {arguments.seed}"]
                + [f"--method {method}" for method in arguments.method or []]
                + ["--data $DATA --work $WORK"]
            ),
            config={
                "learning": {key: value for key, value in row.items() if key not in metrics},
                "accuracy": result["accuracy"][row_method],
                **{key: result[key] for key in ("events", "held_out", "asked", "blocks", "share", "recipe")},
            },
        )
        path = folder / f"{name}-{row_method}-seed{arguments.seed}.json"
        path.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    if not arguments.method:
        shutil.copy(output / "online.svg", HERE / "figures" / f"{name}-online.svg")


def vars_of(row: dict) -> set[str]:
    """Names of the settings in a row: they are configured, not measured."""
    from llm4rec.training.online.learning_settings import LearningSettings

    return set(vars(LearningSettings())) & set(row)


if __name__ == "__main__":
    main()
