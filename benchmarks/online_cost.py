"""What it costs to absorb feedback: milliseconds an event, and memory during a burst.

    python benchmarks/online_cost.py --model $MODELS/ml-100k --data $WORK/ml-100k --work $WORK

Events of random users about random items are acknowledged one by one by the log, then a burst is appended and learned:
memory, micro-steps, guard, publishing. The row goes to `benchmarks/results/online/cost.json`.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.online.feedback_event import FeedbackEvent
from llm4rec.training.online.feedback_log import FeedbackLog
from llm4rec.training.online.learner import OnlineLearner


def measure(model: Path, data: PreparedData, work: Path, burst: int, seed: int) -> dict[str, float]:
    """Milliseconds and megabytes."""
    folder = work / "online-cost"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder / "model")
    rng = np.random.default_rng(seed)
    users, items = data.users["user_id"].to_list(), data.items["item_id"].to_list()

    def events(first: int, count: int) -> list[FeedbackEvent]:
        picks = zip(rng.integers(len(users), size=count), rng.integers(len(items), size=count), strict=True)
        return [
            FeedbackEvent(users[u], items[i], "buy", time=1e9 + first + n, event_id=str(first + n))
            for n, (u, i) in enumerate(picks)
        ]

    process = psutil.Process()
    metrics = {}
    with (
        FeedbackLog(folder / "feedback.db") as log,
        OnlineLearner(folder / "model", log, data=data, forgetting_limit=10.0) as learner,
    ):
        singles = events(0, 200)
        started = time.perf_counter()
        for event in singles:
            log.append(event)
        metrics["log_ms_per_event"] = 1000 * (time.perf_counter() - started) / len(singles)
        learner.learn()  # the first steps allocate what the others use again
        first = len(singles)
        for count, name in ((burst // 5, "fifth"), (burst, "burst")):
            log.append(events(first, count))
            first += count
            started = time.perf_counter()
            report = learner.learn()
            metrics[f"{name}_ms_per_event"] = 1000 * (time.perf_counter() - started) / report.events
            metrics[f"{name}_rss_mb"] = process.memory_info().rss / 1e6
    metrics["absorbed_ms_per_event"] = metrics["log_ms_per_event"] + metrics["burst_ms_per_event"]
    metrics["burst_growth_mb"] = metrics["burst_rss_mb"] - metrics["fifth_rss_mb"]
    metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="prepared data it was trained on")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--burst", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    metrics = measure(
        arguments.model, PreparedData.load(arguments.data), arguments.work, arguments.burst, arguments.seed
    )
    row = report_row(
        arguments.data.name,
        "online",
        "cost",
        metrics,
        seed=arguments.seed,
        seconds=time.perf_counter() - started,
        command=f"python benchmarks/online_cost.py --model $MODELS/{arguments.data.name} --data "
        f"$WORK/{arguments.data.name} --work $WORK",
        config={"burst": arguments.burst, "threads": torch.get_num_threads()},
    )
    path = Path(__file__).parent / "results" / "online" / "cost.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    print(metrics)


if __name__ == "__main__":
    main()
