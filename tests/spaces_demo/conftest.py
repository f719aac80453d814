"""The default checkpoint, loaded once, and services on it whose files lie in a folder of the test."""

import pytest
from llm4rec.spaces_demo.feedback import FixedRecommender
from llm4rec.spaces_demo.interface import build, serve
from llm4rec.spaces_demo.served_model import load_served
from llm4rec.spaces_demo.service import Service
from llm4rec.spaces_demo.settings import Settings
from llm4rec.spaces_demo.visitor import Visitor


@pytest.fixture(scope="session")
def served():
    """The model that a Space serves by itself, and its examples."""
    return load_served()


@pytest.fixture
def snapshot(served):
    return served[0]


@pytest.fixture
def service(served, tmp_path):
    """A service of its own files on the shared model."""
    settings = Settings(feedback_log=tmp_path / "feedback.sqlite", study=tmp_path / "study.jsonl")
    service = Service(settings, FixedRecommender(served[0]), served[1])
    yield service
    service.close()


@pytest.fixture
def visitor(served):
    """Somebody who chose three items."""
    visitor = Visitor()
    for item in served[1][0].history[:3]:
        visitor.choose(item)
    return visitor


@pytest.fixture(scope="module")
def app(served, tmp_path_factory):
    """A running Space: its URL and its service."""
    folder = tmp_path_factory.mktemp("space")
    settings = Settings(feedback_log=folder / "feedback.sqlite", study=folder / "study.jsonl")
    service = Service(settings, FixedRecommender(served[0]), served[1])
    page = build(service)
    _, url, _ = serve(page, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield url, service
    page.close(verbose=False)
    service.close()
