"""The judges of explanations: true ones pass, and every kind of false one is caught."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from llm4rec.modeling_llm4rec.explanation_text import STYLES, render_text
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.evaluation.explanations.claims import check_claims
from llm4rec.training.evaluation.explanations.faithfulness import faithfulness, stability
from llm4rec.training.evaluation.explanations.text_quality import text_quality

HISTORIES = [["i0", "i4", "i2", "i1", "i9"], ["i5", "i7", "i8", "i3", "i6", "i2"], ["i1"], []]


@pytest.fixture(scope="module")
def records(tiny):
    """Records of real recommendations, with popularity put in, some of new items that are pushed."""
    from llm4rec.modeling_llm4rec.configuration_llm4rec import PopularityConfig

    processor = tiny.processor()
    model = tiny.model(processor)
    model.add_popularity_prior(PopularityConfig(), torch.linspace(-2, 2, 12)[None], torch.zeros(1))
    processor.add_items(tiny.new_items())
    model.add_items(processor.item_features(tiny.new_items()))
    model.config.new_item_bonus = 20.0
    batch = processor(histories=HISTORIES, return_tensors="pt")
    return processor.decode_explanations(model.recommend(**batch, k=4, explain=True, popularity=0.4))


@pytest.fixture
def record(records):
    """A record with reasons of several kinds."""
    return records[0][0]


def problems(text, record, other=None):
    return [claim.problem for claim in check_claims(text, record, other) if claim.problem]


@pytest.mark.parametrize("style", STYLES)
def test_every_claim_of_a_rendered_explanation_resolves(records, style):
    kinds = {piece["kind"] for user in records for one in user for piece in one["evidence"]}
    assert {"popularity", "new_item"} <= kinds
    for user in records:
        for one, other in itertools.pairwise(user):
            text = render_text(one, style, against=other)
            assert problems(text, one, other) == [], text


def test_a_made_up_title_is_caught(record):
    text = f"“{record['title']}” is recommended mainly because you chose “Something else”."
    assert problems(text, record) == ["names nothing of the evidence"]


def test_praise_for_what_the_model_penalised_is_caught(record):
    pieces = [dict(p, effect=-0.5) if p["kind"] == "history" else p for p in record["evidence"]]
    record, worst = dict(record, evidence=pieces), next(p for p in pieces if p["kind"] == "history")
    text = f"“{record['title']}” is recommended mainly because you chose “{worst['title']}”."
    assert problems(text, record)[0].startswith("praises what has the effect -")
    assert text_quality([text], [record])["contradictions"] == 1


def test_a_confidence_word_above_the_effect_is_caught(record):
    weak = dict(record, evidence=[dict(p, effect=0.1) for p in record["evidence"] if p["kind"] == "history"])
    title = weak["evidence"][0]["title"]
    assert not problems(f"“{record['title']}” is recommended a little because you chose “{title}”.", weak)
    assert problems(f"“{record['title']}” is recommended mainly because you chose “{title}”.", weak)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stand at place ", "stand at place 9"),
        (" times less likely", "9 times less likely"),
        (" is recommended", " is loved by all critics"),
        ("Without your history", "Without your friends"),
    ],
)
def test_wrong_places_factors_and_sentences_are_caught(record, old, new):
    text = render_text(record, "detailed")
    assert old in text
    assert problems(text.replace(old, new), record)


@pytest.mark.parametrize("text", ["", " ", "“{title}” is recommended", "Buy it now!", "“A” is  recommended None."])
def test_broken_sentences_are_caught(record, text):
    assert problems(text.format(title=record["title"]), record)


def test_counts_of_sharing_items_are_checked(records):
    pairs = [(one, p) for user in records for one in user for p in one["evidence"] if p["kind"] == "attribute"]
    record, shared = pairs[0]
    record = dict(record, evidence=[dict(shared, effect=0.5)])
    names = " and ".join(f"“{item['title']}”" for item in shared["shared_with"])
    value = f"“{shared['value']}” ({shared['attribute']})"
    text = f"“{record['title']}” is recommended partly because it shares {value} with {names}"
    assert not problems(f"{text}.", record)
    assert problems(f"{text} and 7 more of your items.", record)


def test_repeated_sentences_lower_the_unique_ratio(record):
    text = render_text(record)
    assert text_quality([text] * 4, [record] * 4)["unique_sentence_ratio"] == 0.25


@pytest.fixture
def log(processor):
    """Forty users with histories of five or six distinct items."""
    generator = np.random.default_rng(0)
    rows = [generator.choice(12, size=generator.integers(5, 7), replace=False) for _ in range(40)]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    items = np.concatenate(rows).astype(np.int32)
    ratings = generator.integers(1, 6, size=len(items)).astype(np.float32)
    return Interactions(offsets, items, 12, ratings, np.arange(len(items)) * 1000)


def test_measured_explanations_beat_the_random_control(model, processor, log):
    found = faithfulness(model, processor, log)
    means = found.intervals()
    assert means["deletion_wins"].mean >= 0.95
    assert means["deletion_area"].low > 0
    assert means["insertion_area"].low > 0
    assert (found.deletion[:, 0] == found.insertion[:, -1]).all()
    np.testing.assert_allclose(found.random_deletion[:, -1], found.deletion[:, -1])  # nothing is left of either


def test_explanations_that_name_anything_do_not(model, processor, log, monkeypatch):
    generator = np.random.default_rng(1)
    explain = type(model).explain

    def shuffled(self, *args, **kwargs):
        def at_random(why):
            effects = generator.permutation([piece.effect for piece in why.evidence])
            pieces = [dataclasses.replace(p, effect=e) for p, e in zip(why.evidence, effects, strict=True)]
            return dataclasses.replace(why, evidence=tuple(sorted(pieces, key=lambda p: -p.effect)))

        return [[at_random(why) for why in user] for user in explain(self, *args, **kwargs)]

    monkeypatch.setattr(type(model), "explain", shuffled)
    means = faithfulness(model, processor, log).intervals()
    assert means["deletion_wins"].mean < 0.8
    assert means["deletion_area"].low < 0.1


def test_users_with_short_histories_are_not_judged(model, processor, log):
    short = log.take(np.arange(40), np.full(40, 4))
    with pytest.raises(ValueError, match="at least 5 distinct items"):
        faithfulness(model, processor, short)


def test_an_explanation_is_the_same_again(model, processor):
    batch = processor(histories=HISTORIES, return_tensors="pt")
    items = model.recommend(**batch, k=1).items
    first, second = ([user[0] for user in model.explain(**batch, items=items)] for _ in range(2))
    assert stability(first, second) == {"same_top": 1.0, "largest_change": 0.0}
    changed = [dataclasses.replace(first[0], evidence=first[0].evidence[::-1]), *first[1:]]
    assert stability(first, changed)["same_top"] == 0.75
