"""The speed benchmark runs on a tiny world without peers, and measures what it says."""

import pytest
from llm4rec.benchmarks.speed import catalog_size, serving, training
from llm4rec.training.data.splits import leave_one_out


def test_training_is_measured_over_all_interactions_of_an_epoch(shop):
    metrics, config = training.measure(shop, None, rounds=1, batches=1)
    assert config["interactions"] == len(leave_one_out(shop.interactions).train.items)
    assert config["recipe"]["model"]["num_negatives"] == training.SETTINGS["n_negatives"]
    rates = metrics["trainer_interactions_per_second"], metrics["bare_loop_interactions_per_second"]
    assert min(rates) > 0
    assert metrics["trainer_overhead"] == pytest.approx(rates[1] / rates[0] - 1)


def test_requests_are_measured_beside_the_bare_backbone(shop, monkeypatch):
    monkeypatch.setattr(serving, "QWEN3_06B", {**serving.QWEN3_06B, "num_hidden_layers": 1})
    metrics, _ = serving.measure(shop, None, rounds=2)
    for where in ("small/1_user", "small/256_users", "qwen3_06b/1_user"):
        assert metrics[f"{where}/recommend_ms"] > 0
        assert metrics[f"{where}/overhead_ms"] == pytest.approx(
            metrics[f"{where}/recommend_ms"] - metrics[f"{where}/backbone_ms"]
        )


def test_a_catalog_is_trained_on_and_served_both_ways(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(catalog_size, "HISTORIES", 40)
    metrics = catalog_size.one_size(300)
    assert metrics["index_recall@10"] == 1.0
    assert metrics["peak_memory_mb"] >= metrics["peak_memory_training_mb"] > 0
