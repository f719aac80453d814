"""Nobody can ask without end, and the ones who do not are not kept waiting."""

import pytest
from llm4rec.spaces_demo.limits import RateLimit, TooManyRequestsError
from llm4rec.spaces_demo.settings import Settings


def test_a_bucket_empties_and_fills_again():
    now = [0.0]
    limit = RateLimit(2.0, 3, clock=lambda: now[0])
    for _ in range(3):
        limit.take("a")
    with pytest.raises(TooManyRequestsError, match=r"Wait 0\.5 seconds"):
        limit.take("a")
    limit.take("b")
    now[0] = 0.5
    limit.take("a")
    with pytest.raises(TooManyRequestsError):
        limit.take("a")


def test_a_bucket_never_holds_more_than_its_size():
    now = [0.0]
    limit = RateLimit(1.0, 2, clock=lambda: now[0])
    limit.take("a")
    now[0] = 1000.0
    limit.take("a")
    limit.take("a")
    with pytest.raises(TooManyRequestsError):
        limit.take("a")


def test_idle_keys_are_forgotten():
    limit = RateLimit(1.0, 1, most_keys=10)
    for number in range(1000):
        limit.take(str(number))
    assert len(limit._left) == 10


def test_settings_come_from_the_environment(tmp_path):
    given = {
        "LLM4REC_MODEL": "org/shop",
        "LLM4REC_REVISION": "v2",
        "LLM4REC_STUDY": str(tmp_path / "s.jsonl"),
        "LLM4REC_STUDY_STYLES": "short, sceptical",
    }
    settings = Settings.from_environment(given)
    assert (settings.model, settings.revision, settings.study_styles) == ("org/shop", "v2", ("short", "sceptical"))
    assert settings.study == tmp_path / "s.jsonl"
    assert Settings.from_environment({}).model is None


def test_settings_that_contradict_themselves_say_what_to_do():
    with pytest.raises(ValueError, match="Set LLM4REC_MODEL too"):
        Settings(revision="v2")
    with pytest.raises(ValueError, match="two different styles"):
        Settings(study_styles=("short", "short"))
