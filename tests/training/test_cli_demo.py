"""`llm4rec demo`: its options, and what it says where it cannot run."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest


def test_help_lists_the_options_without_loading_anything_heavy(run):
    result = run("demo", "--help")
    assert result.code == 0
    for option in ("--port", "--host", "--share", "--revision", "--feedback-log", "--study", "--learn"):
        assert option in result.out


def test_without_gradio_it_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'llm4rec[demo]'" in refused("demo")


def test_a_model_that_is_not_there_is_refused(refused, tmp_path):
    importlib.import_module("gradio")
    assert "not found" in refused("demo", tmp_path / "nothing", "--feedback-log", tmp_path / "log.db")
    assert not (tmp_path / "log.db").exists()


def test_only_a_folder_can_learn(refused, tmp_path):
    assert "cannot learn here" in refused("demo", "--learn")


def test_a_revision_needs_a_model(run):
    assert run("demo", "--revision", "v2").code == 2


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(tmp_path):
    command = [sys.executable, "-m", "llm4rec.training.cli", "demo", "--port", "0"]
    command += ["--feedback-log", str(tmp_path / "log.db"), "--study", str(tmp_path / "study.jsonl")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        url = next(found.group(1) for line in server.stdout if (found := re.search(r"Open (http\S+)", line)))
        with urllib.request.urlopen(f"{url}config", timeout=30) as response:
            assert json.load(response)["title"] == "LLM4Rec"
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 130
    assert (tmp_path / "log.db").exists()
