"""The study is blinded, loses no rating, and tests participants rather than clicks."""

import csv
import io
import random

import pytest
from llm4rec.spaces_demo.study import Judgement, StudyLog, draw_trial
from scipy.stats import wilcoxon

STYLES = ("short", "detailed")


def judged(person, styles, trust, usefulness=(3, 3), item="item-1"):
    return Judgement(person, item, "default", styles, trust, usefulness, 1.0)


@pytest.fixture
def log(tmp_path):
    return StudyLog(tmp_path / "deep" / "study.jsonl", STYLES)


def test_both_orders_come_and_nothing_shown_names_the_style():
    records = [{"item_id": "i", "title": "A"}, {"item_id": "j", "title": "B"}]
    texts = {"short": ["one", "same"], "detailed": ["two", "same"]}
    trials = [draw_trial(records, texts, random.Random(seed)) for seed in range(40)]
    assert {trial.styles for trial in trials} == {STYLES, STYLES[::-1]}
    assert {trial.item_id for trial in trials} == {"i"}
    for trial in trials:
        assert [texts[style][0] for style in trial.styles] == list(trial.texts)
        assert not any(style in text for text in trial.texts for style in STYLES)
    assert draw_trial(records[1:], {"short": ["same"], "detailed": ["same"]}, random.Random(0)) is None


def test_ratings_survive_and_a_torn_last_line_is_left_out(log):
    log.add(judged("a", STYLES, (4, 2)))
    log.add(judged("b", STYLES[::-1], (1, 5)))
    with open(log.path, "a") as file:
        file.write('{"participant": "c", "sty')
    assert [one.participant for one in StudyLog(log.path, STYLES).judgements()] == ["a", "b"]


def test_the_summary_is_wilcoxon_over_the_means_of_participants(log):
    chance = random.Random(1)
    pairs = []
    for number in range(12):
        given = [(chance.randint(2, 5), chance.randint(1, 3)) for _ in range(3)]
        for place, (short, detailed) in enumerate(given):
            order = STYLES if place % 2 else STYLES[::-1]
            log.add(judged(f"p{number}", order, (short, detailed) if place % 2 else (detailed, short)))
        pairs.append(sum(short - detailed for short, detailed in given) / 3)
    facts = log.summary()
    assert (facts["trials"], facts["participants"]) == (36, 12)
    assert facts["trust"]["difference"] == pytest.approx(sum(pairs) / 12)
    assert facts["trust"]["p"] == pytest.approx(wilcoxon([pair for pair in pairs if abs(pair) > 1e-9]).pvalue)
    assert facts["usefulness"] == {"means": {"short": 3.0, "detailed": 3.0}, "difference": 0.0, "p": None}


def test_the_table_has_a_line_for_each_explanation_and_no_formula(log):
    log.add(judged("=cmd()", STYLES[::-1], (4, 2), (5, 1), item="@sum"))
    rows = list(csv.DictReader(io.StringIO(log.to_csv())))
    assert [(row["style"], row["shown"], row["trust"], row["usefulness"]) for row in rows] == [
        ("detailed", "first", "4", "5"),
        ("short", "second", "2", "1"),
    ]
    assert rows[0]["participant"] == "'=cmd()"
    assert rows[0]["item_id"] == "'@sum"


@pytest.mark.parametrize("wrong", [None, 0, 6, True, 2.5, "3"])
def test_a_rating_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="rate both explanations first"):
        judged("a", STYLES, (3, wrong))


def test_an_empty_study_has_a_summary(log):
    assert log.summary()["trials"] == 0
    assert log.to_csv().count("\n") == 1
