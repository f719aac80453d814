"""A tiny shop of the built-in world and a recipe that trains on it in a second."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from llm4rec.configuration import Recipe
from llm4rec.training.cli import main
from llm4rec.training.simulation.world import World, WorldConfig

TOKEN, READ_ONLY = "hf_" + "w" * 34, "hf_" + "r" * 34
TINY = [
    "data.max_history=8",
    "model.text_config.hidden_size=16",
    "model.text_config.intermediate_size=16",
    "training.batch_size=16",
    "training.epochs=3",
    "training.patience=0",
]


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Sixty users and forty items, prepared; about five events each, some users without any."""
    return World(WorldConfig(users=60, items=40, sessions=16)).prepared(tmp_path_factory.mktemp("shop") / "data")


@pytest.fixture(scope="session")
def invoke():
    """Run a command in this process; its exit code."""

    def invoke(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        return stopped.value.code or 0

    return invoke


@pytest.fixture
def run(capfd, invoke):
    """Run a command; file descriptors are watched, so what libraries print is seen too."""

    def run(*arguments):
        capfd.readouterr()
        code = invoke(*arguments)
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
def refused(run):
    """Run a command that must be refused: exit code 1 and one line on stderr, which is returned."""

    def refused(*arguments):
        result = run(*arguments)
        assert (result.code, result.err.count("\n")) == (1, 1), result.err
        assert result.err.startswith("Error: ")
        assert "Traceback" not in result.out
        return result.err.removeprefix("Error: ").strip()

    return refused


@pytest.fixture(scope="module")
def quick_fit():
    """Fit retrieval adapters for a few steps only: what they learn in them is enough for planted worlds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm4rec.training.retrieval.fit.LEAST_STEPS", 60)
        yield


@pytest.fixture(scope="session")
def hub_server():
    """The module of the small Hub on loopback."""
    path = Path(__file__).with_name("hub_server.py")
    spec = importlib.util.spec_from_file_location("hub_server", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["hub_server"] = module  # its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hub(hub_server, tmp_path, monkeypatch):
    """A Hub that this process and its children take for the real one; `maker` of `org` is logged in."""
    constants = huggingface_hub.constants
    with hub_server.running_hub() as running:
        running.tokens[TOKEN] = ("maker", "org")
        running.readers[READ_ONLY] = ("maker", "org")
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", running.url)  # shared clients, made long before
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        yield running


@pytest.fixture(scope="session")
def tiny_recipe():
    """Make the quickstart recipe at a tiny size, with overrides."""
    return lambda *overrides, name="quickstart": Recipe.load(name, [*TINY, *overrides])
