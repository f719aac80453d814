"""Cost of debiasing: the same training steps on MovieLens-1M, plain and with every correction on.

Run by `benchmarks/speed/run.py`. Popularity prior with twelve periods and a learned γ, self-normalised weights,
adversary and eraser of gender; both models take turns on the same batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from llm4rec.configuration.recipe import Recipe
from llm4rec.training.build import build_model, build_processor
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.data.sequences import SequenceCollator, training_windows
from llm4rec.training.data.splits import leave_one_out
from llm4rec.training.debiasing.adversary_training import AdversaryTraining
from llm4rec.training.debiasing.apply import apply_debiasing
from llm4rec.training.length_buckets import LengthBucketSampler
from tqdm.auto import tqdm
from transformers import set_seed

EVERYTHING = [
    "debiasing.popularity=learned",
    "debiasing.weighting=snips",
    "debiasing.fairness_strength=1",
]
STEPS = 4
"""Steps of a turn."""


def measure(data: PreparedData, rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and configuration of a row; figures are medians over the rounds."""
    split = leave_one_out(data.interactions)
    turns, recipe = {}, Recipe.load("movielens-1m")
    for name, overrides in (("plain", []), ("debiased", EVERYTHING)):
        turns[name] = _steps(data, split, Recipe.load("movielens-1m", overrides))
    for turn in turns.values():  # the first steps allocate
        turn(0)
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for number in tqdm(range(1, rounds + 1), desc="rounds", disable=None):
        for name in sorted(turns, reverse=number % 2 == 0):
            started = time.perf_counter()
            turns[name](number)
            seconds[name].append((time.perf_counter() - started) / STEPS)
    ratios = [debiased / plain for debiased, plain in zip(seconds["debiased"], seconds["plain"], strict=True)]
    metrics = {f"{name}_seconds_per_step": median(values) for name, values in seconds.items()}
    metrics |= {"times_plain": median(ratios), "times_plain_least": min(ratios), "times_plain_most": max(ratios)}
    config = {"recipe": recipe.to_dict(), "debiasing": EVERYTHING, "rounds": rounds, "steps_per_round": STEPS}
    return metrics, config | {"threads": torch.get_num_threads()}


def _steps(data: PreparedData, split: Any, recipe: Recipe) -> Callable[[int], None]:
    """A function that takes `STEPS` optimiser steps on the batches of a turn."""
    set_seed(0)
    processor = build_processor(data, recipe, split)
    model = build_model(processor, recipe, split.train).train()
    debiasing = apply_debiasing(model, data, split, recipe.debiasing, say=lambda line: None)
    windows = training_windows(split.train, processor, "all", debiasing.event_columns, debiasing.user_columns)
    collate, size = SequenceCollator(processor.start_id), recipe.training.batch_size
    order = list(LengthBucketSampler(windows["length"], size, recipe.training.seed))
    adversary = AdversaryTraining.of(model)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.training.learning_rate)

    def take(turn: int) -> None:
        for step in range(turn * STEPS, (turn + 1) * STEPS):
            first = step * size % (len(order) - size)
            batch = collate([windows[index] for index in order[first : first + size]])
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, recipe.training.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            if adversary is not None:
                adversary.step()

    return take
