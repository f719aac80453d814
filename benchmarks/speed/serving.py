"""Serving speed: one request and a batch, against the bare forward pass of the backbone and another library.

Run by `benchmarks/speed/run.py`. Weights are as drawn: they do not change what a request costs.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llm4rec.benchmarks.peers.exchange import export_events
from llm4rec.benchmarks.speed.training import PEER, SETTINGS
from llm4rec.configuration.recipe import Recipe
from llm4rec.modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from llm4rec.training.build import build_model, build_processor
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.data.splits import leave_one_out

HISTORY, K, BATCH = 20, 10, 256
QWEN3_06B = {
    "model_type": "qwen3", "vocab_size": 260, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
}  # fmt: skip
"""The shape of Qwen3-0.6B without its text vocabulary, which no step of a recommendation reads."""


def medians(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, called in turn."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(rounds + 3):
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            if round_ >= 3:
                taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(values)) for name, values in taken.items()}


@torch.no_grad()
def ours(model: LLM4RecForCausalLM, processor: LLM4RecProcessor, users: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of the backbone, of `recommend`, and of both the processor and `recommend`."""
    generator = np.random.default_rng(0)
    ids = processor.catalog.item_ids
    histories = [[ids[item] for item in generator.choice(len(ids), HISTORY)] for _ in range(users)]
    batch = processor(histories=histories, return_tensors="pt")
    embeds = torch.randn(*batch["input_ids"].shape, model.config.text_config.hidden_size)
    mask = batch["attention_mask"]

    def backbone() -> Any:
        return model.model.language_model(inputs_embeds=embeds, attention_mask=mask, use_cache=False)

    def whole() -> Any:
        out = model.recommend(**processor(histories=histories, return_tensors="pt"), k=K)
        return processor.decode_items(out.items)

    return medians({"backbone": backbone, "recommend": lambda: model.recommend(**batch, k=K), "whole": whole}, rounds)


def peer(python: str, data: PreparedData, rounds: int) -> dict[str, Any]:
    """Milliseconds of RecTools SASRec, measured in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        export_events(leave_one_out(data.interactions), Path(folder) / "events.parquet")
        command = [python, str(PEER), folder, "--settings", json.dumps(SETTINGS), "--batches", "2"]
        subprocess.run([*command, "--requests", str(rounds), "--batch", str(BATCH)], check=True)
        return json.loads((Path(folder) / "speed.json").read_text(encoding="utf-8"))


def measure(data: PreparedData, python: str | None, rounds: int) -> tuple[dict[str, float], dict]:
    """Metrics and configuration of a row."""
    split = leave_one_out(data.interactions)
    metrics: dict[str, float] = {}
    for name, overrides in (("small", []), ("qwen3_06b", [f"model.text_config={json.dumps(QWEN3_06B)}"])):
        recipe = Recipe.load("amazon-beauty", overrides)
        processor = build_processor(data, recipe, split)
        model = build_model(processor, recipe, split.train).eval()
        few = rounds if name == "small" else max(5, rounds // 20)
        for users in (1, BATCH) if name == "small" else (1,):
            found = ours(model, processor, users, few)
            where = f"{name}/{users}_user{'s' if users > 1 else ''}"
            metrics |= {f"{where}/{what}_ms": value for what, value in found.items()}
            metrics[f"{where}/overhead_ms"] = found["recommend"] - found["backbone"]
            metrics[f"{where}/overhead"] = found["recommend"] / found["backbone"] - 1
    config = {
        "history": HISTORY,
        "k": K,
        "items": len(data.items),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
    }
    if python is not None:
        found = peer(python, data, rounds)
        metrics |= {f"rectools/{name}_ms": found[f"{name}_ms"] for name in ("1_user", f"{BATCH}_users")}
        config["peer"] = found
    return metrics, config
