"""One training run: prepared data and a recipe become a model folder.

The only place that knows all the parts; `llm4rec train` and the quickstart call :func:`train`.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configuration.recipe import Recipe
from ..modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM, LLM4RecProcessor
from ..modeling_llm4rec.text_encoding import HASHING
from .adapters import add_lora, merged, recommender_of
from .data.prepared import Interactions, PreparedData, check_writable
from .data.sequences import training_windows
from .data.splits import EvaluationSet, Split, global_time, leave_one_out
from .load import CHECKPOINTS, RECIPE_FILE, short_reason
from .model_card import write_model_card
from .trainer import LLM4RecTrainer, LLM4RecTrainingArguments

REPORT_FILE = "training.json"
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

        with _pretrained("model.backbone", recipe.model.backbone):
            tokenizer = AutoTokenizer.from_pretrained(recipe.model.backbone)
            text_vocab_size = AutoConfig.from_pretrained(recipe.model.backbone).get_text_config().vocab_size
    with _pretrained("data.text_encoder", recipe.data.text_encoder, ", or take 'hashing', which needs neither"):
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


@contextmanager
def _pretrained(field: str, name: str, otherwise: str = "") -> Iterator[None]:
    """Name the recipe's field where a model that it names cannot be loaded from disk or the Hub."""
    if Path(name).is_dir() and not any(Path(name).glob("*.json")):
        raise FileNotFoundError(f"{field}: {name} holds no model (no config.json).")
    try:
        yield
    except OSError as error:
        raise FileNotFoundError(
            f"{field}: {name!r} cannot be loaded from disk or from the Hub ({short_reason(error).rstrip('.')}). Check "
            f"the name and the network{otherwise}."
        ) from error


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

    Raises:
        FileNotFoundError: if the pretrained backbone cannot be had.
        ValueError: if fields of the recipe contradict each other, or are none of the backbone's.
    """
    model_recipe = recipe.model
    values = processor.model_config() | {
        "fusion_width": model_recipe.fusion_width,
        "fusion_heads": model_recipe.fusion_heads,
        "fusion_dropout": model_recipe.fusion_dropout,
        "id_dropout": model_recipe.id_dropout,
        "event_dropout": model_recipe.event_dropout,
        "repeat_bias": model_recipe.repeat_bias,
        "num_negatives": model_recipe.num_negatives,
        "label_smoothing": model_recipe.label_smoothing,
    }
    if model_recipe.backbone:
        if model_recipe.text_config:
            raise ValueError(
                "model.backbone names a pretrained model and model.text_config describes one trained from scratch: "
                "leave one of them out."
            )
        kwargs: dict[str, Any] = {"dtype": model_recipe.dtype}
        if model_recipe.attention:
            kwargs["attn_implementation"] = model_recipe.attention
        if model_recipe.lora.quantize_4bit:
            kwargs["quantization_config"] = _four_bit()
        with _pretrained("model.backbone", model_recipe.backbone):
            model = LLM4RecForCausalLM.from_backbone(
                model_recipe.backbone, config=LLM4RecConfig(**values), backbone_kwargs=kwargs
            )
    else:
        model = LLM4RecForCausalLM(_config_from_scratch(recipe, processor, values))
        if model_recipe.attention:
            model.set_attn_implementation(model_recipe.attention)
    features = processor.item_features(cache=cache, progress=progress)
    if recipe.data.item_ids:
        untrained = torch.from_numpy(train.item_counts() == 0)
        content = features["present"][:, 1:].any(-1)
        features["present"][untrained & content, 0] = False
    model.set_items(features)
    return model


def _config_from_scratch(recipe: Recipe, processor: LLM4RecProcessor, values: dict[str, Any]) -> LLM4RecConfig:
    """The configuration of a model whose backbone `model.text_config` describes.

    Raises:
        ValueError: naming the field of `model.text_config` that is wrong.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    base = LLM4RecConfig().text_config.to_diff_dict()
    given = recipe.model.text_config
    kind = given.get("model_type", base["model_type"])
    if kind not in CONFIG_MAPPING:
        near = difflib.get_close_matches(str(kind), list(CONFIG_MAPPING), n=3, cutoff=0.0)
        raise ValueError(f"model.text_config.model_type is {kind!r}, unknown to transformers; near are {near}.")
    # transformers keeps a misspelt field without a word; older names of fields are none of ours to judge.
    known = {field.name for field in fields(CONFIG_MAPPING[kind])} | CONFIG_MAPPING[kind].attribute_map.keys()
    for name in given.keys() - known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if near:
            raise ValueError(f"model.text_config has the unknown key {name!r}; did you mean {near[0]!r}?")
    if kind == base["model_type"]:
        given = base | given
    text_config = {"tie_word_embeddings": True} | given | {"vocab_size": processor.text_vocab_size}
    try:
        return LLM4RecConfig(text_config=text_config, **values)
    except StrictDataclassError as error:
        raise ValueError(f"model.text_config or another field of model is wrong: {short_reason(error)}") from error


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
        # Without this, several processes on a machine without a GPU would each train a model of their own.
        "use_cpu": not torch.cuda.is_available() and _processes() > 1,
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


def _steps_per_epoch(histories: int, recipe: Recipe) -> int:
    """Optimiser steps in a pass over the data, over all processes."""
    arguments, per_batch = recipe.training.arguments, recipe.training.batch_size * _processes()
    batches = histories // per_batch if arguments.get("dataloader_drop_last") else -(-histories // per_batch)
    return max(1, -(-batches // arguments.get("gradient_accumulation_steps", 1)))


def _processes() -> int:
    """How many processes train together, as their launcher says (torchrun, accelerate)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


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
        FileExistsError: if `output` holds a model or checkpoints and neither `resume` nor `overwrite` is given, or
            anything else than a model.
        FileNotFoundError: if there is nothing to resume, or a pretrained model cannot be found.
        ValueError: if recipe and data do not fit.
    """
    from transformers import set_seed

    output = Path(output)
    checkpoints = output / CHECKPOINTS
    is_first_process = int(os.environ.get("RANK", "0")) == 0
    recipe = _with_absolute_paths(recipe)
    last = _last_checkpoint(checkpoints)
    if resume and last is None:
        raise FileNotFoundError(f"{checkpoints} holds no checkpoint to resume from; start without --resume.")
    if resume and (output / RECIPE_FILE).is_file():
        _check_same_recipe(Recipe.load(output / RECIPE_FILE), recipe)
    if not resume and is_first_process:
        _check_output(output, data.folder, last is not None, overwrite)
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
    steps = _steps_per_epoch(len(windows), recipe)
    arguments = training_arguments(recipe, checkpoints, steps)
    say(f"Training {parameters:,} weights on {len(windows):,} histories, {steps:,} steps an epoch …")
    is_new = not output.exists()
    if not resume and is_first_process:
        _empty(output)  # not before all that may be wrong with the recipe was tried
    if is_first_process:
        checkpoints.mkdir(parents=True, exist_ok=True)
        recipe.save(output / RECIPE_FILE)
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    try:
        trainer = LLM4RecTrainer(
            model, arguments, processor, windows, validation=_validation_cases(split.validation, recipe), say=say
        )
        trainer.train(resume_from_checkpoint=last if resume else None)
    except BaseException as error:
        if is_first_process and _last_checkpoint(checkpoints) is None:
            _empty(output)
            if is_new:
                output.rmdir()
        if isinstance(error, torch.OutOfMemoryError):
            raise ValueError(
                f"The GPU's memory is used up ({short_reason(error).rstrip('.')}). Lower training.batch_size or "
                "data.max_history, set training.gradient_checkpointing=true, or sample negatives "
                "(model.num_negatives=1024)."
            ) from error
        raise
    seconds = time.perf_counter() - started
    best = _best_validation(trainer)
    report = TrainReport(
        output, trainer.interrupted, trainer.state.epoch or 0.0, trainer.state.global_step, seconds, best, parameters
    )
    if trainer.interrupted or not trainer.is_world_process_zero():
        return report
    _save(trainer, processor, recipe, output)
    facts = _report_json(trainer, report, data)
    (output / REPORT_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    write_model_card(output, recommender_of(trainer.model), processor, recipe, facts)
    shutil.rmtree(checkpoints)
    return report


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with models on disk named from the root: the trained folder must load from anywhere."""
    recipe = deepcopy(recipe)
    if recipe.model.backbone and Path(recipe.model.backbone).is_dir():
        recipe.model.backbone = str(Path(recipe.model.backbone).absolute())
    if recipe.data.text_encoder != HASHING and Path(recipe.data.text_encoder).is_dir():
        recipe.data.text_encoder = str(Path(recipe.data.text_encoder).absolute())
    return recipe


def _check_same_recipe(begun: Recipe, recipe: Recipe) -> None:
    """Raise `ValueError` if a run would go on under another recipe than it began with; it may go on longer."""
    free = {"training.epochs", "training.patience", "training.report_to"}
    before, now = begun.values(), recipe.values()
    for name in before:
        if before[name] != now[name] and name not in free:
            raise ValueError(
                f"{name} was {before[name]!r} when this run began and is {now[name]!r} now. Resume with the recipe it "
                f"began with ({RECIPE_FILE} in its folder), or pass --overwrite to start anew."
            )


def _check_output(output: Path, data: Path, is_unfinished: bool, overwrite: bool) -> None:
    """Refuse before the work what would be refused after it, and never replace anything but a model.

    Raises:
        FileExistsError: if the folder is not empty and may not be replaced.
        NotADirectoryError: if it is a file.
        PermissionError: if it cannot be written.
    """
    check_writable(output)
    if not output.exists() or not any(output.iterdir()):
        return
    if not overwrite:
        hint = "Pass --resume to go on, " if is_unfinished else "Pass "
        raise FileExistsError(f"{output} exists already. {hint}--overwrite to replace it, or choose another folder.")
    if not (output / RECIPE_FILE).is_file():
        raise FileExistsError(
            f"{output} holds files, but no {RECIPE_FILE} as every model folder does: it is not replaced even with "
            "--overwrite. Choose another folder, or empty this one yourself."
        )
    inside = [place for place in (data.resolve(), Path.cwd()) if output.resolve() in (place, *place.parents)]
    if inside or (output / "stats.json").is_file():
        what = f"{inside[0]}, which is in use," if inside else "a prepared data set"
        raise FileExistsError(
            f"{output} holds {what} and is not replaced even with --overwrite. Choose another folder."
        )


def _empty(folder: Path) -> None:
    """Remove what a folder holds, if there is one."""
    for path in folder.iterdir() if folder.exists() else ():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


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
