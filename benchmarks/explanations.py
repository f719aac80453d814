"""Explanations: are they true, readable and quick?

    python benchmarks/run.py amazon-beauty llm4rec --seed 0 --data $DATA --text-encoder $TEXT_ENCODER --models $MODELS
    python benchmarks/explanations.py amazon-beauty --data $DATA --model $MODELS/amazon-beauty/llm4rec-seed0
    python benchmarks/explanations.py ml-1m --data $DATA --model $MODELS/ml-1m/llm4rec-25-epochs-seed2
    python benchmarks/explanations.py world

Users are drawn at random among those whose history holds five distinct items; the history is what stands before the
test event. `world` trains a model on each of three worlds in which one attribute value decides what a user chooses,
and asks whether the first reason of an explanation is that value. Rows go to `benchmarks/results/explanations/`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llm4rec.benchmarks.data_sets import prepared
from llm4rec.benchmarks.run import RESULTS
from llm4rec.benchmarks.speed.serving import medians
from llm4rec.configuration import Recipe
from llm4rec.modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from llm4rec.modeling_llm4rec.explanation_text import ranked_support
from llm4rec.training.data.prepared import Interactions, PreparedData
from llm4rec.training.data.sequences import history_batch
from llm4rec.training.evaluation.explanations.faithfulness import LEAST_HISTORY, stability
from llm4rec.training.evaluation.explanations.judge import judge_explanations, users_to_judge
from llm4rec.training.evaluation.intervals import bootstrap_interval
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.load import load_recommender
from llm4rec.training.simulation.decisive_attributes import (
    DECISIVE_COLUMNS,
    DecisiveAttributeConfig,
    DecisiveAttributeWorld,
)
from llm4rec.training.train import train

USERS, HISTORY, K = 1000, 20, 10
LONG_USERS, LIMITS = 100, (10, 20, 50)
"""Users of long histories for whom all items are taken away, and how many of them the gradient may choose instead."""
WORLD_SEEDS, WORLD_USERS = (0, 1, 2), 500
WORLD_RECIPE = ["model.id_dropout=0", "training.patience=0"]


def drawn(log: Interactions, count: int, seed: int, least: int = LEAST_HISTORY) -> Interactions:
    """Histories before the test event of some users with at least `least` distinct items in them."""
    before = log.take(np.arange(log.num_users), np.maximum(log.lengths - 1, 0))
    return before.take(users_to_judge(before, count, seed, least))


def of_long_histories(
    model: LLM4RecForCausalLM, processor: LLM4RecProcessor, log: Interactions, seed: int
) -> dict[str, float]:
    """What is lost where the gradient chooses the items that are taken away, against taking all of them away."""
    metrics: dict[str, float] = {}
    chosen = drawn(log, LONG_USERS, seed, least=max(LIMITS) + 10)
    if not chosen.num_users:
        return metrics
    top, three = {limit: [] for limit in LIMITS}, {limit: [] for limit in LIMITS}
    for user in range(chosen.num_users):
        batch = history_batch(chosen.rows(user, user + 1), processor)
        items = model.recommend(**batch, k=1).items
        all_of_it = model.explain(**batch, items=items, max_removals=10**6)[0][0]
        right = [piece.item for piece in all_of_it.evidence if piece.kind == "history"][:3]
        for limit in LIMITS:
            few = model.explain(**batch, items=items, max_removals=limit)[0][0]
            named = [piece.item for piece in few.evidence if piece.kind == "history"]
            top[limit].append(named[0] == right[0])
            three[limit].append(len(set(named) & set(right)) / len(right))
    metrics["long/users"] = float(chosen.num_users)
    for limit in LIMITS:
        metrics |= {f"long/{limit}/same_top": np.mean(top[limit]), f"long/{limit}/top3": np.mean(three[limit])}
    return metrics


def of_speed(model: LLM4RecForCausalLM, processor: LLM4RecProcessor, rounds: int) -> dict[str, float]:
    """Milliseconds of ten recommendations for one user of 20 items, plain, explained, and explained in words."""
    ids = processor.catalog.item_ids
    histories = [[ids[item] for item in np.random.default_rng(0).choice(len(ids), HISTORY, replace=False)]]
    batch = processor(histories=histories, return_tensors="pt")

    def in_words() -> Any:
        return processor.render_explanations(model.recommend(**batch, k=K, explain=True), style="detailed")

    found = medians(
        {
            "ten_plain_ms": lambda: model.recommend(**batch, k=K),
            "ten_explained_ms": lambda: model.recommend(**batch, k=K, explain=True),
            "ten_in_words_ms": in_words,
        },
        rounds,
    )
    return found | {"explained_over_plain": found["ten_explained_ms"] / found["ten_plain_ms"]}


def judge(model: LLM4RecForCausalLM, processor: LLM4RecProcessor, log: Interactions, args: Any) -> dict[str, float]:
    """All that is measured on real data."""
    metrics = of_speed(model, processor, args.rounds)
    print({name: round(value, 2) for name, value in metrics.items()}, flush=True)
    some = drawn(log, args.users, args.seed)
    metrics |= judge_explanations(model, processor, some, users=args.users, seed=args.seed, progress=True)
    one = history_batch(some.rows(0, 64), processor)
    items = model.recommend(**one, k=1).items
    alone = []
    for user in range(64):
        batch = history_batch(some.rows(user, user + 1), processor)
        alone.append(model.explain(**batch, items=items[user : user + 1])[0][0])
    again = stability([user[0] for user in model.explain(**one, items=items)], alone)
    metrics |= {f"stability/{name}": value for name, value in again.items()}
    return metrics | of_long_histories(model, processor, log, args.seed)


def planted_top(model: LLM4RecForCausalLM, processor: LLM4RecProcessor, data: PreparedData) -> dict[str, np.ndarray]:
    """Of each user: whether the first reason is the value that decides, and whether the recommended item has it.

    A reason is what an explanation would name: an item of the history, an attribute, or a modality that no attribute
    speaks for.
    """
    log = data.interactions
    users = np.sort(np.random.default_rng(0).choice(log.num_users, WORLD_USERS, replace=False))
    histories = log.take(users, log.lengths[users] - 2)
    truth = data.users[list(DECISIVE_COLUMNS)][users].rows()
    hit, has = [], []
    for start in range(0, WORLD_USERS, 32):
        batch = history_batch(histories.rows(start, min(start + 32, WORLD_USERS)), processor)
        for place, user in enumerate(processor.decode_explanations(model.recommend(**batch, k=1, explain=True))):
            column, value = truth[start + place]
            support = ranked_support(user[0])
            hit.append(bool(support) and (support[0].get("attribute"), support[0].get("value")) == (column, value))
            row = processor.catalog.index(user[0]["item_id"])
            has.append(value in processor.catalog.columns[column][row])
    return {"planted_top1": np.array(hit), "has_decisive_value": np.array(has)}


def planted(args: Any) -> dict[str, float]:
    """Three worlds and models; a tenth of a minute to explain, two minutes to train each."""
    metrics: dict[str, float] = {}
    hits = []
    for seed in WORLD_SEEDS:
        with tempfile.TemporaryDirectory() as scratch:
            world = DecisiveAttributeWorld(DecisiveAttributeConfig(seed=seed))
            data = world.prepared(Path(scratch) / "data")
            recipe = Recipe.load("quickstart", [f"training.seed={seed}", *WORLD_RECIPE])
            train(data, recipe, Path(scratch) / "model", progress=False)
            model, processor = load_recommender(Path(scratch) / "model")
            found = planted_top(model, processor, data)
            metrics |= {f"seed={seed}/{name}": float(values.mean()) for name, values in found.items()}
            print({name: round(float(values.mean()), 3) for name, values in found.items()}, flush=True)
            hits.append(found["planted_top1"])
            if seed == WORLD_SEEDS[0]:
                metrics |= of_speed(model, processor, args.rounds)
                some = drawn(data.interactions, args.users, args.seed)
                metrics |= judge_explanations(model, processor, some, users=args.users, seed=args.seed)
    interval = bootstrap_interval(np.concatenate(hits).astype(float))
    metrics |= {"planted_top1": interval.mean, "planted_top1/low": interval.low, "planted_top1/high": interval.high}
    return metrics


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=["amazon-beauty", "ml-1m", "ml-latest-small", "world"])
    parser.add_argument("--data", type=Path, help="folder that holds the raw data sets")
    parser.add_argument("--model", type=Path, help="folder of a trained recommender")
    parser.add_argument("--work", type=Path, help="keep prepared data here between runs")
    parser.add_argument("--users", type=int, default=USERS, help="users whose explanations are judged")
    parser.add_argument("--rounds", type=int, default=50, help="of timing")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of users and of random controls")
    args = parser.parse_args()
    started = time.perf_counter()
    command = f"python benchmarks/explanations.py {args.dataset}"
    if args.dataset == "world":
        metrics = planted(args)
    else:
        if args.model is None:
            parser.error("give the folder of a trained recommender with --model")
        with tempfile.TemporaryDirectory() as scratch:
            data = prepared(args.dataset, args.data, args.work or Path(scratch))
            model, processor = load_recommender(args.model)
            metrics = judge(model, processor, data.interactions, args)
        command += f" --data $DATA --model $MODELS/{args.dataset}/{args.model.name}"
    row = report_row(
        args.dataset,
        "explanations",
        "leave_one_out",
        {name: float(value) for name, value in metrics.items()},
        seed=args.seed,
        seconds=time.perf_counter() - started,
        command=command,
        config={"users": args.users, "rounds": args.rounds, "k": K, "threads": torch.get_num_threads()},
    )
    path = RESULTS / "explanations" / f"{args.dataset}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
