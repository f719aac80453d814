"""Run one benchmark: a recommender on a data set, one seed, one JSON row.

    python benchmarks/run.py amazon-beauty llm4rec --seed 0 --data $DATA --text-encoder $TEXT_ENCODER

The row goes to `benchmarks/results/<dataset>/<model>-seed<k>.json` (no seed for models that draw no random numbers).
The epoch is chosen on validation; the row holds test metrics, and validation metrics under `validation/`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from llm4rec.configuration.recipe import Recipe
from llm4rec.training.baselines.named import BASELINES, make_baseline
from llm4rec.training.build import split_of
from llm4rec.training.data.prepare import prepare
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.evaluate import load_recommender
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.train import train
from llm4rec.training.trainer import ModelScorer

RESULTS = Path(__file__).parent / "results"

DATASETS = {
    "amazon-beauty": {"source": "sequences", "folder": "amazon-beauty", "recipe": "amazon-beauty"},
    "ml-latest-small": {"source": "movielens", "folder": "ml-latest-small", "recipe": "movielens"},
    "ml-1m": {"source": "movielens", "folder": "ml-1m", "recipe": "movielens"},
}
EASE_L2 = {"ml-latest-small": 200.0}
"""Ridge of EASE per data set, where it is not the class's default: fewer users need less."""
VARIANTS: dict[str, list[str]] = {
    "llm4rec": [],
    "llm4rec-without-text": ["data.modalities=[category_paths_json, s3rec_attribute_ids]"],
    "llm4rec-without-categories": ["data.modalities=[title]"],
    "llm4rec-id-only": ["data.modalities=[]"],
}
"""Recipe overrides of each variant of the model."""


def run(dataset: str, model: str, seed: int, data_root: Path, text_encoder: str | None, overrides: list[str]) -> Path:
    """Prepare, fit, evaluate; write the row and return its path."""
    spec = DATASETS[dataset]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        prepare(spec["source"], data_root / spec["folder"], folder)
        data = PreparedData.load(folder)
        recipe = Recipe.load(spec["recipe"], [*VARIANTS.get(model, []), *overrides, f"training.seed={seed}"])
        if text_encoder:
            recipe.data.text_encoder = text_encoder
        split = split_of(data, recipe)
        evaluator = RankingEvaluator(split.test)
        started = time.perf_counter()
        config: dict[str, Any] = {}
        validation: dict[str, float] = {}
        if model in BASELINES:
            baseline = make_baseline(model)
            if model.startswith("ease"):
                baseline.l2 = EASE_L2.get(dataset, baseline.l2)
            config = dict(vars(baseline))
            scorer: Any = baseline.fit(split.train).score
        else:
            report = train(data, recipe, Path(scratch) / "model", progress=False)
            scorer = ModelScorer(*load_recommender(report.output))
            config = recipe.to_dict()
            if text_encoder:
                config["data"]["text_encoder"] = (
                    Path(text_encoder).name if Path(text_encoder).exists() else text_encoder
                )
            validation = {f"validation/{name}": value for name, value in report.validation.items()}
        result = evaluator.evaluate(scorer)
        seconds = time.perf_counter() - started
    command = f"python benchmarks/run.py {dataset} {model} --data $DATA"
    if model not in BASELINES:
        command += f" --seed {seed}" + (" --text-encoder $TEXT_ENCODER" if text_encoder else "")
        command += "".join(f" --set {override}" for override in overrides)
    row = report_row(
        dataset,
        model,
        split.name,
        result.metrics | validation,
        seed=None if model in BASELINES else seed,
        seconds=seconds,
        command=command,
        config=config,
    )
    name = model if model in BASELINES else f"{model}-seed{seed}"
    path = RESULTS / dataset / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("model", choices=[*BASELINES, *VARIANTS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the raw data sets")
    parser.add_argument("--text-encoder", help="sentence-transformers id or folder; default: the recipe's")
    parser.add_argument("--set", action="append", default=[], help="recipe override, section.field=value")
    args = parser.parse_args()
    path = run(args.dataset, args.model, args.seed, args.data, args.text_encoder, args.set)
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    print(path, {name: round(value, 4) for name, value in metrics.items() if name.endswith("@10")})


if __name__ == "__main__":
    main()
