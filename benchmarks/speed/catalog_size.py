"""Memory and latency as the catalog grows: train some steps and serve, in a process of its own for each size.

Run by `benchmarks/speed/run.py`, which calls `python benchmarks/speed/catalog_size.py ITEMS` for every size.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import torch
from llm4rec.benchmarks.speed.serving import medians
from llm4rec.benchmarks.speed.training import EpochSeconds
from llm4rec.configuration.recipe import Recipe
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM, LLM4RecProcessor
from llm4rec.training.arguments import training_arguments
from llm4rec.training.evaluation.report import peak_memory_mb
from llm4rec.training.trainer import LLM4RecTrainer
from tqdm.auto import tqdm

SIZES = (10_000, 100_000, 1_000_000)
STEPS, HISTORIES, LENGTH, NEGATIVES, VECTOR = 20, 2_560, 20, 1024, 64


def one_size(items: int) -> dict[str, float]:
    """Peak memory after training and after serving, and what a step and a request take."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(1000, VECTOR)).astype(np.float32)
    group = generator.integers(1000, size=items)
    vectors = centres[group] + 0.5 * generator.normal(size=(items, VECTOR)).astype(np.float32)
    table = {"item_id": [f"item-{index}" for index in range(items)], "picture": list(vectors)}
    processor = LLM4RecProcessor.from_catalog(table, {"picture": "vector"})
    features = {"picture": torch.from_numpy(vectors), "present": torch.ones(items, 2, dtype=torch.bool)}
    model = LLM4RecForCausalLM(LLM4RecConfig(**processor.model_config(), num_negatives=NEGATIVES))
    model.set_items(features)
    tokens = generator.integers(items, size=(HISTORIES, LENGTH)) + processor.text_vocab_size
    windows = datasets.Dataset.from_dict({"input_ids": tokens.tolist(), "length": [LENGTH] * HISTORIES})
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe.load("amazon-beauty", [f"training.batch_size={HISTORIES // STEPS}"])
        arguments = training_arguments(recipe, Path(folder), STEPS)
        arguments.num_train_epochs, arguments.eval_strategy, arguments.save_strategy = 2, "no", "no"
        arguments.load_best_model_at_end = False
        clock = EpochSeconds()
        trainer = LLM4RecTrainer(model, arguments, processor, windows, say=lambda line: None, callbacks=[clock])
        trainer.train()
    metrics = {"step_ms": 1e3 * clock.seconds[1] / STEPS, "peak_memory_training_mb": peak_memory_mb()}
    del trainer
    model.eval()
    batch = {"input_ids": torch.from_numpy(tokens[:1]), "attention_mask": torch.ones(1, LENGTH, dtype=torch.long)}
    model.recommend(**batch, exact=True)  # computes the table
    started = time.perf_counter()
    model.model.item_index()
    metrics["index_seconds"] = time.perf_counter() - started
    found = medians(
        {
            "exact": lambda: model.recommend(**batch, exact=True),
            "index": lambda: model.recommend(**batch, exact=False),
        },
        30,
    )
    rows = torch.from_numpy(tokens[:200])
    many = {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
    exact, approximate = (model.recommend(**many, exact=kind).items for kind in (True, False))
    recall = (exact[:, :, None] == approximate[:, None, :]).any(-1).float().mean()
    metrics |= {f"recommend_{name}_ms": value for name, value in found.items()}
    return metrics | {"index_recall@10": recall.item(), "peak_memory_mb": peak_memory_mb()}


def measure(sizes: tuple[int, ...] = SIZES) -> tuple[dict[str, float], dict]:
    """Metrics and configuration of a row."""
    metrics = {}
    for items in tqdm(sizes, desc="catalog sizes", disable=None):
        outcome = subprocess.run(
            [sys.executable, str(Path(__file__)), str(items)], check=True, stdout=subprocess.PIPE, text=True
        )
        found = json.loads(outcome.stdout.splitlines()[-1])
        metrics |= {f"{items}_items/{name}": value for name, value in found.items()}
    config = {
        "sizes": list(sizes), "steps_an_epoch": STEPS, "histories_per_step": HISTORIES // STEPS, "history": LENGTH,
        "negatives": NEGATIVES, "modalities": f"id, vector of {VECTOR}", "threads": torch.get_num_threads(),
    }  # fmt: skip
    return metrics, config


def main() -> None:
    """Measure one size and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=int)
    print(json.dumps(one_size(parser.parse_args().items)))


if __name__ == "__main__":
    main()
