"""Fairness sweep: what accuracy parity between groups costs, along the adversary's weight λ.

Run by `llm4rec experiment fairness-sweep`; one model is trained per λ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...configuration.recipe import Recipe
from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ..build import split_of
from ..data.prepared import PreparedData
from ..debiasing.apply import sensitive_labels
from ..evaluation.leakage_probe import leakage
from ..evaluation.ranking_evaluator import RankingEvaluator
from ..evaluation.report import git_commit, machine_description
from ..load import load_recommender
from ..trainer import ModelScorer
from .outputs import write_plot, write_table
from .trained_variants import MODELS, trained_variant

METRICS = ("ndcg@10", "hr@10", "parity_gap@10", "ndcg_gap@10", "hr_gap@10")


def fairness_sweep(
    data: str | Path | PreparedData,
    recipe: Recipe,
    output: str | Path,
    strengths: Sequence[float] = (0.0, 0.1, 0.5, 1.0),
    *,
    attribute: str | None = None,
    categories: str | None = None,
    part: str = "validation",
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Train and judge a model for every λ.

    Args:
        data: prepared data whose users have a sensitive attribute.
        recipe: of all models but for `debiasing.fairness_strength`.
        output: folder for `fairness-sweep.csv`, `.json`, `.png`, `.svg` and, in `models/`, the models; a sweep that
            was interrupted goes on from there.
        strengths: of λ.
        attribute: user column whose groups are compared; by default the first that the adversary guesses.
        categories: item column of lists, by which it is judged whether groups are shown the same; by default the
            first categorical one.
        part: `validation`, to choose λ by, or `test`.

    Returns:
        JSON-ready: `rows`, one per λ, with accuracy, `parity_gap@10` (what groups are shown), `ndcg_gap@10` (how well
        they are served) and `probe/auc` (what their states give away); `start`, the same of the
        model that training goes on from, or `None`; and what identifies the run.

    Raises:
        ValueError: if an attribute or column is missing, or a folder holds a model of another recipe.
    """
    if part not in {"validation", "test"}:
        raise ValueError(f"part is {part!r}, expected 'validation' or 'test'.")
    data = data if isinstance(data, PreparedData) else PreparedData.load(data)
    output = Path(output)
    guessed = recipe.debiasing.fairness_attributes or data.schema.users.sensitive
    if attribute is None:
        if not guessed:
            raise ValueError(
                "fairness-sweep needs a sensitive attribute: name one under users.sensitive of schema.yaml, or in "
                "debiasing.fairness_attributes."
            )
        attribute = guessed[0]
    if attribute not in data.users.columns:
        raise ValueError(f"attribute {attribute!r} is no user column; there are {', '.join(data.users.columns)}.")
    if categories is None:
        kinds = data.schema.items.modalities
        categories = next((name for name, modality in kinds.items() if modality.kind == "categorical"), None)
    split = split_of(data, recipe)
    cases = getattr(split, part)
    labels, _ = sensitive_labels(data, attribute)
    evaluator = RankingEvaluator(
        cases,
        ks=(10,),
        user_groups=data.users[attribute],
        item_categories=None if categories is None else data.items[categories].to_list(),
        item_counts=split.train.item_counts(),
        progress=progress,
    )

    def judged(model: LLM4RecForCausalLM, processor: LLM4RecProcessor) -> dict[str, float]:
        scorer = ModelScorer(model, processor)
        result = evaluator.evaluate(scorer)
        probe = leakage(scorer.states(cases.histories).cpu().numpy(), labels[cases.users], recipe.training.seed)
        found = {f"filtered/{name}": result.metrics.get(f"filtered/{name}", float("nan")) for name in METRICS}
        if np.isnan(found["filtered/parity_gap@10"]):
            found.pop("filtered/parity_gap@10")
        return found | {f"probe/{name}": value for name, value in probe.to_dict().items()}

    start = judged(*load_recommender(recipe.model.start_from)) if recipe.model.start_from else None
    rows: list[dict[str, Any]] = []
    for strength in strengths:
        say(f"λ = {strength:g}")
        model, processor = trained_variant(
            data,
            recipe,
            {"debiasing.fairness_strength": strength},
            output / MODELS / f"fairness-{strength:g}",
            say,
            progress,
        )
        row = {"strength": strength} | judged(model, processor)
        rows.append(row)
        say(
            f"λ {strength:g}: NDCG@10 {row['filtered/ndcg@10']:.4f}, parity gap "
            f"{row.get('filtered/parity_gap@10', float('nan')):.4f}, probe AUC {row['probe/auc']:.3f}"
        )
    result = {
        "experiment": "fairness-sweep",
        "dataset": data.schema.source or data.folder.name,
        "attribute": attribute,
        "categories": categories,
        "part": part,
        "seed": recipe.training.seed,
        "commit": git_commit(),
        "machine": machine_description(),
        "recipe": recipe.to_dict(),
        "start": start,
        "rows": rows,
    }
    write_table(output, "fairness-sweep", result)
    _plot(output, rows, attribute)
    return result


def _plot(output: Path, rows: list[dict[str, Any]], attribute: str) -> None:
    """Left: parity gap against accuracy. Right: what a probe still reads off the states."""
    with write_plot(output, "fairness-sweep", panels=2) as (frontier, probe):
        accuracy = [row["filtered/ndcg@10"] for row in rows]
        if all("filtered/parity_gap@10" in row for row in rows):
            frontier.plot([row["filtered/parity_gap@10"] for row in rows], accuracy, "o-", color="tab:green")
            for row in rows:
                place = (row["filtered/parity_gap@10"], row["filtered/ndcg@10"])
                frontier.annotate(f"λ = {row['strength']:g}", place, fontsize=7)
        frontier.set_xlabel(f"parity gap of {attribute}@10")
        frontier.set_ylabel("NDCG@10")
        strengths = [row["strength"] for row in rows]
        for name, label in (("linear_auc", "logistic regression"), ("mlp_auc", "network")):
            probe.plot(strengths, [row[f"probe/{name}"] for row in rows], "o-", label=label)
        probe.axhline(0.5, linestyle=":", color="grey", label="guessing")
        probe.set_xlabel("λ of the adversary")
        probe.set_ylabel(f"AUC of {attribute} from user states")
        probe.legend()
