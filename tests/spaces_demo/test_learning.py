"""Thumbs reach the learner, and what it publishes reaches the next list, while the Space runs."""

import shutil

import pytest
from llm4rec.spaces_demo.default_checkpoint import FOLDER
from llm4rec.spaces_demo.service import Service
from llm4rec.spaces_demo.settings import Settings
from llm4rec.spaces_demo.visitor import Visitor
from llm4rec.training.online.feedback_log import FeedbackLog
from llm4rec.training.online.learner import OnlineLearner


@pytest.fixture
def learning(tmp_path):
    """A service of a model folder that may learn."""
    shutil.copytree(FOLDER, tmp_path / "model")
    settings = Settings(str(tmp_path / "model"), feedback_log=tmp_path / "log.db", study=tmp_path / "study.jsonl")
    service = Service(settings)
    yield service
    service.close()


def test_what_was_learned_from_thumbs_is_served_without_a_restart(learning):
    other = Visitor(history=list(learning.examples[0].history))
    before = [record["item_id"] for record in learning.recommend(other, learning.wish(10)).records]
    assert learning.feedback.current().version == "base"
    for number in range(12):
        visitor = Visitor()
        for item in (*learning.examples[0].history, f"item-{100 + number % 3:04d}"):
            learning.react(visitor, item, "like")
    with (
        FeedbackLog(learning.settings.feedback_log) as log,
        OnlineLearner(learning.settings.model, log, say=lambda line: None, publish_every=1000) as learner,
    ):
        report = learner.learn()
    assert report.events == 12 * (len(other.history) + 1)
    assert learning.feedback.current().version == report.version != "base"
    after = [record["item_id"] for record in learning.recommend(other, learning.wish(10)).records]
    assert after != before
    assert learning.search(other, "lantern")
