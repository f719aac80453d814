"""Kill a learner at random moments and look whether it lost or doubled anything.

    python benchmarks/online_kill_test.py --kills 50 --work $WORK

A process logs events of a built-in world and learns from them; it is killed with SIGKILL after a random time and
started again, over and over. Then it is left to finish, and one more model learns the same log undisturbed.

- `lost`: acknowledged events that are not in the log, or that no version has learned.
- `applied_twice`: events that the versions say they learned beyond those of the log, plus entries by which the counts
  of the memory of transitions differ from those of the undisturbed model.
- `unloadable`: restarts after which the current version was not one that had been published, or did not load.

The row goes to `benchmarks/results/online/kill-test.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from llm4rec.configuration import Recipe
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.load import load_recommender
from llm4rec.training.online.feedback_event import FeedbackEvent
from llm4rec.training.online.feedback_log import FeedbackLog
from llm4rec.training.online.learner import OnlineLearner
from llm4rec.training.online.learning_settings import LearningSettings
from llm4rec.training.online.published import load_version
from llm4rec.training.online.versions import BASE, VersionStore
from llm4rec.training.simulation.world import World, WorldConfig
from llm4rec.training.train import train

SETTINGS = LearningSettings(rank=2, learning_rate=1e-4, events_per_step=16, replay=4, ewc=1.0)
OPTIONS = {"publish_every": 32, "forgetting_limit": 10.0, "keep": 10**6, "say": lambda line: None}
MOST_SECONDS = 2.0
"""Longest life of a process after it has begun to learn."""


def child(work: Path, number: int) -> None:
    """Log events and learn from them, until the end of the world or of this process."""
    ids = load_recommender(work / "model")[1].catalog.item_ids
    acknowledged = open(work / "acknowledged.txt", "a", encoding="utf-8")  # noqa: SIM115
    with FeedbackLog(work / "feedback.db") as log, OnlineLearner(work / "model", log, **OPTIONS) as learner:
        (work / "ready").write_text("")
        draws = random.Random(number)
        for event in range(10**9):
            for taken in log.append(
                [
                    FeedbackEvent(
                        f"u{draws.randrange(40)}", draws.choice(ids), "buy", time=float(event), event_id=name
                    )
                    for name in (f"{number}-{event}-{part}" for part in range(8))
                ]
            ):
                acknowledged.write(f"{taken.event_id} {taken.sequence}\n")
            acknowledged.flush()
            os.fsync(acknowledged.fileno())
            learner.learn()


def run(work: Path, kills: int, seed: int) -> dict[str, float]:
    """Train, disturb, and count what is missing or doubled."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shop = World(WorldConfig(users=60, items=40, sessions=16)).prepared(work / "data")
    recipe = Recipe.load(
        "quickstart",
        ["data.max_history=8", "training.epochs=2", "retrieval.enabled=true", "retrieval.sources=[transitions]"],
    )
    train(shop, recipe, work / "model", progress=False, say=lambda line: None)
    with FeedbackLog(work / "feedback.db") as log, OnlineLearner(work / "model", log, SETTINGS, shop, **OPTIONS):
        pass
    shutil.copytree(work / "model", work / "undisturbed")
    store, draws, unloadable = VersionStore(work / "model"), random.Random(seed), 0
    for number in range(kills):
        (work / "ready").unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, __file__, "--child", str(number), "--work", str(work)])
        while not (work / "ready").exists():
            if process.poll() is not None:
                raise RuntimeError(f"The learner ended by itself with code {process.returncode}.")
            time.sleep(0.005)
        time.sleep(draws.random() * MOST_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            current = store.current()[0].name
            unloadable += current != BASE and current not in store.names()
            load_version(work / "model")
        except (ValueError, OSError) as error:
            unloadable += 1
            print(f"kill {number + 1}: {error}")
        print(f"kill {number + 1}/{kills}: version {store.current()[0].name}, event {store.current()[1]}", flush=True)
    with FeedbackLog(work / "feedback.db") as log:
        with OnlineLearner(work / "model", log, **OPTIONS) as learner:
            learner.learn()
            counts = learner.adaptation.recommender.memory.transitions.counts.clone()
        facts = log.verify()
        logged = {found.event.event_id for found in log.events()}
        with OnlineLearner(work / "undisturbed", log, **OPTIONS) as learner:
            learner.learn()
            expected = learner.adaptation.recommender.memory.transitions.counts
    promised = {line.split()[0] for line in (work / "acknowledged.txt").read_text().splitlines() if " " in line}
    chain, name = [], store.current()[0].name
    while name != BASE:
        chain.append(store.read(name))
        name = chain[-1].parent
    learned = sum(version.events for version in chain)
    return {
        "kills": kills,
        "acknowledged": len(promised),
        "events": facts.events,
        "versions": len(chain),
        "lost": len(promised - logged) + max(0, facts.events - learned),
        "applied_twice": max(0, learned - facts.events) + float((counts - expected).abs().sum()),
        "unloadable": unloadable,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; emptied first")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.work, arguments.child)
        return
    started = time.perf_counter()
    metrics = run(arguments.work, arguments.kills, arguments.seed)
    row = report_row(
        "world",
        "online",
        "kill-test",
        {name: float(value) for name, value in metrics.items()},
        seed=arguments.seed,
        seconds=time.perf_counter() - started,
        command=f"python benchmarks/online_kill_test.py --kills {arguments.kills} --work $WORK",
        config={**vars(SETTINGS), "publish_every": OPTIONS["publish_every"], "most_seconds": MOST_SECONDS},
    )
    path = Path(__file__).parent / "results" / "online" / "kill-test.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    print(metrics)
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
