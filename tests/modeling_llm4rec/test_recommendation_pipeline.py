"""The pipeline answers requests as `recommend` does, by ids and titles, one by one, in batches and in streams."""

from itertools import chain

import llm4rec  # noqa: F401  (registers the task)
import pytest
from datasets import Dataset
from llm4rec.modeling_llm4rec import PopularityConfig, RecommendationPipeline
from transformers import AutoModelForCausalLM, AutoProcessor, pipeline

HISTORIES = [["i0", "i4", "i2"], ["i5"], ["i1", "i3", "i8", "i9", "i10", "i11", "i6", "i7"], []]


@pytest.fixture(scope="module")
def saved(tmp_path_factory, model, processor):
    folder = tmp_path_factory.mktemp("recommender")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def recommender(saved):
    return pipeline("recommendation", model=saved, device="cpu")


def ids(answer):
    return [item["item_id"] for item in answer]


def test_a_name_is_enough(recommender, model, processor):
    answer = recommender({"history": ["i0", "i4"], "k": 3})
    assert type(recommender) is RecommendationPipeline
    out = model.recommend(**processor(histories=[["i0", "i4"]], return_tensors="pt"), k=3)
    for item, known in zip(answer, processor.decode_items(out)[0], strict=True):
        assert item == known | {"score": pytest.approx(known["score"], abs=1e-4)}
    assert list(answer[0])[:3] == ["item_id", "title", "score"]


def test_a_loaded_model_and_its_processor(model, processor, recommender):
    loaded = pipeline("recommendation", model=model, processor=processor, device="cpu")
    assert ids(loaded(["i0"])) == ids(recommender(["i0"]))


def test_titles_stand_for_ids_in_every_list(recommender):
    assert recommender(["RED tent", "i4", "warm bagg"]) == recommender(["i0", "i4", "i2"])
    assert recommender({"history": ["i5"], "allow": ["red tent", "i3"], "deny": ["cold bag"]}) == recommender(
        {"history": ["i5"], "allow": ["i0"]}
    )


def test_options_of_the_request_come_before_those_of_the_call_and_of_the_pipeline(saved):
    recommender = pipeline("recommendation", model=saved, device="cpu", k=4, filter_seen=False)
    assert [len(recommender(["i0"], **options)) for options in ({}, {"k": 2})] == [4, 2]
    assert len(recommender({"history": ["i0"], "k": 1}, k=2)) == 1
    assert "i0" in ids(recommender({"history": ["i0"], "k": 12}))
    assert "i0" not in ids(recommender({"history": ["i0"], "k": 12, "filter_seen": True}))


def test_ratings_and_times_count(recommender, model, processor):
    request = {"history": ["i0", "i4"], "ratings": [5, None], "timestamps": [10, 86_400], "k": 12}
    batch = processor(histories=[["i0", "i4"]], ratings=[[5, None]], timestamps=[[10, 86_400]], return_tensors="pt")
    assert ids(recommender(request)) == ids(processor.decode_items(model.recommend(**batch, k=12))[0])
    assert recommender(request) != recommender({"history": ["i0", "i4"], "k": 12})


def test_explanations_come_with_the_items(recommender, model, processor):
    answer = recommender({"history": ["i0", "i4"], "k": 2, "explain": True, "style": "sceptical", "language": "de"})
    out = model.recommend(**processor(histories=[["i0", "i4"]], return_tensors="pt"), k=2, explain=True)
    texts = processor.render_explanations(out, "sceptical", "de")[0]
    assert [item["explanation"]["text"] for item in answer] == texts
    record = processor.decode_explanations(out)[0][0]
    assert answer[0]["explanation"].keys() == record.keys() | {"text"}
    assert len(answer[0]["explanation"]["evidence"]) == len(record["evidence"])


@pytest.mark.parametrize("batch_size", [None, 1, 3, 64])
def test_batches_do_not_change_answers(recommender, batch_size):
    requests = [
        *({"history": history} for history in HISTORIES),
        {"history": ["i0"], "k": 2, "explain": True},
        {"history": ["i0"], "filter_seen": False, "deny": ["i3"]},
        {"history": ["i1", "i2"], "ratings": [1, 5]},
        {"history": ["i7"], "allow": ["i1", "i2"]},
        {"history": ["i7"], "allow": ["i3"], "request_time": 5},
    ]
    together = recommender(requests, k=4, batch_size=batch_size)
    alone = [recommender(request, k=4) for request in requests]
    assert [ids(answer) for answer in together] == [ids(answer) for answer in alone]
    for one, other in zip(chain(*together), chain(*alone), strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    assert [len(answer) for answer in together] == [4, 4, 4, 4, 2, 4, 4, 2, 1]
    assert "explanation" in together[4][0]


def test_lists_of_histories_and_nothing(recommender):
    alone = [recommender({"history": history}) for history in HISTORIES]
    assert [ids(answer) for answer in recommender(HISTORIES)] == [ids(answer) for answer in alone]
    assert ids(recommender(HISTORIES[0])) == ids(alone[0])
    assert recommender([]) == []
    assert len(recommender([[]])) == 1


def test_streams_are_answered_as_they_come(recommender):
    asked = []

    def requests():
        for history in HISTORIES:
            asked.append(history)
            yield {"history": history}

    answers = recommender(requests(), k=2)
    first = next(iter(answers))
    assert len(asked) <= 2
    assert ids(first) == ids(recommender(HISTORIES[0], k=2))


def test_a_data_set_is_answered_row_by_row(recommender):
    table = Dataset.from_list([{"history": ["i0"], "k": 2}, {"history": ["blue tent"], "k": None}])
    answers = list(recommender(table, batch_size=2))
    assert [len(answer) for answer in answers] == [2, 10]
    assert ids(answers[1]) == ids(recommender(["i1"]))


def test_popularity_and_memory_are_asked_for_by_request(new_model, processor):
    import torch

    model = new_model(processor)
    popularity = torch.arange(12.0).unsqueeze(0)
    model.add_popularity_prior(PopularityConfig(), popularity, torch.zeros(1))
    recommender = pipeline("recommendation", model=model, processor=processor, device="cpu")
    answers = recommender([{"history": ["i0"], "popularity": 100.0}, {"history": ["i0"], "popularity": -100.0}], k=12)
    assert ids(answers[0])[0] == "i11"
    assert ids(answers[1])[0] == "i1"


def test_items_added_later_are_known_by_their_titles(new_model, new_processor, tiny):
    processor = new_processor()
    recommender = pipeline("recommendation", model=new_model(processor), processor=processor, device="cpu")
    with pytest.raises(ValueError, match="Several titles are close to “red stove”"):
        recommender(["red stove"])
    processor.add_items(tiny.new_items())
    with pytest.raises(ValueError, match="catalog has 14 items, the model has 12"):
        recommender(["red stove"])
    recommender.model.add_items(processor.item_features(tiny.new_items()))
    assert "n0" not in ids(recommender(["red stove"], k=14))


def test_it_saves_what_it_was_made_of(recommender, tmp_path):
    recommender.save_pretrained(tmp_path)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path)).__name__ == "LLM4RecForCausalLM"
    assert len(AutoProcessor.from_pretrained(tmp_path).catalog) == 12
    again = pipeline("recommendation", model=str(tmp_path), device="cpu")
    assert again(["i0"]) == recommender(["i0"])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("i0", "Got 'i0' of type str, expected a request: a list of item ids or titles"),
        (5, "Got 5 of type int"),
        (None, "Got None of type NoneType"),
        ({}, "A request needs a `history`.*Got nothing"),
        ({"item": ["i0"]}, "A request needs a `history`.*Got 'item'"),
        ({"history": "i0"}, "`history` is 'i0', expected a list of item ids or titles"),
        ({"history": [["i0"]]}, "`history` holds .'i0'., expected item ids or titles"),
        ({"history": [None]}, "Got an empty text, expected the id or the title of an item"),
        ({"history": ["green sofa"]}, "No item has the id “green sofa” or a title close to it"),
        ({"history": ["i0"], "deny": ["green sofa"]}, "No item has the id “green sofa”"),
        ({"history": ["i0"], "K": 3}, "got 'K'; did you mean|got 'K'; known are"),
        ({"history": ["i0"], "explane": True}, "got 'explane'; did you mean 'explain'"),
        ({"history": ["i0"], "k": 0}, "`k` is 0, expected a whole number, at least 1"),
        ({"history": ["i0"], "k": True}, "`k` is True, expected a whole number"),
        ({"history": ["i0"], "k": "3"}, "`k` is '3', expected a whole number"),
        ({"history": ["i0"], "explain": "yes"}, "`explain` is 'yes', expected true or false"),
        ({"history": ["i0"], "style": "rude"}, "`style` is 'rude', expected one of short"),
        ({"history": ["i0"], "language": ["en"]}, "`language` is .'en'., expected one of en"),
        ({"history": ["i0"], "popularity": float("nan")}, "`popularity` is nan, expected a finite number"),
        ({"history": ["i0"], "popularity": 1.0}, "needs a model with a popularity prior"),
        ({"history": ["i0"], "ratings": [1, 2]}, "`ratings` has 2 values for a history of 1 items"),
        ({"history": ["i0"], "timestamps": ["now"]}, "`timestamps` is .'now'., expected a list of unix seconds"),
        ({"history": ["i0"], "request_time": 1.5}, "`request_time` is 1.5, expected unix seconds"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(recommender, request_, message):
    with pytest.raises(ValueError, match=message):
        recommender(request_)


def test_of_many_requests_the_one_at_fault_is_named(recommender):
    with pytest.raises(ValueError, match="Request 3: No item has the id"):
        recommender([["i0"], ["i1"], ["green sofa"]])
    with pytest.raises(ValueError, match="batch_size is 0, expected 1 or more"):
        recommender([["i0"]], batch_size=0)
    with pytest.raises(ValueError, match="got 'top'; known are"):
        recommender(["i0"], top=5)


def test_a_model_that_is_no_recommender_is_refused(tmp_path, tiny, processor):
    backbone = tiny.backbone(tmp_path)
    with pytest.raises(ValueError, match="needs a recommender and its processor, got Qwen3ForCausalLM"):
        pipeline("recommendation", model=backbone, processor=processor, device="cpu")
