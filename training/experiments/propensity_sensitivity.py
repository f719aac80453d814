"""Propensity sensitivity: how much results depend on the propensity model and on the clip, which nobody can verify.

Run by `llm4rec experiment propensity-sensitivity`; one model is trained per combination.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...configuration.recipe import Recipe
from ..build import split_of
from ..data.prepared import PreparedData
from ..evaluation.ranking_evaluator import RankingEvaluator
from ..evaluation.report import git_commit, machine_description
from ..trainer import ModelScorer
from .outputs import write_plot, write_table
from .popularity_sweep import METRICS
from .trained_variants import MODELS, changed, read_report, trained_variant


def propensity_sensitivity(
    data: str | Path | PreparedData,
    recipe: Recipe,
    output: str | Path,
    propensities: Sequence[str] = ("popularity", "logistic", "factorisation"),
    clips: Sequence[float | None] = (3.0, 10.0, None),
    *,
    part: str = "validation",
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Train and judge a model for every propensity model and clip, and one without weights.

    Args:
        data: prepared data.
        recipe: of all models but for `debiasing.propensity` and `.clip`; where its `weighting` is none, `snips`.
        output: folder for `propensity-sensitivity.csv`, `.json`, `.png`, `.svg` and, in `models/`, the models; a sweep
            that was interrupted goes on from there.
        propensities: names as in recipes.
        clips: largest weights; `None`: no limit.
        part: `validation` or `test`.

    Returns:
        JSON-ready: `rows`, one per model, with `effective_share` and `largest_weight` of its weights, accuracy,
        popularity-debiased accuracy and popularity; and what identifies the run.

    Raises:
        ValueError: if `part` or a name is unknown, or a folder holds a model of another recipe.
    """
    if part not in {"validation", "test"}:
        raise ValueError(f"part is {part!r}, expected 'validation' or 'test'.")
    data = data if isinstance(data, PreparedData) else PreparedData.load(data)
    output, split = Path(output), split_of(data, recipe)
    weighting = recipe.debiasing.weighting if recipe.debiasing.weighting != "none" else "snips"
    evaluator = RankingEvaluator(
        getattr(split, part), ks=(10,), item_counts=split.train.item_counts(), progress=progress
    )
    variants: list[tuple[str, dict[str, Any]]] = [("without weights", {"debiasing.weighting": "none"})]
    for name in propensities:
        for clip in clips:
            label = f"{name}, clip {clip:g}" if clip is not None else f"{name}, no clip"
            fields = {"weighting": weighting, "propensity": name, "clip": clip}
            variants.append((label, {f"debiasing.{field}": value for field, value in fields.items()}))
    for _, overrides in variants:
        changed(recipe, overrides)  # a wrong one is refused before any model is trained
    rows = []
    for label, overrides in variants:
        folder = output / MODELS / label.replace(", ", "-").replace(" ", "-")
        model, processor = trained_variant(data, recipe, overrides, folder, say, progress)
        result = evaluator.evaluate(ModelScorer(model, processor))
        weights = read_report(folder).get("debiasing", {}).get("propensities", {})
        row: dict[str, Any] = {
            "variant": label,
            "propensity": overrides.get("debiasing.propensity", ""),
            "clip": overrides.get("debiasing.clip"),
            "effective_share": weights.get("effective_share", 1.0),
            "largest_weight": weights.get("largest_weight", 1.0),
        }
        row |= {f"filtered/{metric}@10": result.metrics[f"filtered/{metric}@10"] for metric in METRICS}
        rows.append(row)
        say(
            f"{label}: NDCG@10 {row['filtered/ndcg@10']:.4f}, debiased {row['filtered/debiased_ndcg@10']:.4f}, "
            f"effective share {row['effective_share']:.0%}"
        )
    result = {
        "experiment": "propensity-sensitivity",
        "dataset": data.schema.source or data.folder.name,
        "part": part,
        "weighting": weighting,
        "seed": recipe.training.seed,
        "commit": git_commit(),
        "machine": machine_description(),
        "recipe": recipe.to_dict(),
        "rows": rows,
    }
    write_table(output, "propensity-sensitivity", result)
    _plot(output, rows)
    return result


def _plot(output: Path, rows: list[dict[str, Any]]) -> None:
    """Left: accuracy of every variant. Right: how many events its weights leave."""
    with write_plot(output, "propensity-sensitivity", panels=2) as (accuracy, effective):
        places, labels = range(len(rows)), [row["variant"] for row in rows]
        for metric, label in (("ndcg", "NDCG@10"), ("debiased_ndcg", "popularity-debiased NDCG@10")):
            accuracy.plot([row[f"filtered/{metric}@10"] for row in rows], places, "o", label=label)
        accuracy.set_yticks(places, labels)
        accuracy.set_xlim(left=0)
        accuracy.legend()
        effective.barh(places, [row["effective_share"] for row in rows], color="tab:grey")
        effective.set_yticks(places, [""] * len(rows))
        effective.set_xlabel("effective share of the events")
        effective.set_xlim(0, 1)
        for axes in (accuracy, effective):
            axes.invert_yaxis()
