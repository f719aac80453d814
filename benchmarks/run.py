"""Run one benchmark: a recommender on a data set, one seed, one JSON row.

    python benchmarks/run.py amazon-beauty llm4rec --seed 0 --data $DATA --text-encoder $TEXT_ENCODER

The row goes to `benchmarks/results/<dataset>/<model>-seed<k>.json` (no seed for models that draw no random numbers),
the rank of every test target to `benchmarks/ranks/`, for `benchmarks/compare.py`. Everything is chosen on validation;
the row holds test metrics, and validation metrics under `validation/`.

With `--protocol cold_items` the seed also draws the items that training never sees.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from llm4rec.benchmarks.data_sets import DATA_SETS, judge, prepared
from llm4rec.benchmarks.recommenders import (
    CLASSICAL,
    DIVERSE,
    LLM4REC,
    NEW_ITEM_BONUS,
    PEERS,
    RETRIEVAL,
    Fitted,
    encode_texts,
    fit_classical,
    fit_llm4rec,
    fit_peer,
    recipe_of,
)
from llm4rec.benchmarks.saved_ranks import RANKS, SavedRanks, run_name
from llm4rec.benchmarks.tuned_baselines import CRITERION
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.data.splits import Split, cold_items, global_time, leave_one_out
from llm4rec.training.evaluation.diversity import cosine_similarity, intra_list_diversity, jaccard_similarity
from llm4rec.training.evaluation.evaluation_result import PROTOCOLS, EvaluationResult
from llm4rec.training.evaluation.intervals import intervals
from llm4rec.training.evaluation.list_statistics import ListFacts
from llm4rec.training.evaluation.report import report_row

RESULTS = Path(__file__).parent / "results"
SPLITS = ("leave_one_out", "global_time", "cold_items")


@dataclass
class Run:
    """One run, as the command line asks for it.

    Attributes:
        dataset: of `DATA_SETS`.
        model: a recommender's name.
        seed: of the model and of the draw of cold items.
        protocol: of `SPLITS`.
        data: folder that holds the raw data sets.
        text_encoder: sentence-transformers id or folder; `None`: the recipe's.
        overrides: of the recipe, `section.field=value`; of a peer, `argument=value`.
        label: the model's name in tables, where overrides make it another.
        work: folder that keeps prepared data and text vectors between runs; `None`: nothing is kept.
        peer_python: interpreter of the environment of a peer.
        models: folder that keeps trained models between runs; `None`: none is kept.
        as_accurate_as: of diverse lists, the model whose validation NDCG@10, as its row says, is to be kept.
    """

    dataset: str
    model: str
    seed: int = 0
    protocol: str = "leave_one_out"
    data: Path | None = None
    text_encoder: str | None = None
    overrides: list[str] = field(default_factory=list)
    label: str | None = None
    work: Path | None = None
    peer_python: str | None = None
    models: Path | None = None
    as_accurate_as: str | None = None

    @property
    def name(self) -> str:
        """The model's name in tables."""
        return self.label or self.model + (f"-as-{self.as_accurate_as}" if self.as_accurate_as else "")

    @property
    def row_seed(self) -> int | None:
        """The seed, where it changes anything."""
        return None if self.model in CLASSICAL and self.protocol != "cold_items" else self.seed

    @property
    def model_folder(self) -> Path | None:
        """Where the trained model is kept; diverse lists and a memory belong to the plain model."""
        if self.models is None:
            return None
        name = "llm4rec" if self.model in (*DIVERSE, *RETRIEVAL) else self.name
        return self.models / self.dataset / run_name(name, self.protocol, self.seed)

    @property
    def command(self) -> str:
        """What to paste to make the row again."""
        parts = ["python benchmarks/run.py", self.dataset, self.model]
        parts += [f"--protocol {self.protocol}"] if self.protocol != "leave_one_out" else []
        parts += ["--data $DATA"] if DATA_SETS[self.dataset].source else []
        parts += [f"--seed {self.seed}"] if self.row_seed is not None else []
        parts += ["--text-encoder $TEXT_ENCODER"] if self.text_encoder else []
        parts += [f"--set {shlex.quote(override)}" for override in self.overrides]
        parts += ["--peer-python $PEERS/bin/python"] if self.model in PEERS else []
        parts += [f"--as-accurate-as {self.as_accurate_as}"] if self.as_accurate_as else []
        parts += [f"--as {self.label}"] if self.label else []
        return " ".join(parts)


def split_of(run: Run, data: PreparedData) -> Split:
    """The split that the run asks for."""
    if run.protocol == "cold_items":
        return cold_items(data.interactions, seed=run.seed)
    if run.protocol == "global_time":
        return global_time(data.interactions)
    return leave_one_out(data.interactions)


def check_overrides(overrides: list[str]) -> None:
    """Raise a ValueError for an override of what the protocol decides."""
    for name in (override.partition("=")[0].strip() for override in overrides):
        if name in ("data.split", "data.min_events", "training.seed"):
            raise ValueError(f"--set {name}: benchmarks decide it by --protocol and --seed, so that rows compare.")


def accuracy_to_keep(run: Run, results: Path) -> float | None:
    """Validation NDCG@10 of the model that diverse lists are to be as accurate as, averaged over its seeds.

    Raises:
        ValueError: if it has no row, or the run is not of diverse lists.
    """
    if run.as_accurate_as is None:
        return None
    if run.model not in DIVERSE:
        raise ValueError(f"--as-accurate-as is for {' and '.join(DIVERSE)} only, got {run.model}.")
    stem = run_name(run.as_accurate_as, run.protocol, None)
    paths = [*results.glob(f"{run.dataset}/{stem}.json"), *results.glob(f"{run.dataset}/{stem}-seed[0-9]*.json")]
    if not paths:
        raise ValueError(f"{results / run.dataset} holds no row of {run.as_accurate_as}; run it first.")
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return float(np.mean([row["metrics"][f"validation/{CRITERION}"] for row in rows]))


def measure(run: Run, data: PreparedData, scratch: Path, results: Path = RESULTS) -> tuple[dict[str, Any], SavedRanks]:
    """Fit and judge; returns the row and what is kept of every case."""
    split = split_of(run, data)
    dataset = DATA_SETS[run.dataset]
    evaluator = judge(data, dataset, split)
    recipe = None
    if run.model in LLM4REC:
        check_overrides(run.overrides)
        overrides = [f"data.text_encoder={run.text_encoder}"] if run.text_encoder else []
        overrides += ["data.split=global_time"] if run.protocol == "global_time" else []
        if run.protocol == "cold_items" and run.dataset in NEW_ITEM_BONUS:
            overrides.append(f"model.new_item_bonus={NEW_ITEM_BONUS[run.dataset]}")
        recipe = recipe_of(run.model, run.dataset, dataset.recipe, data, overrides + run.overrides, run.seed)
        encode_texts(data, recipe, split)
    started = time.perf_counter()
    fitted: Fitted
    if recipe is not None:
        least = accuracy_to_keep(run, results)
        fitted = fit_llm4rec(run.model, data, recipe, split, run.model_folder or scratch / "model", least)
    elif run.model in PEERS:
        folder = scratch / "peer"
        fitted = fit_peer(run.model, run.dataset, split, run.seed, run.peer_python, run.overrides, folder)
    else:
        fitted = fit_classical(run.model, data, split, run.text_encoder)
    result = evaluator.evaluate(fitted.score)
    seconds = time.perf_counter() - started + fitted.spent
    facts = {"cases": len(split.test), "items": data.interactions.num_items}
    if split.cold is not None:
        facts["cold_items"] = len(split.cold)
    row = report_row(
        run.dataset,
        run.name,
        split.name,
        result.metrics
        | interval_metrics(result)
        | group_metrics(result)
        | {f"validation/{name}": value for name, value in fitted.validation.items()},
        seed=run.row_seed,
        seconds=seconds,
        command=run.command,
        config=facts | fitted.config,
    )
    saved = SavedRanks(
        users=result.users,
        targets=split.test.targets,
        ranks=result.ranks,
        num_items=result.num_items,
        values=diversity_values(result, evaluator.facts),
    )
    return row, saved


def interval_metrics(result: EvaluationResult) -> dict[str, float]:
    """`<metric>/low` and `/high`: the ends of the 95 % bootstrap interval over users."""
    found = intervals(result, [f"{protocol}/ndcg@10" for protocol in PROTOCOLS])
    return {f"{name}/{end}": getattr(span, end) for name, span in found.items() for end in ("low", "high")}


def group_metrics(result: EvaluationResult) -> dict[str, float]:
    """Accuracy of each group of users, `filtered/ndcg@10/gender`-like, flat as a row needs it."""
    return {
        f"{metric}/{group}": value
        for group, metrics in result.groups.items()
        for metric, value in metrics.items()
        if metric.endswith("@10")
    }


def diversity_values(result: EvaluationResult, facts: ListFacts, k: int = 10, block: int = 2048) -> dict[str, Any]:
    """Intra-list diversity of every case, for paired comparisons; NaN where a list has none."""
    values = {}
    for protocol in PROTOCOLS:
        lists = result.lists[protocol][:, :k]
        for name, similarity, known in (
            ("category_diversity", jaccard_similarity, facts.categories),
            ("vector_diversity", cosine_similarity, facts.vectors),
        ):
            parts = [
                intra_list_diversity(similarity(lists[start : start + block], known))
                for start in range(0, len(lists), block)
            ]
            values[f"{protocol}/{name}@{k}"] = np.concatenate(parts)
    return values


def run_benchmark(run: Run, results: Path = RESULTS, ranks: Path = RANKS) -> Path:
    """Prepare, fit, judge; write the row and the ranks and return the row's path."""
    with tempfile.TemporaryDirectory() as scratch:
        work = run.work or Path(scratch) / "work"
        work.mkdir(parents=True, exist_ok=True)
        row, saved = measure(run, prepared(run.dataset, run.data, work), Path(scratch), results)
    name = run_name(run.name, run.protocol, run.row_seed)
    saved.save(ranks / run.dataset / f"{name}.npz")
    path = results / run.dataset / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=sorted(DATA_SETS))
    parser.add_argument("model", choices=[*CLASSICAL, *LLM4REC, *PEERS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--protocol", choices=SPLITS, default=SPLITS[0])
    parser.add_argument("--data", type=Path, help="folder that holds the raw data sets")
    parser.add_argument("--text-encoder", help="sentence-transformers id or folder; default: the recipe's")
    parser.add_argument(
        "--set", action="append", default=[], help="recipe override, section.field=value (peers: argument=value)"
    )
    parser.add_argument("--as", dest="label", help="name in tables, where --set makes it another model")
    parser.add_argument("--work", type=Path, help="keep prepared data and text vectors here between runs")
    parser.add_argument("--peer-python", help="interpreter of the environment of a peer (peers/rectools_run.py)")
    parser.add_argument(
        "--models",
        type=Path,
        help="keep trained models here: a finished one is not trained again, an interrupted one goes on",
    )
    parser.add_argument(
        "--as-accurate-as", metavar="MODEL", help="diverse lists: keep no more accuracy than this one's"
    )
    args = parser.parse_args()
    if args.text_encoder and Path(args.text_encoder).is_dir():
        args.text_encoder = str(Path(args.text_encoder).absolute())  # training names it so, and so does the cache
    run = Run(
        dataset=args.dataset,
        model=args.model,
        seed=args.seed,
        protocol=args.protocol,
        data=args.data,
        text_encoder=args.text_encoder,
        overrides=args.set,
        label=args.label,
        work=args.work,
        peer_python=args.peer_python,
        models=args.models,
        as_accurate_as=args.as_accurate_as,
    )
    path = run_benchmark(run)
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    print(path, {name: round(value, 4) for name, value in metrics.items() if name.endswith("@10")})


if __name__ == "__main__":
    main()
