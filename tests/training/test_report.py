"""Benchmark rows: complete, plain JSON, and free of names of people's machines."""

import json
import socket
import subprocess

import pytest
from llm4rec.training.evaluation.report import ROW_KEYS, git_commit, machine_description, report_row


def row(**changes):
    values = {
        "dataset": "toy",
        "model": "popularity",
        "protocol": "leave_one_out",
        "result": {"filtered/ndcg@10": 0.1},
    }
    return report_row(**{**values, **changes})


def test_a_row_has_the_documented_keys_and_survives_json():
    made = row(seed=3, seconds=1.25, config={"width": 64}, command="llm4rec evaluate toy")
    assert tuple(made) == ROW_KEYS
    assert json.loads(json.dumps(made)) == made
    assert made["metrics"] == {"filtered/ndcg@10": 0.1}
    assert made["command"] == "llm4rec evaluate toy"


def test_the_machine_is_described_but_not_named():
    made = machine_description()
    assert "core" in made
    assert socket.gethostname() not in made


def test_a_checkout_is_dirty_if_code_differs_and_not_for_rows_written_before(tmp_path):
    assert git_commit(tmp_path) is None

    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    files = [tmp_path / "model.py", tmp_path / "benchmarks" / "results" / "toy" / "row.json"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    files[1].write_text("2")
    assert git_commit(tmp_path) == commit
    files[0].write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"


def test_a_metric_that_is_not_finite_is_refused_by_name():
    with pytest.raises(ValueError, match="'filtered/ndcg@10' of popularity on toy is nan"):
        row(result={"filtered/ndcg@10": float("nan")})


def test_a_configuration_that_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        row(config={"learning_rate": float("inf")})
