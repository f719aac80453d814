"""Training speed: a pass over Amazon Beauty by our trainer, by a bare loop, and by another library's trainer.

Run by `benchmarks/speed/run.py`. All at the same width, depth, heads, length, batch size and number of negatives.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llm4rec.benchmarks.peers.exchange import export_events
from llm4rec.configuration.recipe import Recipe
from llm4rec.training.arguments import steps_per_epoch_of, training_arguments
from llm4rec.training.build import build_model, build_processor
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.data.sequences import SequenceCollator, training_windows
from llm4rec.training.data.splits import Split, leave_one_out
from llm4rec.training.length_buckets import LengthBucketSampler
from llm4rec.training.trainer import LLM4RecTrainer
from tqdm.auto import tqdm
from transformers import TrainerCallback, set_seed

SETTINGS = {
    "n_factors": 128, "n_blocks": 1, "n_heads": 2, "dropout_rate": 0.5, "session_max_len": 50, "batch_size": 128,
    "n_negatives": 256, "lr": 1e-3,
}  # fmt: skip
"""By the other library's names."""
RECIPE = [
    "data.modalities=[]", "data.ratings=false", "data.times=false",
    f"data.max_history={SETTINGS['session_max_len']}",
    f"model.num_negatives={SETTINGS['n_negatives']}",
    f"model.text_config.hidden_size={SETTINGS['n_factors']}",
    f"model.text_config.num_hidden_layers={SETTINGS['n_blocks']}",
    f"model.text_config.num_attention_heads={SETTINGS['n_heads']}",
    f"model.text_config.hidden_dropout={SETTINGS['dropout_rate']}",
    f"training.batch_size={SETTINGS['batch_size']}",
    f"training.learning_rate={SETTINGS['lr']}",
]  # fmt: skip
"""The same by ours."""
PEER = Path(__file__).parents[1] / "peers" / "rectools_speed.py"


class EpochSeconds(TrainerCallback):
    """Wall clock of every epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self._started)


def trainer_seconds(data: PreparedData, split: Split, recipe: Recipe) -> float:
    """Seconds of the trainer's second epoch; the first warms up."""
    set_seed(0)
    processor = build_processor(data, recipe, split)
    model = build_model(processor, recipe, split.train)
    windows = training_windows(split.train, processor)
    clock = EpochSeconds()
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(recipe, Path(folder), steps_per_epoch_of(len(windows), recipe))
        arguments.num_train_epochs, arguments.eval_strategy, arguments.save_strategy = 2, "no", "no"
        arguments.load_best_model_at_end = False
        trainer = LLM4RecTrainer(model, arguments, processor, windows, say=lambda line: None, callbacks=[clock])
        trainer.train()
    return clock.seconds[1]


def bare_seconds(data: PreparedData, split: Split, recipe: Recipe) -> float:
    """Seconds of the second epoch of the least that trains the same model on the same batches."""
    set_seed(0)
    processor = build_processor(data, recipe, split)
    model = build_model(processor, recipe, split.train).train()
    windows = training_windows(split.train, processor)
    rows, collate = windows.to_list(), SequenceCollator(processor.start_id)
    size = recipe.training.batch_size
    sampler = LengthBucketSampler(windows["length"], size, recipe.training.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.training.learning_rate)
    bfloat16 = training_arguments(recipe, Path("unused"), 1).bf16
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        started = time.perf_counter()
        for first in range(0, len(order), size):
            batch = collate([rows[index] for index in order[first : first + size]])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.training.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
    return time.perf_counter() - started


def peer_rates(python: str, split: Split, batches: int) -> dict[str, Any]:
    """Interactions per second of RecTools SASRec over some batches, measured in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        export_events(split, Path(folder) / "events.parquet")
        command = [python, str(PEER), folder, "--settings", json.dumps(SETTINGS), "--batches", str(batches)]
        subprocess.run(command, check=True)
        return json.loads((Path(folder) / "speed.json").read_text(encoding="utf-8"))


def measure(data: PreparedData, python: str | None, rounds: int, batches: int) -> tuple[dict[str, float], dict]:
    """Metrics and configuration of a row; the contestants take turns, and each figure is a median over the rounds."""
    recipe = Recipe.load("amazon-beauty", RECIPE)
    split = leave_one_out(data.interactions)
    interactions = len(split.train.items)
    rates: dict[str, list[float]] = {"trainer": [], "bare_loop": []}
    peer: dict[str, Any] = {}
    for _ in tqdm(range(rounds), desc="rounds", disable=None):
        rates["trainer"].append(interactions / trainer_seconds(data, split, recipe))
        rates["bare_loop"].append(interactions / bare_seconds(data, split, recipe))
        if python is not None:
            peer = peer_rates(python, split, batches)
            rates.setdefault("rectools", []).append(peer["interactions_per_second"])
    metrics = {f"{name}_interactions_per_second": float(np.median(found)) for name, found in rates.items()}
    metrics["trainer_overhead"] = float(
        np.median([b / t - 1 for t, b in zip(rates["trainer"], rates["bare_loop"], strict=True)])
    )
    if python is not None:
        ratios = [ours / theirs for ours, theirs in zip(rates["trainer"], rates["rectools"], strict=True)]
        metrics |= {"times_rectools": float(np.median(ratios)), "times_rectools_least": min(ratios)}
    config = {
        "recipe": recipe.to_dict(), "peer": peer, "rounds": rounds, "interactions": interactions,
        "threads": torch.get_num_threads(), "bfloat16": training_arguments(recipe, Path("unused"), 1).bf16,
        "negatives": "ours are shared by the batch, RecTools draws them for every position",
    }  # fmt: skip
    return metrics, config
