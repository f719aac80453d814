"""What would have to change is true: making the change gives the place that was said."""

import pytest
from llm4rec.spaces_demo.recommending import Wish, recommend
from llm4rec.spaces_demo.why_not import why_not


@pytest.fixture
def missed(snapshot, visitor):
    """An item that is not among the first ten but not far."""
    listed = recommend(snapshot, visitor.history, [], Wish(k=40))
    return listed.records[30]["item_id"]


def place(snapshot, history, item, wish):
    return why_not(snapshot, history, [], item, wish).record["rank"]


def test_each_change_gives_the_place_that_was_said(snapshot, visitor, missed):
    wish = Wish(popularity=0.0)
    answer = why_not(snapshot, visitor.history, [], missed, wish)
    catalog = snapshot.processor.catalog
    ids = {catalog.title(index): catalog.item_ids[index] for index in range(len(catalog))}
    assert not answer.shown
    assert answer.record["rank"] == 31
    assert answer.changes
    for change in answer.changes:
        assert change.rank < 31
        if change.kind == "with":
            found = place(snapshot, [*visitor.history, ids[change.name]], missed, wish)
        elif change.kind == "without":
            found = place(snapshot, [one for one in visitor.history if one != ids[change.name]], missed, wish)
        else:
            found = place(snapshot, visitor.history, missed, Wish(popularity=float(change.name)))
        assert found == change.rank


def test_an_item_on_the_list_is_said_to_be_there(snapshot, visitor):
    first = recommend(snapshot, visitor.history, [], Wish()).records[0]
    answer = why_not(snapshot, visitor.history, [], first["item_id"], Wish())
    assert answer.shown
    assert answer.record["rank"] == 1


def test_what_is_chosen_or_hidden_says_so(snapshot, visitor, missed):
    assert "in your history already" in why_not(snapshot, visitor.history, [], visitor.history[0], Wish()).text
    assert "was denied" in why_not(snapshot, visitor.history, [missed], missed, Wish()).text


def test_the_nearest_titles_are_named_where_none_is_meant(service, visitor):
    with pytest.raises(ValueError, match="No item has the id"):
        service.why_not(visitor, "zeppelin", service.wish())
    with pytest.raises(ValueError, match="No item is named"):
        service.why_not(visitor, "  ", service.wish())
