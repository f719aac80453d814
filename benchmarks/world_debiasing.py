"""Debiasing on a world whose truth is known: estimates of a loss, the learned γ, and rankings under random exposure.

    python benchmarks/world_debiasing.py llm4rec-popularity-prior --seed 0
    python benchmarks/world_debiasing.py loss-estimates --seed 0
    python benchmarks/world_debiasing.py summary

The seed makes another world and another model. Models learn from the confounded log alone (some also from the
propensities that the shop logged) and are judged on what users would take of a uniformly random item shown to them,
which the simulator plays; no model sees any of it. Rows go to `benchmarks/results/world/`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from llm4rec.benchmarks.debiasing_tables import world_section
from llm4rec.benchmarks.run import RESULTS
from llm4rec.configuration import Recipe
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.splits import EvaluationSet
from llm4rec.training.debiasing.item_popularity import ItemPopularity
from llm4rec.training.evaluation.off_policy import (
    doubly_robust_estimate,
    inverse_propensity_estimate,
    self_normalised_estimate,
)
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.evaluation.reward_model import cross_fitted_rewards
from llm4rec.training.load import load_recommender
from llm4rec.training.propensity.exposure_factorisation import ExposureFactorisation
from llm4rec.training.propensity.popularity_power_law import PopularityPowerLaw
from llm4rec.training.simulation.world import World, WorldConfig
from llm4rec.training.train import train
from llm4rec.training.trainer import ModelScorer

USERS, ITEMS = 1_500, 400
CONFOUNDING = 0.5
"""γ of the worlds in which models are trained."""
RANDOM_SLOTS, CASES = 1_000_000, 4_000
"""Slots with a uniformly random item that are played, and the most of those taken that are ranked."""

RECIPE = [
    "model.text_config.hidden_size=64",
    "model.text_config.intermediate_size=64",
    "model.id_dropout=0",
    "data.max_history=30",
    "training.epochs=20",
    "training.learning_rate=2.0e-3",
]
MODELS = {
    "llm4rec": [],
    "llm4rec-popularity-prior": ["debiasing.popularity=learned", "debiasing.popularity_strength=0"],
    "llm4rec-snips": ["debiasing.weighting=snips", "debiasing.propensity=given"],
    "llm4rec-doubly-robust": ["debiasing.weighting=doubly_robust", "debiasing.propensity=given", "debiasing.clip=3"],
    "llm4rec-snips-popularity": ["debiasing.weighting=snips", "debiasing.propensity=popularity"],
}
"""What each model's recipe adds; the last knows the interactions alone."""


def world_of(seed: int) -> World:
    """A world whose shop moves its fashions, so that popularity can be told from what items are like."""
    return World(
        WorldConfig(
            users=USERS,
            items=ITEMS,
            popularity_confounding=CONFOUNDING,
            popularity_periods=12,
            popularity_drift=0.5,
            new_items=0.0,
            seed=seed,
        )
    )


def random_exposure_cases(world: World, seed: int) -> EvaluationSet:
    """Items that users took when a random one was shown to them at the end of the log, one case per user and item."""
    shown = world.random_exposure(RANDOM_SLOTS, seed)
    pairs = np.unique(np.stack([shown.users[shown.taken], shown.items[shown.taken]], axis=1), axis=0)
    pairs = pairs[world.interactions.lengths[pairs[:, 0]] > 0]
    if len(pairs) > CASES:
        chosen = np.random.default_rng(seed).choice(len(pairs), CASES, replace=False)
        pairs = pairs[np.sort(chosen)]
    users = pairs[:, 0].astype(np.int64)
    return EvaluationSet(users, pairs[:, 1].astype(np.int32), world.interactions.take(users))


def model_row(name: str, seed: int) -> dict[str, Any]:
    """Train one model in one world and rank the catalog for what random exposure showed to be liked."""
    started = time.perf_counter()
    world = world_of(seed)
    cases = random_exposure_cases(world, seed)
    with tempfile.TemporaryDirectory() as folder:
        data = world.prepared(Path(folder) / "data", with_propensities=True)
        recipe = Recipe.load("quickstart", [*RECIPE, *MODELS[name], f"training.seed={seed}"])
        given = ItemPopularity.given(world.popularity, world.period_starts)
        report = train(data, recipe, Path(folder) / "model", popularity=given, progress=False)
        model, processor = load_recommender(Path(folder) / "model")
    evaluator = RankingEvaluator(cases, ks=(10,), item_counts=world.interactions.item_counts())
    result = evaluator.evaluate(ModelScorer(model, processor))
    metrics = {f"random_exposure/{metric}": value for metric, value in result.metrics.items()}
    metrics |= {f"validation/{metric}": value for metric, value in report.validation.items() if "ndcg" in metric}
    prior = model.model.popularity_prior
    if prior is not None:
        metrics["learned_strength"] = float(prior.strength.detach())
        metrics["strength_error"] = metrics["learned_strength"] / CONFOUNDING - 1
        served = evaluator.evaluate(ModelScorer(model, processor, popularity=float(prior.strength.detach())))
        metrics["random_exposure/with_popularity/filtered/ndcg@10"] = served.metrics["filtered/ndcg@10"]
    return _row(name, "random_exposure", seed, metrics, started, {"cases": len(cases), "recipe": recipe.to_dict()})


def loss_row(seed: int) -> dict[str, Any]:
    """How far estimates of a predictor's log loss are from the truth, as multiples of the plain mean's error.

    The predictor follows popularity: σ(logit of the mean rate + half a standard deviation of log popularity). Tastes
    are fixed and items may be taken again, so that relevance is one number per user and item.
    """
    started = time.perf_counter()
    world = World(
        WorldConfig(
            users=USERS,
            items=ITEMS,
            new_items=0.0,
            taste_drift=0.0,
            complement_strength=0.0,
            buys_again=True,
            seed=seed,
        )
    )
    log, relevance = world.exposures, world.relevance(np.arange(USERS))
    popularity = np.log(world.popularity[-1])
    tilt = 0.5 * (popularity - popularity.mean()) / popularity.std()
    rate = log.taken.mean()
    predicted = 1 / (1 + np.exp(-(np.log(rate / (1 - rate)) + tilt)))
    if_taken, if_not = -np.log(predicted), -np.log(1 - predicted)
    slots = np.bincount(log.users, minlength=USERS)
    truth = (slots @ (relevance * if_taken + (1 - relevance) * if_not)).mean() / slots.sum()
    losses = np.where(log.taken, if_taken[log.items], if_not[log.items])
    uniform = np.full(len(log), 1 / ITEMS)
    guesses = _imputed(world, if_taken, if_not)
    metrics = {"truth": truth, "naive/error": float(losses.mean() - truth)}
    for source, propensities in _propensities(world).items():
        found = {
            "ips": inverse_propensity_estimate(losses, propensities, uniform, resamples=2, seed=seed),
            "snips": self_normalised_estimate(losses, propensities, uniform, resamples=2, seed=seed),
            "dr": doubly_robust_estimate(losses, propensities, uniform, *guesses, resamples=2, seed=seed),
        }
        metrics |= {f"{source}/{name}/error": estimate.value - truth for name, estimate in found.items()}
    return _row("loss-estimates", "loss of a predictor over all pairs", seed, metrics, started, {"slots": len(log)})


def _imputed(world: World, if_taken: np.ndarray, if_not: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Guessed loss of every slot's item, and over all items: item and group say how likely it is to be taken."""
    log = world.exposures
    group = (world.users["group"].to_numpy() == "B").astype(np.float64)[log.users, None]
    item_rate, _ = cross_fitted_rewards(
        log.taken.astype(np.float64), log.items, np.full(ITEMS, 1 / ITEMS), context=group
    )
    loss = item_rate * if_taken[log.items] + (1 - item_rate) * if_not[log.items]
    rates = np.bincount(log.items, item_rate, ITEMS) / np.maximum(np.bincount(log.items, minlength=ITEMS), 1)
    return loss, np.full(len(log), (rates * if_taken + (1 - rates) * if_not).mean())


def _propensities(world: World) -> dict[str, np.ndarray]:
    """Of every slot: the true ones, those estimated from what was shown, and those from what was taken alone."""
    log = world.exposures
    order = np.argsort(log.users, kind="stable")
    counts = np.bincount(log.users, minlength=USERS)
    shown = Interactions(np.concatenate([[0], np.cumsum(counts)]), log.items[order], ITEMS)
    exposure = ExposureFactorisation(factors=2, iterations=200).fit(shown)
    every_item = np.arange(ITEMS)
    rates = np.stack([exposure.rates(np.full(ITEMS, user), every_item) for user in range(USERS)])
    estimated = rates / rates.sum(axis=1, keepdims=True)
    taken = PopularityPowerLaw().fit(world.interactions).predict(np.zeros(ITEMS, dtype=np.int64), every_item)
    return {
        "true": log.propensity,
        "estimated": estimated[log.users, log.items],
        "popularity": (taken / taken.sum())[log.items],
    }


def _row(
    model: str, protocol: str, seed: int, metrics: dict[str, float], started: float, config: dict[str, Any]
) -> dict[str, Any]:
    return report_row(
        "world",
        model,
        protocol,
        metrics,
        seed=seed,
        seconds=time.perf_counter() - started,
        command=f"python benchmarks/world_debiasing.py {model} --seed {seed}",
        config=config,
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*MODELS, "loss-estimates", "summary"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.what == "summary":
        print("\n".join(world_section(RESULTS)))
        return
    row = loss_row(args.seed) if args.what == "loss-estimates" else model_row(args.what, args.seed)
    path = RESULTS / "world" / f"{args.what}-seed{args.seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    shown = {name: round(value, 4) for name, value in row["metrics"].items() if "unfiltered" not in name}
    print(json.dumps(shown, indent=2), f"Wrote {path}", sep="\n")


if __name__ == "__main__":
    main()
