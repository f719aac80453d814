"""Speed and memory of retrieval: building, searching, and what it adds to a request.

Run by `benchmarks/speed/run.py`. Keys are drawn around centres, as user states gather; weights are as drawn.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from llm4rec.benchmarks.speed.serving import HISTORY, K, medians
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM, RetrievalConfig, RetrievalMemory
from llm4rec.modeling_llm4rec.vector_index import VectorIndex, unit_rows

WIDTH, CENTRES, NEIGHBOURS, QUERIES = 128, 5000, 20, 200
SIZES = {"hnsw": 100_000, "ivf": 1_000_000}
ITEMS, ENTRIES = 12_000, 100_000


def keys_of(count: int, seed: int) -> torch.Tensor:
    """Unit vectors around common centres."""
    centres = torch.randn(CENTRES, WIDTH, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(CENTRES, (count,), generator=generator)
    return unit_rows(centres[chosen] + 0.7 * torch.randn(count, WIDTH, generator=generator))


def recall(found: torch.Tensor, true: torch.Tensor) -> float:
    """Share of the true rows (batch, k) that were found (batch, k)."""
    return float((found[:, :, None] == true[:, None, :]).any(1).float().mean())


def index_metrics(kind: str, count: int) -> dict[str, float]:
    """Building and searching an index of `count` entries."""
    keys, queries = keys_of(count, seed=1), keys_of(QUERIES, seed=2)
    started = time.perf_counter()
    index = VectorIndex(kind, keys)
    metrics = {"build_seconds": time.perf_counter() - started}
    taken = []
    for query in queries.split(1):
        started = time.perf_counter()
        index.search(query, NEIGHBOURS)
        taken.append(1e3 * (time.perf_counter() - started))
    metrics["query_p50_ms"] = statistics.median(taken)
    found = index.search(queries, NEIGHBOURS)[1]
    true = torch.cat([(part @ keys.T).topk(NEIGHBOURS, dim=1).indices for part in queries.split(20)])
    metrics["recall@20"] = recall(found, true)
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index.faiss")
        size = (Path(folder) / "index.faiss").stat().st_size
    metrics["megabytes_a_million"] = size / count
    return metrics


def request_metrics(rounds: int) -> dict[str, float]:
    """One request with and without a memory of 100,000 entries, and taking in one event."""
    generator = torch.Generator().manual_seed(0)
    model = LLM4RecForCausalLM(LLM4RecConfig(num_items=ITEMS)).eval()
    model.add_retrieval(RetrievalConfig(sources=["transitions", "behaviour"]))
    memory = RetrievalMemory(model.config.retrieval, ITEMS, WIDTH)
    items = torch.randint(ITEMS, (ENTRIES,), generator=generator)
    memory.transitions.learn(items, torch.full((ENTRIES // HISTORY,), HISTORY))
    memory.behaviour.add(keys_of(ENTRIES, seed=3), items)
    model.attach_memory(memory)
    with torch.no_grad():
        model.model.retrieval_adapter.attention_gate.fill_(0.5)  # all of the adapter works
        model.model.retrieval_adapter.source_weight.fill_(0.5)
    tokens = torch.randint(ITEMS, (1, HISTORY), generator=generator) + model.config.text_vocab_size
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    def take_in() -> None:
        model.remember(**batch, items=torch.randint(ITEMS, (1,), generator=generator))
        model.recommend(**batch, k=K)

    calls = {
        "request_without_memory_ms": lambda: model.recommend(**batch, k=K, retrieval=False),
        "request_with_memory_ms": lambda: model.recommend(**batch, k=K),
        "remember_and_recommend_ms": take_in,
    }
    metrics = medians(calls, rounds)
    metrics["added_by_memory_ms"] = metrics["request_with_memory_ms"] - metrics["request_without_memory_ms"]
    return metrics


def measure(rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """All of it; metrics `<kind>_<entries>/<name>` and those of a request."""
    metrics = {
        f"{kind}, {count:,} entries/{name}": value
        for kind, count in SIZES.items()
        for name, value in index_metrics(kind, count).items()
    }
    metrics |= request_metrics(rounds)
    config = {
        "width": WIDTH,
        "neighbours": NEIGHBOURS,
        "history": HISTORY,
        "items": ITEMS,
        "threads": torch.get_num_threads(),
    }
    return metrics, config
