"""Popularity sweep: what accuracy costs popularity, along γ′, on one trained model.

Run by `llm4rec experiment popularity-sweep`. Nothing is trained: γ′ is a number of serving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...configuration.recipe import Recipe
from ...modeling_llm4rec import LLM4RecForCausalLM, PopularityConfig
from ..build import check_same_catalog, split_of
from ..data.prepared import PreparedData
from ..data.splits import Split
from ..debiasing.item_popularity import ItemPopularity
from ..evaluation.ranking_evaluator import RankingEvaluator
from ..evaluation.report import git_commit, machine_description
from ..load import load_recommender, recipe_of
from ..trainer import ModelScorer
from .outputs import write_plot, write_table

METRICS = ("ndcg", "debiased_ndcg", "hr", "popularity_lift", "popularity", "novelty", "coverage", "gini")


def popularity_sweep(
    model: str | Path,
    data: str | Path | PreparedData,
    output: str | Path,
    strengths: Sequence[float] | None = None,
    *,
    part: str = "validation",
    tolerance: float = 0.01,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Rank the catalog for every γ′.

    Args:
        model: folder or Hub id; it is not changed. One that was trained without a popularity prior gets one that is
            counted in the train events: then 0 leaves its scores as they are, and negative γ′ go against popularity.
        data: the prepared data it was trained on.
        output: folder for `popularity-sweep.csv`, `.json`, `.png` and `.svg`.
        strengths: of γ′; by default nine steps down from the γ of training (0 for a model without a prior).
        part: `validation`, to choose γ′ by, or `test`.
        tolerance: share of NDCG@10 that may be given up.

    Returns:
        JSON-ready: `rows`, one per γ′; `trained_strength` γ; `most_accurate` row; `least_popular`, the row of the
        lowest popularity lift within the tolerance; and what identifies the run.

    Raises:
        ValueError: if `part` is unknown or the catalogs differ.
    """
    if part not in {"validation", "test"}:
        raise ValueError(f"part is {part!r}, expected 'validation' or 'test'.")
    recommender, processor = load_recommender(model)
    data = data if isinstance(data, PreparedData) else PreparedData.load(data)
    check_same_catalog(processor, data)
    recipe = recipe_of(model) or Recipe()
    split = split_of(data, recipe)
    trained = _ensure_prior(recommender, split, recipe)
    if strengths is None:
        strengths = [round(trained - 0.1 * step, 3) for step in range(9)]
    evaluator = RankingEvaluator(
        getattr(split, part), ks=(10,), item_counts=split.train.item_counts(), progress=progress
    )
    rows = []
    for strength in strengths:
        result = evaluator.evaluate(ModelScorer(recommender, processor, popularity=strength))
        row: dict[str, Any] = {"strength": strength}
        row |= {
            f"{protocol}/{name}@10": result.metrics[f"{protocol}/{name}@10"]
            for protocol in ("filtered", "unfiltered")
            for name in METRICS
        }
        rows.append(row)
        accuracy, debiased = row["filtered/ndcg@10"], row["filtered/debiased_ndcg@10"]
        lift = row["filtered/popularity_lift@10"]
        say(f"γ′ {strength:+.2f}  NDCG@10 {accuracy:.4f}  debiased {debiased:.4f}  popularity lift {lift:+.3f}")
    best = max(rows, key=lambda row: row["filtered/ndcg@10"])
    allowed = [row for row in rows if row["filtered/ndcg@10"] >= (1 - tolerance) * best["filtered/ndcg@10"]]
    result = {
        "experiment": "popularity-sweep",
        "model": str(model),
        "dataset": data.schema.source or data.folder.name,
        "part": part,
        "seed": recipe.training.seed,
        "commit": git_commit(),
        "machine": machine_description(),
        "trained_strength": trained,
        "tolerance": tolerance,
        "rows": rows,
        "most_accurate": best,
        "least_popular": min(allowed, key=lambda row: row["filtered/popularity_lift@10"]),
    }
    output = Path(output)
    write_table(output, "popularity-sweep", result)
    _plot(output, rows, trained)
    return result


def _ensure_prior(recommender: LLM4RecForCausalLM, split: Split, recipe: Recipe) -> float:
    """γ of training; a model without a prior gets one of strength 0."""
    prior = recommender.model.popularity_prior
    if prior is not None:
        return round(float(prior.strength.detach()), 3)
    settings = recipe.debiasing
    counted = ItemPopularity.count(split.train, settings.popularity_periods, settings.popularity_half_life)
    recommender.add_popularity_prior(PopularityConfig(strength=0.0, learn_strength=False), **counted.tensors())
    return 0.0


def _plot(output: Path, rows: list[dict[str, Any]], trained: float) -> None:
    """Left: accuracy by γ′. Right: the frontier of accuracy and popularity."""
    with write_plot(output, "popularity-sweep", panels=2) as (curve, frontier):
        strengths = [row["strength"] for row in rows]
        for name, label in (("ndcg", "NDCG@10"), ("debiased_ndcg", "popularity-debiased NDCG@10")):
            curve.plot(strengths, [row[f"filtered/{name}@10"] for row in rows], "o-", label=label)
        curve.axvline(trained, linestyle=":", color="grey", label="γ of training")
        curve.set_xlabel("γ′, weight of log popularity in serving")
        curve.set_ylim(bottom=0)
        curve.legend()
        lifts = [row["filtered/popularity_lift@10"] for row in rows]
        frontier.plot(lifts, [row["filtered/ndcg@10"] for row in rows], "o-", color="tab:green")
        for row, lift in zip(rows, lifts, strict=True):
            frontier.annotate(f"{row['strength']:g}", (lift, row["filtered/ndcg@10"]), fontsize=7)
        frontier.set_xlabel("popularity lift of the lists")
        frontier.set_ylabel("NDCG@10")
