"""New-items sweep: how far new items may be pushed before the others lose by it.

Run by `llm4rec experiment new-items-sweep`. One model is trained, on a split that withholds items from it; the bonus
that new items get is a number of serving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...configuration.recipe import Recipe
from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ..data.prepared import PreparedData
from ..data.splits import EvaluationSet, cold_items, new_and_known
from ..evaluation.ranking_evaluator import RankingEvaluator
from ..evaluation.report import git_commit, machine_description
from ..trainer import ModelScorer
from .outputs import write_plot, write_table
from .trained_variants import MODELS, trained_variant

BONUSES = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def new_items_sweep(
    data: str | Path | PreparedData,
    recipe: Recipe,
    output: str | Path,
    bonuses: Sequence[float] = BONUSES,
    *,
    withheld: float = 0.05,
    part: str = "validation",
    tolerance: float = 0.05,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Withhold items from training, then rank the catalog for every bonus, for leave-one-out events of both.

    Args:
        data: the prepared data.
        recipe: of the model; it is trained without the events of the withheld items.
        output: folder for `new-items-sweep.csv`, `.json`, `.png`, `.svg` and the model, which is kept: the same call
            goes on where an earlier one was interrupted.
        bonuses: values of `new_item_bonus`; 0, by which the others are judged, is always among them.
        withheld: share of the items that are withheld, drawn by the recipe's seed.
        part: `validation`, to choose a bonus by, or `test`.
        tolerance: share of the known items' NDCG@10 without a bonus that may be given up.

    Returns:
        JSON-ready: `rows`, one per bonus, `chosen`, the row of the highest NDCG@10 of new items within the tolerance,
        and what identifies the run. `new/…` are of the events of withheld items, `known/…` of the others,
        `new/exposure@10` is the share of new items in the lists of the latter.

    Raises:
        ValueError: if `part` is unknown, bonuses are no finite numbers, the recipe leaves out item ids or all that
            describes items, or withholding items leaves too little.
    """
    if part not in {"validation", "test"}:
        raise ValueError(f"part is {part!r}, expected 'validation' or 'test'.")
    if not np.isfinite(bonuses).all():
        raise ValueError(f"new-items-sweep got the bonuses {list(bonuses)}, expected finite numbers such as 0 0.5 1.")
    data = data if isinstance(data, PreparedData) else PreparedData.load(data)
    described = data.schema.items.modalities if recipe.data.modalities is None else recipe.data.modalities
    if not recipe.data.item_ids or not described:
        raise ValueError(
            "new-items-sweep needs a recipe that reads item ids and at least one modality: without ids no item is "
            f"new, without a description no new item is known. Got data.item_ids={recipe.data.item_ids} and "
            f"modalities {list(described)}."
        )
    output = Path(output)
    split = cold_items(data.interactions, withheld, recipe.training.seed)
    # Another share is another model; a bonus that the recipe has already is not.
    folder = output / MODELS / f"withheld-{withheld:g}"
    model, processor = trained_variant(data, recipe, {"model.new_item_bonus": 0.0}, folder, say, progress, split)
    new, known = new_and_known(data.interactions, split.cold, part)
    rows = []
    for bonus in sorted({0.0, *bonuses}):
        model.config.new_item_bonus = float(bonus)
        row = {"bonus": float(bonus)} | _measured(model, processor, new, known, progress)
        rows.append(row)
        say(
            f"bonus {bonus:+.2f}  new items: NDCG@10 {row['new/ndcg@10']:.4f}, {row['new/exposure@10']:.1%} of lists  "
            f"others: NDCG@10 {row['known/ndcg@10']:.4f}"
        )
    without = next(row for row in rows if row["bonus"] == 0)
    allowed = [row for row in rows if row["known/ndcg@10"] >= (1 - tolerance) * without["known/ndcg@10"]]
    result = {
        "experiment": "new-items-sweep",
        "dataset": data.schema.source or data.folder.name,
        "part": part,
        "withheld_items": len(split.cold),
        "cases": {"new": len(new), "known": len(known)},
        "seed": recipe.training.seed,
        "recipe": recipe.to_dict(),
        "commit": git_commit(),
        "machine": machine_description(),
        "tolerance": tolerance,
        "rows": rows,
        "chosen": max(allowed, key=lambda row: row["new/ndcg@10"]),
    }
    write_table(output, "new-items-sweep", result)
    _plot(output, rows, result["chosen"])
    return result


def _measured(
    model: LLM4RecForCausalLM,
    processor: LLM4RecProcessor,
    new: EvaluationSet,
    known: EvaluationSet,
    progress: bool,
) -> dict[str, float]:
    scorer = ModelScorer(model, processor)
    out = {}
    for name, cases in (("new", new), ("known", known)):
        result = RankingEvaluator(cases, ks=(10,), progress=progress, keep_lists=True).evaluate(scorer)
        out |= {f"{name}/{metric}": result.metrics[f"filtered/{metric}"] for metric in ("ndcg@10", "hr@10")}
    lists = result.lists["filtered"]
    is_new = model.model.item_embedding.new_items()
    exposed = np.zeros_like(lists, dtype=bool) if is_new is None else is_new.cpu().numpy()[lists] & (lists >= 0)
    return out | {"new/exposure@10": float(exposed.mean())}


def _plot(output: Path, rows: list[dict[str, Any]], chosen: dict[str, Any]) -> None:
    """Left: accuracy by bonus. Right: the frontier of new and known items."""
    with write_plot(output, "new-items-sweep", panels=2) as (curve, frontier):
        bonuses = [row["bonus"] for row in rows]
        for name, label in (("known", "events of known items"), ("new", "events of new items")):
            curve.plot(bonuses, [row[f"{name}/ndcg@10"] for row in rows], "o-", label=label)
        curve.plot(bonuses, [row["new/exposure@10"] for row in rows], "--", color="grey", label="share of lists")
        curve.axvline(chosen["bonus"], linestyle=":", color="grey", label="chosen")
        curve.set_xlabel("bonus on the scores of new items")
        curve.set_ylabel("NDCG@10; share")
        curve.set_ylim(bottom=0)
        curve.legend()
        places = [(row["new/ndcg@10"], row["known/ndcg@10"]) for row in rows]
        frontier.plot(*zip(*places, strict=True), "o-", color="tab:green")
        for bonus, place in zip(bonuses, places, strict=True):
            frontier.annotate(f"{bonus:g}", place, fontsize=7)
        frontier.set_xlabel("NDCG@10, events of new items")
        frontier.set_ylabel("NDCG@10, events of known items")
