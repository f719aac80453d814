"""The recommenders of the benchmarks by name: each becomes a function that scores the catalog.

| names | what |
| --- | --- |
| `popularity itemknn ease transitions …` | classical, as `llm4rec evaluate` fits them |
| the same with `-tuned` | hyper-parameters chosen on validation |
| `text-neighbours` | nearest titles to the history, tuned likewise |
| `sasrec sasrec-sampled` | LLM4Rec that reads item ids alone, with the full softmax or 256 negatives |
| `llm4rec` and its ablations | the recipe of the data set |
| `llm4rec-retrieval` | the same model with a memory of train, the adapter fitted on validation |
| `llm4rec-diverse llm4rec-retrieval-diverse` | the same models, lists re-ordered for variety |
| `rectools-sasrec rectools-bert4rec` | another library, in an environment of its own |

`benchmarks/run.py` fits one and has it judged.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from llm4rec.benchmarks.data_sets import title_vectors, validation_evaluator
from llm4rec.benchmarks.diverse_lists import choose_strength
from llm4rec.benchmarks.peers.exchange import run_rectools
from llm4rec.benchmarks.tuned_baselines import GRIDS, tune
from llm4rec.configuration.recipe import Recipe, RetrievalRecipe
from llm4rec.configuration.typed_yaml import parse_yaml
from llm4rec.training.baselines.content_neighbours import ContentNeighbours
from llm4rec.training.baselines.named import BASELINES, make_baseline
from llm4rec.training.build import build_processor
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.data.splits import Split
from llm4rec.training.evaluate import load_recommender
from llm4rec.training.evaluation.ranking_evaluator import Scorer
from llm4rec.training.load import CHECKPOINTS, RECIPE_FILE
from llm4rec.training.retrieval.fit import add_retrieval
from llm4rec.training.run_folder import check_same_recipe, last_checkpoint
from llm4rec.training.train import REPORT_FILE, train, with_absolute_paths
from llm4rec.training.trainer import ModelScorer

RETRIEVAL = ("llm4rec-retrieval", "llm4rec-retrieval-diverse")
DIVERSE = ("llm4rec-diverse", "llm4rec-retrieval-diverse")
LLM4REC = (
    "llm4rec",
    *RETRIEVAL,
    "llm4rec-diverse",
    "llm4rec-without-text",
    "llm4rec-without-categories",
    "sasrec",
    "sasrec-sampled",
)
TUNED = tuple(f"{name}-tuned" for name in GRIDS)
TEXT_NEIGHBOURS = "text-neighbours"
PEERS = ("rectools-sasrec", "rectools-bert4rec")
CLASSICAL = (*BASELINES, *TUNED, TEXT_NEIGHBOURS)
"""Draw no random numbers."""

OVERRIDES: dict[tuple[str, str], list[str]] = {
    ("amazon-beauty", "sasrec"): ["model.text_config.hidden_dropout=0.5"],
}
"""(data set, model) → overrides of the data set's recipe, chosen on validation for that model."""
NEW_ITEM_BONUS = {"amazon-beauty": 1.0}
"""Data set → `model.new_item_bonus` under the protocol `cold_items`: chosen by `benchmarks/new_items.py` on
validation events of another draw of items than those of the rows (seed 7)."""
PEER_SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("amazon-beauty", "rectools-sasrec"): {"dropout_rate": 0.5, "n_blocks": 1},
    ("ml-1m", "rectools-sasrec"): {"session_max_len": 200},
    ("ml-latest-small", "rectools-sasrec"): {"session_max_len": 100},
}
"""(data set, model) → arguments of the peer's model, where they are not those of `peers/rectools_run.py`."""


@dataclass
class Fitted:
    """A recommender that is ready to be judged.

    Attributes:
        score: scores the catalog for histories.
        config: everything that was configured or chosen.
        validation: metrics of the validation cases.
        spent: seconds that an earlier run took to train it.
    """

    score: Scorer
    config: dict[str, Any]
    validation: dict[str, float] = field(default_factory=dict)
    spent: float = 0.0


def fit_classical(name: str, data: PreparedData, split: Split, text_encoder: str | None) -> Fitted:
    """A recommender that is fitted in one pass, with its validation metrics."""
    if name == TEXT_NEIGHBOURS:
        vectors = title_vectors(data, text_encoder)
        grid = {"centred": (False, True), "recency": (0.1, 0.3, 0.5, 0.7, 0.9)}
        baseline, record = tune(lambda **settings: ContentNeighbours(vectors, **settings), grid, split)
        record["text_encoder"] = encoder_name(text_encoder or "hashing")
    elif name in TUNED:
        baseline, record = tune(*GRIDS[name.removesuffix("-tuned")], split)
    else:
        baseline = make_baseline(name)
        record = dict(vars(baseline))
        baseline.fit(split.train)
    validation = validation_evaluator(split.validation).evaluate(baseline.score).metrics
    return Fitted(baseline.score, record, validation)


def recipe_of(name: str, dataset: str, recipe: str, data: PreparedData, overrides: list[str], seed: int) -> Recipe:
    """The recipe of the data set, with what makes the variant, what was tuned for it, and then what is asked for."""
    kinds = {column: modality.kind for column, modality in data.schema.items.modalities.items()}
    left_out = {"llm4rec-without-text": "text", "llm4rec-without-categories": "categorical"}
    variant = []
    if name.startswith("sasrec"):
        variant = ["data.modalities=[]", "data.ratings=false", "data.times=false"]
    elif name in left_out:
        kept = [column for column, kind in kinds.items() if kind != left_out[name]]
        variant = [f"data.modalities=[{', '.join(kept)}]"]
    if name == "sasrec-sampled":
        variant.append("model.num_negatives=256")
    return Recipe.load(recipe, [*OVERRIDES.get((dataset, name), []), *variant, *overrides, f"training.seed={seed}"])


def encode_texts(data: PreparedData, recipe: Recipe, split: Split) -> None:
    """Put the text vectors into the cache, so that a run is as long with the first seed as with the others."""
    build_processor(data, recipe, split).item_features(cache=data.folder / "text_vectors")


def fit_llm4rec(
    name: str, data: PreparedData, recipe: Recipe, split: Split, output: Path, least: float | None = None
) -> Fitted:
    """Train, or take the finished model of the same recipe in `output`, and load the best validation epoch.

    A run that was interrupted goes on from its last checkpoint in `output`.

    Args:
        least: validation NDCG@10 that diverse lists are to keep.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the same call goes on.
        ValueError: if `output` holds a model of another recipe.
    """
    spent, settings = 0.0, recipe.retrieval
    bonus = recipe.model.new_item_bonus
    # Neither changes what is trained.
    recipe = replace(recipe, retrieval=RetrievalRecipe(), model=replace(recipe.model, new_item_bonus=0.0))
    if (output / REPORT_FILE).is_file():
        check_same_recipe(Recipe.load(output / RECIPE_FILE), with_absolute_paths(recipe))
        report = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
        validation, spent = report["validation"], report["seconds"]
    else:
        resume = last_checkpoint(output / CHECKPOINTS) is not None
        report = train(data, recipe, output, resume=resume, overwrite=True, split=split, progress=False)
        if report.interrupted:
            raise KeyboardInterrupt(f"{output} holds what the same command goes on from.")
        validation, spent = report.validation, report.seconds_before
    model, processor = load_recommender(output)
    if torch.cuda.is_available():
        model = model.to("cuda")
    config = recipe.to_dict()
    config["data"]["text_encoder"] = encoder_name(recipe.data.text_encoder)
    config["model"]["new_item_bonus"] = model.config.new_item_bonus = bonus
    if name in RETRIEVAL:
        started = time.perf_counter()
        report = add_retrieval(model, processor, split, settings, recipe.training.seed)
        validation = report.metrics | {f"retrieval/{metric}": value for metric, value in report.diagnostics.items()}
        config["retrieval"] = asdict(settings) | {
            "variant": report.variant,
            "entries": report.entries,
            "fit_seconds": round(time.perf_counter() - started, 1),
        }
    scorer: Scorer = ModelScorer(model, processor)
    if name in DIVERSE:
        with torch.no_grad():
            vectors = model.model.item_table()
        scorer, config["diversity"] = choose_strength(scorer, vectors, split, least)
    return Fitted(scorer, config, validation, spent)


def fit_peer(
    name: str, dataset: str, split: Split, seed: int, python: str | None, overrides: list[str], folder: Path
) -> Fitted:
    """Train another library's model in its own environment.

    Args:
        python: interpreter of that environment.
        overrides: `argument=value` of the peer's model, `epochs` or `patience`.

    Raises:
        ValueError: without an interpreter, or on another split than leave-one-out, whose test histories are exactly
            the train and validation events that the peer is given.
    """
    if python is None:
        raise ValueError(f"{name} runs in an environment of its own: give its interpreter with --peer-python.")
    if split.name != "leave_one_out":
        raise ValueError(f"{name} on {split.name}: peers are given the leave_one_out split only.")
    settings = dict(PEER_SETTINGS.get((dataset, name), {}))
    for override in overrides:
        argument, _, value = override.partition("=")
        settings[argument] = parse_yaml(value, f"The value of {override!r}")
    score, report = run_rectools(python, name.removeprefix("rectools-"), seed, split, folder, settings)
    return Fitted(score, report, report.pop("validation"))


def encoder_name(text_encoder: str) -> str:
    """A Hub id as it is; of a folder its name, with its parent's where it is just `model`."""
    folder = Path(text_encoder)
    if not folder.exists():
        return text_encoder
    return folder.name if folder.name != "model" else "/".join(folder.absolute().parts[-2:])
