"""One training run: prepared data and a recipe become a model folder.

The only place that knows all the parts; `llm4rec train` and the quickstart call :func:`train`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configuration.recipe import Recipe
from ..modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ..modeling_llm4rec.text_encoding import HASHING
from .adapters import add_lora, merged, recommender_of
from .arguments import steps_per_epoch_of, training_arguments
from .build import build_model, build_processor, split_of
from .data.prepared import PreparedData
from .data.sequences import training_windows
from .data.splits import Split
from .debiasing.apply import apply_debiasing
from .debiasing.item_popularity import ItemPopularity
from .debiasing.warm_up import AdversaryWarmUp
from .load import CHECKPOINTS, RECIPE_FILE, short_reason
from .model_card import write_model_card
from .retrieval.fit import add_retrieval, retrieval_config
from .run_folder import check_output, check_same_recipe, empty, last_checkpoint
from .trainer import LLM4RecTrainer

REPORT_FILE = "training.json"


@dataclass
class TrainReport:
    """What a training run did.

    Attributes:
        output: the model folder, or the folder of checkpoints if the run was interrupted.
        interrupted: Ctrl-C ended the run; the same call with `resume=True` goes on.
        epochs, steps, seconds: how long it ran, before it was resumed too.
        seconds_before: of the seconds, those before it was resumed.
        validation: metrics of the selected checkpoint on validation.
        parameters: how many weights were trained.
    """

    output: Path
    interrupted: bool
    epochs: float
    steps: int
    seconds: float
    validation: dict[str, float]
    parameters: int
    seconds_before: float = 0.0


def train(
    data: PreparedData,
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    split: Split | None = None,
    popularity: ItemPopularity | None = None,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> TrainReport:
    """Train a recommender and save it.

    Args:
        data: the prepared data set.
        recipe: what to train and how.
        output: the model folder. While training it holds `checkpoints/`, removed at the end.
        resume: go on from the last checkpoint in `output`.
        overwrite: replace an existing model.
        split: learn from this split of the data in place of the recipe's.
        popularity: what the popularity prior reads (`recipe.debiasing`), where it is known better than by counting.
        say: told one line per step.
        progress: show progress bars.

    Returns:
        [`TrainReport`]; after Ctrl-C its `interrupted` is true and `output` holds what `resume=True` needs.

    Raises:
        FileExistsError: if `output` holds a model or checkpoints and neither `resume` nor `overwrite` is given, or
            anything else than a model.
        FileNotFoundError: if there is nothing to resume, or a pretrained model cannot be found.
        ValueError: if recipe and data do not fit.
    """
    from transformers import set_seed

    output = Path(output)
    checkpoints = output / CHECKPOINTS
    is_first_process = int(os.environ.get("RANK", "0")) == 0
    recipe = with_absolute_paths(recipe)
    last = last_checkpoint(checkpoints)
    if resume and last is None:
        raise FileNotFoundError(f"{checkpoints} holds no checkpoint to resume from; start without --resume.")
    if resume and (output / RECIPE_FILE).is_file():
        check_same_recipe(Recipe.load(output / RECIPE_FILE), recipe)
    if not resume and is_first_process:
        check_output(output, data.folder, last is not None, overwrite)
    started = time.perf_counter()
    set_seed(recipe.training.seed)
    split = split if split is not None else split_of(data, recipe)
    processor = build_processor(data, recipe, split)
    model = build_model(processor, recipe, split.train, data.folder / "text_vectors", progress)
    say(_describe(model, processor, split))
    debiasing = apply_debiasing(model, data, split, recipe.debiasing, popularity, say)
    if recipe.retrieval.enabled:
        model.add_retrieval(retrieval_config(recipe.retrieval))  # before LoRA, which decides what is saved beside it
        model.model.retrieval_adapter.requires_grad_(False)
    if recipe.model.backbone and recipe.model.lora.rank:
        model = add_lora(model, recipe.model.lora)
    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    windows = training_windows(
        split.train, processor, recipe.data.windows, debiasing.event_columns, debiasing.user_columns
    )
    steps = steps_per_epoch_of(len(windows), recipe)
    arguments = training_arguments(recipe, checkpoints, steps)
    say(f"Training {parameters:,} weights on {len(windows):,} histories, {steps:,} steps an epoch …")
    is_new = not output.exists()
    if not resume and is_first_process:
        empty(output)  # not before all that may be wrong with the recipe was tried
    if is_first_process:
        checkpoints.mkdir(parents=True, exist_ok=True)
        recipe.save(output / RECIPE_FILE)
    watched = split.validation.sample(recipe.training.max_validation_users, recipe.training.seed)
    if debiasing.validation_weights is not None:
        debiasing.validation_weights = debiasing.validation_weights[np.isin(split.validation.users, watched.users)]
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    try:
        trainer = LLM4RecTrainer(
            model,
            arguments,
            processor,
            windows,
            validation=watched,
            validation_weights=debiasing.validation_weights,
            say=say,
            callbacks=[AdversaryWarmUp(recipe.debiasing.fairness_strength, recipe.debiasing.fairness_warmup * steps)],
        )
        trainer.train(resume_from_checkpoint=last if resume else None)
    except BaseException as error:
        if is_first_process and last_checkpoint(checkpoints) is None:
            empty(output)
            if is_new:
                output.rmdir()
        if isinstance(error, torch.OutOfMemoryError):
            raise ValueError(
                f"The GPU's memory is used up ({short_reason(error).rstrip('.')}). Lower training.batch_size or "
                "data.max_history, set training.gradient_checkpointing=true, or sample negatives "
                "(model.num_negatives=1024)."
            ) from error
        raise
    best = _best_validation(trainer)
    if not trainer.interrupted:
        recommender_of(trainer.model).remove_adversary()
    found = None
    if recipe.retrieval.enabled and not trainer.interrupted and trainer.is_world_process_zero():
        found = add_retrieval(
            recommender_of(trainer.model), processor, split, recipe.retrieval, recipe.training.seed, say, progress
        )
    seconds = trainer.seconds_before + time.perf_counter() - started
    report = TrainReport(
        output,
        trainer.interrupted,
        trainer.state.epoch or 0.0,
        trainer.state.global_step,
        seconds,
        best,
        parameters,
        trainer.seconds_before,
    )
    if trainer.interrupted or not trainer.is_world_process_zero():
        return report
    _save(trainer, processor, recipe, output)
    facts = _report_json(trainer, report, data) | ({} if found is None else {"retrieval": asdict(found)})
    facts |= {"debiasing": debiasing.report} if debiasing.report else {}
    (output / REPORT_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    write_model_card(output, recommender_of(trainer.model), processor, recipe, facts)
    shutil.rmtree(checkpoints)
    return report


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with models on disk named from the root: the trained folder must load from anywhere."""
    recipe = deepcopy(recipe)
    if recipe.model.start_from and Path(recipe.model.start_from).is_dir():
        recipe.model.start_from = str(Path(recipe.model.start_from).absolute())
    if recipe.model.backbone and Path(recipe.model.backbone).is_dir():
        recipe.model.backbone = str(Path(recipe.model.backbone).absolute())
    if recipe.data.text_encoder != HASHING and Path(recipe.data.text_encoder).is_dir():
        recipe.data.text_encoder = str(Path(recipe.data.text_encoder).absolute())
    return recipe


def _describe(model: LLM4RecForCausalLM, processor: LLM4RecProcessor, split: Split) -> str:
    modalities = ", ".join(f"{m.name} ({m.kind})" if m.name != m.kind else m.name for m in model.config.modalities)
    encoder = processor.items["text_encoder"]
    stand_in = (
        "; text by hashed words and SVD, the built-in stand-in for a sentence encoder (data.text_encoder)"
        if encoder == "hashing"
        else f"; text by {encoder}"
        if encoder
        else ""
    )
    return f"Items: {model.num_items:,} with {modalities}{stand_in}. Split: {split.name}."


def _best_validation(trainer: LLM4RecTrainer) -> dict[str, float]:
    entries = [e for e in trainer.state.log_history if trainer.args.metric_for_best_model in e]
    if not entries:
        return {}
    best = entries[-1]
    if trainer.args.load_best_model_at_end:
        best = max(entries, key=lambda entry: entry[trainer.args.metric_for_best_model])
    return {"epoch": best["epoch"]} | {
        name.removeprefix("eval_"): value for name, value in best.items() if name.startswith("eval_")
    }


def _report_json(trainer: LLM4RecTrainer, report: TrainReport, data: PreparedData) -> dict[str, Any]:
    return {
        "data": data.schema.source,
        "epochs": report.epochs,
        "steps": report.steps,
        "seconds": round(report.seconds, 1),
        "trained_parameters": report.parameters,
        "validation": report.validation,
        "log": trainer.state.log_history,
    }


def _save(trainer: LLM4RecTrainer, processor: LLM4RecProcessor, recipe: Recipe, output: Path) -> None:
    model = trainer.model
    if recipe.model.lora.merge:
        model = merged(model)
    model.save_pretrained(str(output))
    recommender = recommender_of(model)
    recommender.save_code(output)
    recommender.config.save_pretrained(str(output))
    if recommender.memory is not None:
        recommender.memory.save(output)  # peft saves its adapter alone, hence all this
    processor.save_pretrained(str(output))
