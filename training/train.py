"""One training run: prepared data and a recipe become a model folder.

The only place that knows all the parts; `llm4rec train` and the quickstart call :func:`train`.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configuration.recipe import Recipe
from ..modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM, LLM4RecProcessor
from .adapters import add_lora, merged, recommender_of
from .data.prepared import Interactions, PreparedData
from .data.sequences import training_windows
from .data.splits import EvaluationSet, Split, global_time, leave_one_out
from .trainer import LLM4RecTrainer, LLM4RecTrainingArguments

RECIPE_FILE = "recipe.yaml"
REPORT_FILE = "training.json"
CHECKPOINTS = "checkpoints"
MAX_RATING_LEVELS = 10


@dataclass
class TrainReport:
    """What a training run did.

    Attributes:
        output: the model folder, or the folder of checkpoints if the run was interrupted.
        interrupted: Ctrl-C ended the run; the same call with `resume=True` goes on.
        epochs, steps, seconds: how long it ran.
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


def split_of(data: PreparedData, recipe: Recipe) -> Split:
    """The recipe's split of a data set."""
    if recipe.data.split == "global_time":
        return global_time(data.interactions)
    return leave_one_out(data.interactions, recipe.data.min_events)


def build_processor(data: PreparedData, recipe: Recipe, split: Split) -> LLM4RecProcessor:
    """The processor of a data set: what of items and events the model will read.

    Raises:
        ValueError: if the recipe names a modality that the data lacks, or leaves items with nothing to read.
    """
    known = {name: modality.kind for name, modality in data.schema.items.modalities.items()}
    wanted = list(known) if recipe.data.modalities is None else recipe.data.modalities
    for name in wanted:
        if name not in known:
            raise ValueError(f"data.modalities names {name!r}; the prepared items have {', '.join(known) or 'none'}.")
    if not wanted and not recipe.data.item_ids:
        raise ValueError("data.modalities is empty and data.item_ids is false: items would have nothing to read.")
    tokenizer = text_vocab_size = None
    if recipe.model.backbone:
        from transformers import AutoConfig, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(recipe.model.backbone)
        text_vocab_size = AutoConfig.from_pretrained(recipe.model.backbone).get_text_config().vocab_size
    return LLM4RecProcessor.from_catalog(
        data.items,
        {name: known[name] for name in wanted},
        tokenizer=tokenizer,
        text_vocab_size=text_vocab_size,
        text_encoder=recipe.data.text_encoder,
        with_id=recipe.data.item_ids,
        max_history=recipe.data.max_history,
        rating_levels=_rating_levels(split.train) if recipe.data.ratings else (),
        num_time_gaps=32 if recipe.data.times and split.train.timestamps is not None else 0,
    )


def _rating_levels(train: Interactions) -> list[float]:
    """The ratings that occur, or ten quantiles of them; none if all are alike."""
    if train.ratings is None:
        return []
    known = np.unique(train.ratings[~np.isnan(train.ratings)].astype(np.float64).round(4))
    if len(known) > MAX_RATING_LEVELS:
        known = np.unique(np.quantile(known, np.linspace(0, 1, MAX_RATING_LEVELS)).round(4))
    return known.tolist() if len(known) > 1 else []


def build_model(
    processor: LLM4RecProcessor,
    recipe: Recipe,
    train: Interactions,
    cache: Path | None = None,
    progress: bool = False,
) -> LLM4RecForCausalLM:
    """The recommender, untrained: drawn anew, or on a pretrained backbone.

    Args:
        train: its items get an id embedding; other items of the catalog are known by content only, as new ones are.
        cache: folder for text vectors.
    """
    model_recipe = recipe.model
    fields = processor.model_config() | {
        "fusion_width": model_recipe.fusion_width,
        "fusion_heads": model_recipe.fusion_heads,
        "fusion_dropout": model_recipe.fusion_dropout,
        "id_dropout": model_recipe.id_dropout,
        "event_dropout": model_recipe.event_dropout,
        "num_negatives": model_recipe.num_negatives,
        "label_smoothing": model_recipe.label_smoothing,
    }
    if model_recipe.backbone:
        kwargs: dict[str, Any] = {"dtype": model_recipe.dtype}
        if model_recipe.attention:
            kwargs["attn_implementation"] = model_recipe.attention
        if model_recipe.lora.quantize_4bit:
            kwargs["quantization_config"] = _four_bit()
        model = LLM4RecForCausalLM.from_backbone(
            model_recipe.backbone, config=LLM4RecConfig(**fields), backbone_kwargs=kwargs
        )
    else:
        base = LLM4RecConfig().text_config.to_diff_dict()
        text_config = model_recipe.text_config
        if text_config.get("model_type", base["model_type"]) == base["model_type"]:
            text_config = base | text_config
        text_config = {"vocab_size": processor.text_vocab_size, "tie_word_embeddings": True} | text_config
        text_config["vocab_size"] = processor.text_vocab_size
        model = LLM4RecForCausalLM(LLM4RecConfig(text_config=text_config, **fields))
        if model_recipe.attention:
            model.set_attn_implementation(model_recipe.attention)
    features = processor.item_features(cache=cache, progress=progress)
    if recipe.data.item_ids:
        untrained = torch.from_numpy(train.item_counts() == 0)
        content = features["present"][:, 1:].any(-1)
        features["present"][untrained & content, 0] = False
    model.set_items(features)
    return model


def _four_bit() -> Any:
    if not torch.cuda.is_available():
        raise ValueError("model.lora.quantize_4bit needs a CUDA GPU; set it to false to train in full precision.")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "model.lora.quantize_4bit needs bitsandbytes: `pip install 'llm4rec[quantization]'`."
        ) from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )


def training_arguments(recipe: Recipe, checkpoints: Path, steps_per_epoch: int) -> LLM4RecTrainingArguments:
    """The recipe's training section as arguments of the trainer.

    Raises:
        ValueError: if `training.arguments` holds something that `trl.SFTConfig` does not know.
    """
    t = recipe.training
    bfloat16 = t.precision == "bfloat16" or (
        t.precision == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    )
    every = max(1, steps_per_epoch * t.evaluate_every)
    values = {
        "output_dir": str(checkpoints),
        "num_train_epochs": t.epochs,
        "per_device_train_batch_size": t.batch_size,
        "learning_rate": t.learning_rate,
        "weight_decay": t.weight_decay,
        "warmup_steps": t.warmup_steps,
        "lr_scheduler_type": t.lr_scheduler,
        "max_grad_norm": t.max_grad_norm,
        "patience": t.patience,
        "seed": t.seed,
        "bf16": bfloat16,
        _checkpointing_name(): t.gradient_checkpointing,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "report_to": t.report_to or "none",
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
        "logging_strategy": "steps",
        "logging_steps": every,
        # The best and the last. With 1, the Trainer ends by deleting all but the best, what Ctrl-C has just saved too.
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        **t.arguments,
    }
    try:
        return LLM4RecTrainingArguments(**values)
    except TypeError as error:
        raise ValueError(f"training.arguments: {error}. It takes the fields of trl.SFTConfig.") from error


def _checkpointing_name() -> str:
    # transformers renamed the argument in 5.2x and warns of the old name.
    names = LLM4RecTrainingArguments.__dataclass_fields__
    return "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"


def _validation_cases(cases: EvaluationSet, recipe: Recipe) -> EvaluationSet:
    limit = recipe.training.max_validation_users
    if limit is None or limit >= len(cases):
        return cases
    chosen = np.sort(np.random.default_rng(recipe.training.seed).choice(len(cases), limit, replace=False))
    return EvaluationSet(
        users=cases.users[chosen],
        targets=cases.targets[chosen],
        histories=cases.histories.take(chosen),
        target_timestamps=None if cases.target_timestamps is None else cases.target_timestamps[chosen],
    )


def train(
    data: PreparedData,
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
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
        say: told one line per step.
        progress: show progress bars.

    Returns:
        [`TrainReport`]; after Ctrl-C its `interrupted` is true and `output` holds what `resume=True` needs.

    Raises:
        FileExistsError: if `output` holds a model or checkpoints and neither `resume` nor `overwrite` is given.
        FileNotFoundError: if there is nothing to resume.
        ValueError: if recipe and data do not fit.
    """
    import shutil

    from transformers import set_seed

    output = Path(output)
    checkpoints = output / CHECKPOINTS
    last = _last_checkpoint(checkpoints)
    if resume and last is None:
        raise FileNotFoundError(f"{checkpoints} holds no checkpoint to resume from; start without --resume.")
    if not resume and output.exists() and any(output.iterdir()):
        if not overwrite:
            hint = "Pass --resume to go on, " if last else "Pass "
            raise FileExistsError(
                f"{output} exists already. {hint}--overwrite to replace it, or choose another folder."
            )
        if not (output / RECIPE_FILE).is_file():
            raise FileExistsError(
                f"{output} holds files, but no {RECIPE_FILE} as every model folder does: it is not replaced even with "
                "--overwrite. Choose another folder, or empty this one yourself."
            )
        shutil.rmtree(output)
    started = time.perf_counter()
    set_seed(recipe.training.seed)
    split = split_of(data, recipe)
    processor = build_processor(data, recipe, split)
    model = build_model(processor, recipe, split.train, data.folder / "text_vectors", progress)
    say(_describe(model, processor, split))
    if recipe.model.backbone and recipe.model.lora.rank:
        model = add_lora(model, recipe.model.lora)
    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    windows = training_windows(split.train, processor, recipe.data.windows)
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    steps = -(-len(windows) // (recipe.training.batch_size * workers))
    arguments = training_arguments(recipe, checkpoints, steps)
    say(f"Training {parameters:,} weights on {len(windows):,} histories, {steps:,} steps an epoch …")
    checkpoints.mkdir(parents=True, exist_ok=True)
    recipe.save(output / RECIPE_FILE)
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    trainer = LLM4RecTrainer(
        model, arguments, processor, windows, validation=_validation_cases(split.validation, recipe), say=say
    )
    trainer.train(resume_from_checkpoint=last if resume else None)
    seconds = time.perf_counter() - started
    best = _best_validation(trainer)
    report = TrainReport(
        output, trainer.interrupted, trainer.state.epoch or 0.0, trainer.state.global_step, seconds, best, parameters
    )
    if trainer.interrupted or not trainer.is_world_process_zero():
        return report
    _save(trainer, processor, recipe, output)
    (output / REPORT_FILE).write_text(json.dumps(_report_json(trainer, report, data), indent=2) + "\n")
    shutil.rmtree(checkpoints)
    return report


def _last_checkpoint(folder: Path) -> str | None:
    """The latest checkpoint that was written to its end; one that a power cut left half is passed over."""
    steps = [
        int(path.parent.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*/trainer_state.json")
    ]
    return str(folder / f"checkpoint-{max(steps)}") if steps else None


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
    recommender_of(model).config.save_pretrained(str(output))
    processor.save_pretrained(str(output))
