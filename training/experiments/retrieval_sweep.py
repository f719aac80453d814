"""Retrieval sweep: how many retrieved items a model should listen to.

Run by `llm4rec experiment retrieval-sweep`; the memory is built once, the adapter fitted anew for every K.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...configuration.recipe import Recipe
from ...modeling_llm4rec.retrieval_adapter import RetrievalAdapter
from ..build import check_same_catalog, split_of
from ..data.prepared import PreparedData
from ..evaluation.report import git_commit, machine_description
from ..load import load_recommender, recipe_of
from ..retrieval.build_memory import build_memory
from ..retrieval.diagnostics import retrieval_metrics
from ..retrieval.fit import fit_adapter, retrieval_config
from ..retrieval.retrieved_cases import retrieve_cases
from .outputs import write_plot, write_table

METRIC = "filtered/ndcg@10"


def retrieval_sweep(
    model: str | Path,
    data: str | Path | PreparedData,
    output: str | Path,
    ks: Sequence[int] = (3, 5, 10, 20, 50),
    *,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and judge the retrieval adapter for every K, on held-out validation events.

    No test event is read: every validation event is judged by an adapter that was fitted on the other half of them.

    Args:
        model: folder or Hub id of a trained recommender, with or without a memory; it is not changed.
        data: the prepared data it was trained on.
        output: folder for `retrieval-sweep.csv`, `.json`, `.png` and `.svg`.
        ks: items that every source finds.
        overrides: of the recipe, such as `retrieval.time_decay=0.002`.
        say: told a line per K. progress: show progress bars.

    Returns:
        JSON-ready: `rows`, one per K, `best` (the row of the highest filtered NDCG@10), `without` (the model alone),
        and what identifies the run.

    Raises:
        ValueError: if no K is given or one is below 1, or the catalogs differ.
    """
    ks = sorted(set(ks))
    if not ks or ks[0] < 1:
        raise ValueError(f"retrieval-sweep got K = {list(ks)}, expected numbers of at least 1.")
    recommender, processor = load_recommender(model)
    data = data if isinstance(data, PreparedData) else PreparedData.load(data)
    check_same_catalog(processor, data)
    saved = recipe_of(model) or Recipe()
    recipe = Recipe.from_values(saved.to_dict(), list(overrides))
    split = split_of(data, recipe)
    torch.manual_seed(recipe.training.seed)
    recommender.add_retrieval(retrieval_config(replace(recipe.retrieval, neighbours=ks[-1])))
    settings = recommender.config.retrieval
    memory = build_memory(recommender, processor, split.train, recipe.retrieval.behaviour_entries, progress)
    recommender.attach_memory(memory)
    say("Memory: " + ", ".join(f"{count:,} of {name}" for name, count in memory.sizes().items()) + ".")
    everything = retrieve_cases(recommender, processor, split.validation, progress=progress)
    rows, without = [], {}
    for k in ks:
        cases = everything.shortened(k)
        torch.manual_seed(recipe.training.seed)
        recommender.model.retrieval_adapter = RetrievalAdapter(
            settings, recommender.config.text_config.hidden_size
        ).to(recommender.device)
        report = fit_adapter(recommender, cases, recipe.retrieval.fit_epochs, recipe.training.seed, progress)
        found = retrieval_metrics(cases.context, cases.targets, ks=(k,))
        row = {"k": k, "variant": report.variant or "off", "log_loss": min(report.log_loss.values())}
        row |= {name: value for name, value in report.metrics.items() if not name.startswith("off/")}
        row |= {name.replace(f"@{k}", "@K"): value for name, value in found.items()}
        without = {name.removeprefix("off/"): v for name, v in report.metrics.items() if name.startswith("off/")}
        rows.append(row)
        say(
            f"K = {k}: NDCG@10 {row[METRIC]:.4f} ({without[METRIC]:.4f} without), "
            f"precision {row['all/precision@K']:.4f}"
        )
    output = Path(output)
    result = {
        "experiment": "retrieval-sweep",
        "model": str(model),
        "dataset": data.schema.source or data.folder.name,
        "cases": len(everything),
        "seed": recipe.training.seed,
        "retrieval": recipe.to_dict()["retrieval"],
        "commit": git_commit(),
        "machine": machine_description(),
        "without": without,
        "rows": rows,
        "best": max(rows, key=lambda row: row[METRIC]),
    }
    write_table(output, "retrieval-sweep", result)
    _plot(output, rows, without, memory.sources)
    return result


def _plot(output: Path, rows: list[dict[str, Any]], without: dict[str, float], sources: Sequence[str]) -> None:
    """Left: accuracy by K beside the model alone. Right: how often the target was found, by source."""
    with write_plot(output, "retrieval-sweep", panels=2) as (accuracy, found):
        ks = [row["k"] for row in rows]
        for name, colour in (("filtered", "tab:blue"), ("unfiltered", "tab:orange")):
            metric = f"{name}/ndcg@10"
            accuracy.plot(ks, [row[metric] for row in rows], "o-", color=colour, label=f"{name}, with retrieval")
            accuracy.axhline(without[metric], linestyle="--", color=colour, label=f"{name}, without")
        accuracy.set_ylabel("NDCG@10, held-out validation events")
        for source in (*sources, "all"):
            found.plot(ks, [row[f"{source}/precision@K"] for row in rows], "o-", label=source)
        found.set_ylabel("precision@K")
        found.set_ylim(bottom=0)
        for axes in (accuracy, found):
            axes.set_xscale("log")
            axes.set_xticks(ks, [str(k) for k in ks])
            axes.minorticks_off()
            axes.set_xlabel("retrieved items per source, K")
            axes.legend()
