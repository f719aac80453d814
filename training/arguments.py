"""The recipe's training section as arguments of the trainer."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ..configuration.recipe import Recipe
from .trainer import LLM4RecTrainingArguments


def training_arguments(recipe: Recipe, checkpoints: Path, steps_per_epoch: int) -> LLM4RecTrainingArguments:
    """The recipe's training section as arguments of the trainer.

    Raises:
        ValueError: if `training.arguments` holds something that `trl.SFTConfig` does not know.
    """
    t = recipe.training
    bfloat16 = t.precision == "bfloat16" or (t.precision == "auto" and multiplies_bfloat16())
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
        "patience": 0 if recipe.debiasing.fairness_strength else t.patience,
        "average_steps": t.average_epochs * steps_per_epoch,
        "from_trained": recipe.model.start_from is not None,
        "seed": t.seed,
        "bf16": bfloat16,
        # Without this, several processes on a machine without a GPU would each train a model of their own, and
        # bfloat16 would be refused there.
        "use_cpu": not torch.cuda.is_available() and (num_processes() > 1 or bfloat16),
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
        # The epoch of the best accuracy would be the one whose states still tell most of a sensitive attribute.
        "load_best_model_at_end": not recipe.debiasing.fairness_strength,
        **t.arguments,
    }
    try:
        return LLM4RecTrainingArguments(**values)
    except TypeError as error:
        raise ValueError(f"training.arguments: {error}. It takes the fields of trl.SFTConfig.") from error


def multiplies_bfloat16() -> bool:
    """Whether the device that trains multiplies bfloat16 matrices by instructions of its own, faster than float32.

    Elsewhere PyTorch emulates them, which is slower than single precision.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def steps_per_epoch_of(histories: int, recipe: Recipe) -> int:
    """Optimiser steps in a pass over the data, over all processes."""
    arguments, per_batch = recipe.training.arguments, recipe.training.batch_size * num_processes()
    batches = histories // per_batch if arguments.get("dataloader_drop_last") else -(-histories // per_batch)
    return max(1, -(-batches // arguments.get("gradient_accumulation_steps", 1)))


def num_processes() -> int:
    """How many processes train together, as their launcher says (torchrun, accelerate)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _checkpointing_name() -> str:
    # transformers renamed the argument in 5.2x and warns of the old name.
    names = LLM4RecTrainingArguments.__dataclass_fields__
    return "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
