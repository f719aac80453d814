"""What a visitor can do: lists follow the history, the sliders and the thumbs; refusals say what to do."""

import pytest
from llm4rec.spaces_demo.feedback import Feedback
from llm4rec.spaces_demo.service import Service
from llm4rec.spaces_demo.visitor import LONGEST_HISTORY, MOST_ADDED, Visitor
from llm4rec.training.online.feedback_log import FeedbackLog

TENT = {"title": "Fjordhem Dome tent", "category": "tents", "style": "rugged", "price": "199"}


def ids(listed):
    return [record["item_id"] for record in listed.records]


def test_the_default_checkpoint_is_small(served):
    from llm4rec.spaces_demo.default_checkpoint import FOLDER

    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 2_000_000
    assert len(served[1]) >= 3


def test_every_recommendation_comes_with_a_sentence_and_evidence(service, visitor):
    listed = service.recommend(visitor, service.wish(10))
    assert len(listed.texts) == len(set(ids(listed))) == 10
    assert not set(ids(listed)) & set(visitor.history)
    assert all(record["title"] in text for record, text in zip(listed.records, listed.texts, strict=True))
    assert all(record["evidence"] and abs(sum(record["alpha"].values()) - 1) < 1e-4 for record in listed.records)
    assert set(listed.found) == {"transitions", "metadata"}


def test_a_visitor_without_history_gets_a_list_too(service):
    assert len(service.recommend(Visitor(), service.wish(5)).records) == 5


def test_sliders_change_the_list(service, visitor):
    plain = ids(service.recommend(visitor, service.wish(10, popularity=0.0)))
    popular = ids(service.recommend(visitor, service.wish(10, popularity=2.5)))
    diverse = ids(service.recommend(visitor, service.wish(10, popularity=0.0, diversity=0.8)))
    assert plain != popular
    assert plain != diverse
    assert plain[0] == diverse[0]
    assert len(set(diverse)) == 10


def test_more_popularity_brings_more_popular_items(service, visitor, snapshot):
    popularity = snapshot.model.model.popularity_prior.log_popularity[-1]
    catalog = snapshot.processor.catalog

    def mean(value):
        listed = service.recommend(visitor, service.wish(10, popularity=value))
        return popularity[catalog.indices(ids(listed))].mean()

    assert mean(-2.0) < mean(0.0) < mean(3.0)


def test_a_thumb_down_takes_the_item_away_and_is_on_the_disk(service, visitor):
    wish = service.wish(10)
    first = ids(service.recommend(visitor, wish))[0]
    assert service.react(visitor, first, "dislike", wish)
    assert first not in ids(service.recommend(visitor, wish))
    with FeedbackLog(service.settings.feedback_log) as log:
        (logged,) = log.events()
    assert (logged.event.user_id, logged.event.item_id, logged.event.kind) == (visitor.key, first, "dislike")
    assert logged.event.context["version"] == "default"
    visitor.show_again()
    assert first in ids(service.recommend(visitor, wish))


def test_a_thumb_up_counts_as_history_at_once(service, visitor):
    wish = service.wish(10)
    before = ids(service.recommend(visitor, wish))
    service.react(visitor, before[3], "like", wish)
    after = ids(service.recommend(visitor, wish))
    assert visitor.history[-1] == before[3]
    assert before[3] not in after
    assert after != [item for item in before if item != before[3]][:10]


def test_one_visitor_s_thumbs_do_not_touch_another(service, visitor):
    other = Visitor(history=list(visitor.history))
    wish = service.wish(10)
    before = ids(service.recommend(other, wish))
    service.react(visitor, before[0], "dislike", wish)
    assert ids(service.recommend(other, wish)) == before


def test_an_added_item_is_found_and_ranked_for_its_visitor_alone(service, visitor, snapshot):
    other = Visitor(history=list(visitor.history))
    wish = service.wish(10)
    before, size = ids(service.recommend(other, wish)), snapshot.model.num_items
    memory = len(snapshot.model.memory.metadata)
    item = service.add_item(visitor, TENT)
    assert service.search(visitor, "fjordhem dome")[0]["item_id"] == item
    assert service.why_not(visitor, "Fjordhem Dome tent", wish).record["item_id"] == item
    visitor.choose(item)
    assert service.recommend(visitor, wish).records
    assert all(row["item_id"] != item for row in service.search(other, "fjordhem dome"))
    assert ids(service.recommend(other, wish)) == before
    assert (snapshot.model.num_items, len(snapshot.processor.catalog)) == (size, size)
    assert (len(snapshot.model.memory.metadata), snapshot.model.memory.num_items) == (memory, size)


def test_an_added_item_is_scored_as_if_everybody_had_added_it(service, visitor, served):
    from llm4rec.spaces_demo.served_model import load_served

    item = service.add_item(visitor, TENT)
    mine = service.why_not(visitor, item, service.wish(10)).record
    alone, _ = load_served()
    row = visitor.added[0]
    alone.processor.add_items([row])
    alone.model.add_items(alone.processor.item_features([row]))
    import torch

    batch = alone.processor(histories=[visitor.history], return_tensors="pt")
    found = alone.model.explain(**batch, items=torch.tensor([[alone.processor.catalog.index(item)]]), popularity=None)
    assert found[0][0].rank == mine["rank"]
    assert found[0][0].score == pytest.approx(mine["score"], abs=1e-4)


def test_feedback_on_an_own_item_stays_in_the_session(service, visitor):
    item = service.add_item(visitor, TENT)
    assert not service.react(visitor, item, "dislike")
    assert item in visitor.hidden
    assert service.feedback.log.count() == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"category": "tents"}, "has no title"),
        ({"title": "Nothing else"}, "Choose at least one more value"),
        ({"title": "Odd", "price": "cheap"}, "Price is 'cheap', expected a number"),
    ],
)
def test_a_new_item_that_cannot_be_added_is_refused_with_advice(service, visitor, values, said):
    with pytest.raises(ValueError, match=said):
        service.add_item(visitor, values)
    assert not visitor.added


def test_there_is_an_end_to_adding(service, visitor):
    for number in range(MOST_ADDED):
        service.add_item(visitor, {**TENT, "title": f"Tent {number}"})
    with pytest.raises(ValueError, match="as many as a visitor may"):
        service.add_item(visitor, TENT)


def test_what_is_out_of_range_is_named(service, snapshot):
    for wrong, said in (
        ({"k": 1000}, "k is 1000, expected a number from 1 to 20"),
        ({"popularity": float("nan")}, "popularity is nan"),
        ({"diversity": 2}, "diversity is 2"),
        ({"style": "rude"}, "style is 'rude', expected one of short"),
        ({"language": "xx"}, "language is 'xx', expected one of en"),
    ):
        with pytest.raises(ValueError, match=said):
            service.wish(**wrong)
    with pytest.raises(ValueError, match="51 items, expected a list of at most 50"):
        service.history_of(["item-0001"] * (LONGEST_HISTORY + 1), snapshot)
    with pytest.raises(ValueError, match="Unknown item id 'item-9999'"):
        service.history_of(["item-9999"], snapshot)


def test_thumbs_on_unknown_items_change_nothing(service, visitor):
    before = list(visitor.history)
    with pytest.raises(ValueError, match="unknown item id 'nope'"):
        service.react(visitor, "nope", "like")
    with pytest.raises(ValueError, match="expected 'like' or 'dislike'"):
        service.react(visitor, before[0], "adore")
    assert (visitor.history, service.feedback.log.count()) == (before, 0)


def test_a_version_that_was_published_is_served_at_the_next_request(service, visitor, served, tmp_path):
    class Learner:
        """Gives the model of the moment, in a class of its own as a learner may."""

        now = served[0]

        def current(self):
            return self.now

    learner = Learner()
    learning = Service(service.settings, learner)
    item = learning.add_item(visitor, TENT)
    from types import SimpleNamespace

    learner.now = SimpleNamespace(model=served[0].model, processor=served[0].processor, version="v2")
    assert learning.snapshot(visitor).version == "v2"
    assert item in learning.snapshot(visitor).processor.catalog
    assert isinstance(learning.feedback, Feedback)
    learning.close()


def test_empty_and_strange_searches_find_no_harm(service, visitor):
    assert len(service.search(visitor, "")) == 4
    assert service.search(visitor, "\x00\u202e" + "§" * 5000) == []
    assert "lantern" in service.search(visitor, "lantern")[0]["title"]


def test_of_a_visitor_who_left_no_model_is_kept(service, visitor):
    service.add_item(visitor, TENT)
    assert len(service._own_items._views) == 1
    service.add_item(visitor, {**TENT, "title": "Another"})
    assert len(service._own_items._views) == 1
    service.forget(visitor)
    service.forget(None)
    assert not service._own_items._views
