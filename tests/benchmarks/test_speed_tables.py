"""Speed rows become tables; a size is a column."""

import json

from llm4rec.benchmarks.speed.tables import speed_sections
from llm4rec.benchmarks.table import document


def row(what, metrics):
    return {
        "dataset": "random", "model": "speed", "protocol": what, "seed": None, "metrics": metrics, "seconds": 1.0,
        "command": f"python benchmarks/speed/run.py {what}", "machine": "2 cores", "config": {},
    }  # fmt: skip


def test_sizes_of_the_catalog_are_columns(tmp_path):
    (tmp_path / "speed").mkdir()
    metrics = {"10000_items/step_ms": 12.34, "1000000_items/step_ms": 3456.7}
    (tmp_path / "speed" / "catalog.json").write_text(json.dumps(row("catalog", metrics)))
    [(_, (header, lines), _)] = speed_sections(tmp_path)
    assert header == ["what", "10,000 items", "1,000,000 items"]
    assert lines == [["step ms", "12.3", "3,457"]]


def test_the_document_holds_the_speed_tables_and_their_commands(tmp_path):
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "training.json").write_text(json.dumps(row("training", {"times_rectools": 21.5})))
    text = document(tmp_path, tmp_path / "figures")
    assert "| times rectools | 21.5 |" in text
    assert "python benchmarks/speed/run.py training" in text
