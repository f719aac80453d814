"""Compare two recommenders user by user: difference, interval, p-value, as one JSON row.

    python benchmarks/compare.py amazon-beauty llm4rec sasrec

Reads the ranks that `benchmarks/run.py` kept. A user's metric is first averaged over a model's seeds, so that what is
compared is the recommender and not a lucky draw; users are then the sample of the bootstrap and of Fisher's
randomisation test (`training/evaluation/comparison.py`). The row goes to
`benchmarks/results/<dataset>/comparison-<A>-vs-<B>.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from llm4rec.benchmarks.run import RESULTS, SPLITS
from llm4rec.benchmarks.saved_ranks import RANKS, SavedRanks, runs_of
from llm4rec.training.evaluation.comparison import compare_values
from llm4rec.training.evaluation.evaluation_result import PROTOCOLS
from llm4rec.training.evaluation.report import report_row

RANKED = ("hr", "ndcg", "mrr")
SAVED = ("category_diversity", "vector_diversity")
METRICS = tuple(f"{protocol}/{name}@10" for protocol in PROTOCOLS for name in (*RANKED, *SAVED))
RESAMPLES = 10_000

Runs = dict[int | None, SavedRanks]


def user_means(runs: Runs, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Users, ascending, and each one's metric averaged over the runs that asked them; NaN where it is not defined.

    Shape:
        - returns: (users,) int, (users,) float64
    """
    users = np.concatenate([run.users for run in runs.values()])
    values = np.concatenate([run.metric(metric) for run in runs.values()])
    everyone, place = np.unique(users, return_inverse=True)
    known = ~np.isnan(values)
    count = np.bincount(place[known], minlength=len(everyone))
    total = np.bincount(place[known], values[known], minlength=len(everyone))
    return everyone, np.divide(total, count, out=np.full(len(everyone), np.nan), where=count > 0)


def check_comparable(a: Runs, b: Runs) -> None:
    """Raise a ValueError unless both recommenders answered the same questions.

    Where all seeds ask the same, a recommender may have any number of them; where the seed draws the questions (cold
    items), both need the same seeds.
    """
    asked = {}
    for runs in (a, b):
        for seed, run in runs.items():
            asked.setdefault((run.num_items, run.users.tobytes(), run.targets.tobytes()), set()).add(seed)
    if len(asked) > 1 and (set(a) != set(b) or any(_differ(a[seed], b[seed]) for seed in a)):
        raise ValueError(
            f"Seeds {_listed(a)} of the first and {_listed(b)} of the second did not rank the same targets of the "
            "same users. Run both on the same prepared data and, where the seed draws the cases, with the same seeds."
        )


def _differ(a: SavedRanks, b: SavedRanks) -> bool:
    same = np.array_equal(a.users, b.users) and np.array_equal(a.targets, b.targets) and a.num_items == b.num_items
    return not same


def _listed(runs: Runs) -> str:
    return ", ".join("none" if seed is None else str(seed) for seed in runs)


def comparison_metrics(a: Runs, b: Runs, resamples: int = RESAMPLES) -> dict[str, float]:
    """`<metric>/<fact>` for every metric that both have; facts: `a b difference low high p_value ratio`.

    Users for whom a metric is not defined (the diversity of a list of one) are left out of it. `ratio` is a over b;
    there is none where b is 0.
    """
    check_comparable(a, b)
    found = {}
    runs = (*a.values(), *b.values())
    for metric in (metric for metric in METRICS if all(run.has(metric) for run in runs)):
        _, first = user_means(a, metric)
        _, second = user_means(b, metric)
        both = ~np.isnan(first) & ~np.isnan(second)
        if not both.any():
            continue
        outcome = compare_values(first[both], second[both], metric, resamples=resamples)
        facts = {name: getattr(outcome, name) for name in ("a", "b", "difference", "low", "high", "p_value")}
        if outcome.b:
            facts["ratio"] = outcome.a / outcome.b
        found |= {f"{metric}/{name}": value for name, value in facts.items()}
    return found


def compare(
    dataset: str, a: str, b: str, protocol: str = SPLITS[0], results: Path = RESULTS, ranks: Path = RANKS
) -> Path:
    """Compare two models by their saved ranks; write the row and return its path."""
    started = time.perf_counter()
    runs: dict[str, Runs] = {name: runs_of(dataset, name, protocol, ranks) for name in (a, b)}
    metrics = comparison_metrics(runs[a], runs[b])
    config: dict[str, Any] = {
        "a": a,
        "b": b,
        "seeds": {name: list(found) for name, found in runs.items()},
        "users": len(user_means(runs[a], METRICS[0])[0]),
        "resamples": RESAMPLES,
        "confidence": 0.95,
        "interval": "percentile bootstrap over users of the difference, metrics averaged over seeds first",
        "test": "Fisher's randomisation test, two-sided",
    }
    command = f"python benchmarks/compare.py {dataset} {a} {b}"
    command += "" if protocol == SPLITS[0] else f" --protocol {protocol}"
    row = report_row(
        dataset,
        f"{a}-vs-{b}",
        protocol,
        metrics,
        seconds=time.perf_counter() - started,
        command=command,
        config=config,
    )
    infix = "" if protocol == SPLITS[0] else f"{protocol.replace('_', '-')}-"
    path = results / dataset / f"comparison-{infix}{a}-vs-{b}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("a", help="a model's name, as in the rows")
    parser.add_argument("b", help="what to compare it with")
    parser.add_argument("--protocol", choices=SPLITS, default=SPLITS[0])
    args = parser.parse_args()
    path = compare(args.dataset, args.a, args.b, args.protocol)
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    print(path)
    for metric in METRICS:
        facts = {name.rpartition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{metric}/")}
        if facts:
            print(f"{metric}: " + "  ".join(f"{name} {value:.4f}" for name, value in facts.items()))


if __name__ == "__main__":
    main()
