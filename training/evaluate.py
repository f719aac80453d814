"""Evaluation of a saved model on a prepared data set, beside classical recommenders.

`llm4rec evaluate` and the quickstart call :func:`evaluate_model`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..configuration.recipe import Recipe
from ..modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from .baselines.named import default_baselines, make_baseline
from .build import check_same_catalog, split_of
from .data.prepared import PreparedData
from .evaluation.comparison import compare
from .evaluation.evaluation_result import PROTOCOLS, EvaluationResult
from .evaluation.explanations.judge import judge_explanations
from .evaluation.intervals import intervals
from .evaluation.ranking_evaluator import RankingEvaluator
from .evaluation.report import git_commit, machine_description
from .load import load_recommender, recipe_of
from .online.published import load_version
from .retrieval.diagnostics import fallen, retrieval_metrics
from .retrieval.retrieved_cases import retrieve_cases
from .trainer import ModelScorer

CURRENT = "current"

HEADLINES = tuple(f"{protocol}/ndcg@10" for protocol in PROTOCOLS)
"""Metrics that are shown with an interval and compared."""


def evaluate_model(
    model: str | Path,
    data: str | Path | PreparedData,
    *,
    split: str | None = None,
    part: str = "test",
    baselines: bool | Sequence[str] = True,
    explanations: int = 0,
    batch_size: int = 512,
    revision: str | None = None,
    version: str | None = None,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Full-catalog ranking metrics @5, 10, 20, seen items filtered and unfiltered.

    Diversity is by the first categorical modality, gaps are between groups by the first sensitive attribute of users,
    where the data has them.

    Args:
        model: folder or Hub id.
        data: the prepared data set the model was trained on.
        split: `leave_one_out` or `global_time`; by default that of the model's `recipe.yaml`.
        part: `test` or `validation`.
        baselines: rank by these as well, fitted on the split's training part: names of
            :data:`~llm4rec.training.baselines.named.BASELINES`, or true for those that cost seconds.
        explanations: users whose explanations are judged as well, about half a second each; 0: none.
        revision: of a model on the Hub.
        version: that a model folder has learned online, or `current`; by default the model as it was trained.

    Returns:
        JSON-ready facts: `retrieval` (precision@K, hit share and decay of the memory's finds, `None` without a
        memory), `explanations` (metrics of `judge_explanations`, `None` if not asked for), `metrics` and `intervals`
        (95 %, bootstrap over users) per recommender, `comparisons` with the best baseline of each protocol, `groups`
        (accuracy of the model by group of users), `split part cases items seed commit machine date seconds …`.

    Raises:
        ValueError: if split, part or a baseline is unknown, or the catalogs differ.
    """
    if part not in {"test", "validation"}:
        raise ValueError(f"part is {part!r}, expected 'test' or 'validation'.")
    if split not in {None, "leave_one_out", "global_time"}:
        raise ValueError(f"split is {split!r}, expected 'leave_one_out' or 'global_time'.")
    fitted = {name: make_baseline(name) for name in (() if isinstance(baselines, bool) else baselines)}
    started = time.perf_counter()
    recommender, processor, version = _load(model, revision, version)
    data = data if isinstance(data, PreparedData) else PreparedData.load(data)
    check_same_catalog(processor, data)
    saved = recipe_of(model, revision)
    recipe = saved or Recipe()
    if split is not None:
        if saved is not None and split != recipe.data.split:
            raise ValueError(
                f"The model was trained on the {recipe.data.split} split, which may contain the events that {split} "
                f"tests on. Train with `--set data.split={split}`."
            )
        recipe.data.split = split
    parts = split_of(data, recipe)
    cases = getattr(parts, part)
    sensitive = next(iter(data.schema.users.sensitive), None)
    kinds = data.schema.items.modalities
    categories = next((name for name, modality in kinds.items() if modality.kind == "categorical"), None)
    evaluator = RankingEvaluator(
        cases,
        batch_size=batch_size,
        progress=progress,
        item_counts=parts.train.item_counts(),
        item_categories=None if categories is None else data.items[categories].to_list(),
        user_groups=None if sensitive is None else data.users[sensitive],
    )
    scorers: dict[str, Any] = {"llm4rec": ModelScorer(recommender, processor)}
    if recommender.memory is not None:
        scorers["llm4rec without retrieval"] = ModelScorer(recommender, processor, retrieval=False)
    if baselines is True:
        fitted = {name: make_baseline(name) for name in default_baselines(data.interactions.num_items)}
    scorers |= {name: baseline.fit(parts.train).score for name, baseline in fitted.items()}
    results = {}
    for name, scorer in scorers.items():
        ranking = time.perf_counter()
        results[name] = evaluator.evaluate(scorer)
        seconds = time.perf_counter() - ranking
        say(f"Ranked {data.interactions.num_items:,} items for {len(cases):,} users by {name} ({seconds:.1f} s)")
    diagnostics = None
    if recommender.memory is not None:
        found = retrieve_cases(recommender, processor, cases, progress=progress)
        diagnostics = retrieval_metrics(found.context, found.targets)
        for warning in fallen(diagnostics, recommender.memory.facts.get("diagnostics", {})):
            say(f"Warning: {warning}")
    judged = None
    if explanations:
        say(f"Judging the explanations of {explanations:,} users …")
        judged = judge_explanations(
            recommender, processor, cases.histories, users=explanations, seed=recipe.training.seed, progress=progress
        )
    return {
        "model": str(model),
        "revision": revision,
        "version": version,
        "dataset": data.schema.source or data.folder.name,
        "split": parts.name,
        "part": part,
        "protocol": "full catalog; stable time order; ties share their places",
        "cases": len(cases),
        "items": data.interactions.num_items,
        "user_groups": sensitive,
        "item_categories": categories,
        "seed": recipe.training.seed,
        "commit": git_commit(),
        "machine": machine_description(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seconds": round(time.perf_counter() - started, 1),
        "groups": results["llm4rec"].groups,
        "retrieval": diagnostics,
        "explanations": judged,
        "metrics": {name: result.metrics for name, result in results.items()},
        "intervals": {
            name: {metric: interval.to_dict() for metric, interval in intervals(result, HEADLINES).items()}
            for name, result in results.items()
        },
        "comparisons": against_best_baseline(results),
    }


def _load(
    model: str | Path, revision: str | None, version: str | None
) -> tuple[LLM4RecForCausalLM, LLM4RecProcessor, str | None]:
    if version is None:
        return *load_recommender(model, revision=revision), None
    if revision is not None or not Path(model).is_dir():
        raise ValueError(
            f"Versions are those of a model folder, but {model} is none. Name one, or leave the version out."
        )
    found = load_version(model, None if version == CURRENT else version)
    return found.model, found.processor, found.version


def against_best_baseline(results: dict[str, EvaluationResult]) -> list[dict[str, Any]]:
    """Paired difference of `llm4rec` to the baseline of the highest NDCG@10, per protocol; empty without baselines.

    Args:
        results: per recommender, all on the same cases.
    """
    rivals = [name for name in results if name != "llm4rec"]
    outcomes = []
    for metric in HEADLINES if rivals else ():
        best = max(rivals, key=lambda name: results[name].metrics[metric])
        outcomes.append({"baseline": best, **compare(results["llm4rec"], results[best], metric).to_dict()})
    return outcomes
