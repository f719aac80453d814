"""Processor: histories and text to tokens and back, event ids, item features, saving."""

import numpy as np
import polars as pl
import pytest
import torch
from llm4rec.modeling_llm4rec import Catalog, LLM4RecProcessor
from llm4rec.modeling_llm4rec.event_embedding import rating_ids, time_gap_ids


def assert_same_features(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_a_history_is_a_start_token_then_one_token_per_item(processor):
    batch = processor(histories=[["i0", "i11"]])
    assert batch["input_ids"] == [[processor.start_id, 260, 271]]


def test_shorter_histories_are_padded_on_the_tokenizers_side(tiny):
    processor = tiny.processor(rating_levels=(), num_time_gaps=0)
    pad, start = processor.tokenizer.pad_token_id, processor.start_id
    batch = processor(histories=[["i0", "i1"], []])
    assert batch["input_ids"] == [[start, 260, 261], [pad, pad, start]]
    assert batch["attention_mask"] == [[1, 1, 1], [0, 0, 1]]
    processor.tokenizer.padding_side = "right"
    batch = processor(histories=[["i0", "i1"], []])
    assert batch["input_ids"] == [[start, 260, 261], [start, pad, pad]]


def test_a_long_history_keeps_its_latest_events_and_reports_all_as_seen(processor):
    history = [f"i{index}" for index in range(9)]
    batch = processor(histories=[history, ["i4"]], return_tensors="pt")
    assert batch["input_ids"][0].tolist() == [processor.start_id, *range(263, 269)]
    assert batch["seen_items"].tolist() == [[*range(9)], [4, *[-1] * 8]]


def test_an_unknown_item_id_names_the_nearest_known_ones(processor):
    with pytest.raises(ValueError, match=r"Unknown item id 'i1O'. Nearest known: i1"):
        processor(histories=[["i0", "i1O"]])
    with pytest.raises(ValueError, match=r"Unknown item id 'i1O'"):
        processor(text="<|item:i1O|>")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "exactly one of `text` and `histories`"),
        ({"text": "a", "histories": [["i0"]]}, "exactly one of `text` and `histories`"),
        ({"histories": ["i0", "i1"]}, "expected a list of item ids per user"),
        ({"histories": [["i0", "i1"]], "ratings": [[5]]}, r"ratings\[0\] has 1 values for a history of 2 items"),
        ({"histories": [["i0"]], "timestamps": [[5, 6]]}, r"timestamps\[0\] has 2 values for a history of 1 items"),
    ],
)
def test_wrong_input_says_what_was_expected(processor, kwargs, message):
    with pytest.raises(ValueError, match=message):
        processor(**kwargs)


def test_ratings_for_fewer_users_than_histories_are_refused(processor):
    with pytest.raises(ValueError, match="ratings has 1 entries for 2 histories"):
        processor(histories=[["i0"], ["i1"]], ratings=[[5]])


def test_ids_may_be_numbers(tiny):
    processor = LLM4RecProcessor.from_catalog({"item_id": [10, 20], "title": ["a", "b"]}, {"title": "text"})
    assert processor(histories=[[20, "10"]])["input_ids"] == [[processor.start_id, 261, 260]]


def test_a_rating_gets_the_id_of_its_nearest_level():
    ratings = np.array([1.0, 2.4, 2.6, 5.0, 9.0, -3.0, np.nan])
    assert rating_ids(ratings, [1.0, 2.0, 3.0, 4.0, 5.0]).tolist() == [1, 2, 3, 5, 5, 1, 0]
    assert rating_ids(np.array([]), [1.0, 2.0]).tolist() == []


def test_time_gaps_fall_into_buckets_that_double():
    # Gaps 0, 1, 2, 3, 6, 7 seconds, a day and a half, a year; bucket = 1 + floor(log2(1 + gap)).
    gaps = [0, 1, 2, 3, 6, 7, 131_071, 31_536_000]
    times = np.cumsum([0, *gaps])
    assert time_gap_ids(times, 32).tolist() == [0, 1, 2, 2, 3, 3, 4, 18, 25]
    assert time_gap_ids(times, 4).tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 4]


def test_unknown_times_and_times_that_run_backwards():
    assert time_gap_ids(np.array([10, -1, 12, 13, 5]), 32).tolist() == [0, 0, 0, 2, 1]
    assert time_gap_ids(np.array([7]), 32).tolist() == [0]
    assert time_gap_ids(np.array([]), 32).tolist() == []


def test_event_ids_stand_at_their_items_and_know_what_was_cut_off(processor):
    batch = processor(
        histories=[[f"i{index}" for index in range(8)], ["i0"]],
        ratings=[[1, 2, 3, 4, 5, None, 2, 1], [4]],
        timestamps=[[0, 1, 2, 3, 4, 5, 6, 13], [100]],
    )
    assert batch["rating_ids"] == [[0, 3, 4, 5, 0, 2, 1], [0, 0, 0, 0, 0, 0, 4]]
    # The first kept event has a predecessor that the model does not read; its gap is known all the same.
    assert batch["time_gap_ids"] == [[0, 2, 2, 2, 2, 2, 4], [0] * 7]


def test_text_with_item_placeholders_comes_back(processor):
    text = "After <|item:i3|> and <|item:i11|>, grüße 🙂!"
    ids = processor(text=text)["input_ids"][0]
    assert [token for token in ids if token >= 260] == [263, 271]
    assert processor.decode(ids) == text
    assert processor.batch_decode(torch.tensor([ids])) == [text]


def test_an_id_with_odd_characters_stands_in_a_placeholder():
    odd = "a|b <c>: d/é"
    processor = LLM4RecProcessor.from_catalog({"item_id": [odd, "x"], "title": ["a", "b"]}, {"title": "text"})
    text = f"see <|item:{odd}|> and <|item:x|>"
    assert processor.decode(processor(text=text)["input_ids"][0]) == text


def test_several_texts_are_padded(processor):
    batch = processor(text=["<|item:i0|>", "ab <|item:i1|>"], return_tensors="pt")
    assert batch["input_ids"].shape == (2, 4)
    assert batch["attention_mask"].sum(-1).tolist() == [1, 4]


def test_an_empty_text_is_one_token(processor):
    assert processor(text="")["input_ids"] == [[processor.start_id]]


def test_features_mark_what_is_missing(processor):
    present = processor.item_features()["present"]
    assert present[0].tolist() == [True] * 5
    assert present[3].tolist() == [True, True, True, False, False]
    # i11 has a title only; i10's category is missing.
    assert present[11].tolist() == [True, True, False, False, False]
    assert present[10].tolist() == [True, True, False, False, True]


def test_numerical_features_are_standardised_over_the_known_ones(processor, tiny):
    prices = np.array([price for price in tiny.catalog()["price"] if price is not None])
    features = processor.item_features()
    expected = (prices - prices.mean()) / prices.std()
    np.testing.assert_allclose(features["price"][features["present"][:, 3]].numpy(), expected, rtol=1e-5)


def test_a_category_that_the_catalog_did_not_know_is_missing(processor):
    features = processor.item_features({"item_id": ["n"], "category": [["spaceship"]]})
    assert features["present"].tolist() == [[True, False, False, False, False]]


def test_a_number_that_is_none_says_which_column(processor):
    with pytest.raises(ValueError, match="Column 'price' holds 'cheap', expected a number or nothing"):
        processor.item_features({"item_id": ["n"], "price": ["cheap"]})


def test_a_vector_of_another_length_says_which_column(processor):
    with pytest.raises(ValueError, match="Column 'picture' holds a vector of length 3, expected 4"):
        processor.item_features({"item_id": ["n"], "picture": [[1.0, 2.0, 3.0]]})


def test_infinite_and_nan_numbers_are_missing(processor):
    features = processor.item_features({"item_id": ["n", "m"], "price": [float("nan"), float("inf")]})
    assert not features["present"][:, 3].any()
    assert features["price"].isfinite().all()


def test_text_vectors_are_cached_by_content(tmp_path, processor):
    first = processor.item_features(cache=tmp_path)
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    assert_same_features(processor.item_features(cache=tmp_path), first)
    processor.item_features({"item_id": ["n"], "title": ["red stove"]}, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("form", ["dict", "rows", "polars", "arrow", "pandas", "datasets"])
def test_items_may_come_in_any_kind_of_table(tiny, processor, form):
    columns = {name: values for name, values in tiny.catalog().items() if name != "picture"}
    table = {
        "dict": lambda: columns,
        "rows": lambda: [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        "polars": lambda: pl.DataFrame(columns),
        "arrow": lambda: __import__("pyarrow").table(columns),
        "pandas": lambda: __import__("pandas").DataFrame(columns),
        "datasets": lambda: __import__("datasets").Dataset.from_dict(columns),
    }[form]()
    kinds = {name: kind for name, kind in tiny.modalities.items() if name != "picture"}
    features = LLM4RecProcessor.from_catalog(table, kinds).item_features()
    expected = LLM4RecProcessor.from_catalog(columns, kinds).item_features()
    assert_same_features(features, expected)


def test_a_processor_comes_back_from_disk_with_catalog_and_text_encoder(tmp_path, tiny):
    processor = tiny.processor()
    processor.save_pretrained(tmp_path)
    loaded = LLM4RecProcessor.from_pretrained(tmp_path)
    assert loaded.catalog.columns == processor.catalog.columns
    assert loaded.model_config() == processor.model_config()
    assert (loaded.max_history, loaded.start_id) == (processor.max_history, processor.start_id)
    assert_same_features(loaded.item_features(), processor.item_features())
    assert_same_features(loaded.item_features(tiny.new_items()), processor.item_features(tiny.new_items()))
    arguments = {"histories": tiny.histories, "ratings": [[3] * len(history) for history in tiny.histories]}
    assert dict(loaded(**arguments)) == dict(processor(**arguments))


def test_items_added_before_saving_are_there_after_loading(tmp_path, tiny):
    processor = tiny.processor()
    processor.add_items(tiny.new_items())
    processor.save_pretrained(tmp_path)
    loaded = LLM4RecProcessor.from_pretrained(tmp_path)
    assert loaded.catalog.item_ids[-2:] == ["n0", "n1"]
    assert loaded(histories=[["n0"]]) == processor(histories=[["n0"]])


def test_a_folder_without_a_catalog_says_so_when_one_is_needed(tmp_path, tiny):
    LLM4RecProcessor(tiny.processor().tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no catalog.*from_catalog"):
        LLM4RecProcessor.from_pretrained(tmp_path)(histories=[["i0"]])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"title": ["a"]}, r"needs the column 'item_id', got \['title'\]"),
        ({"item_id": ["a", "a"]}, "'a' occurs twice"),
        ({"item_id": ["a", None]}, "Item 1 has an empty item_id"),
        ({"item_id": ["a"], "title": ["x", "y"]}, "must have one length"),
        (3, None),
    ],
)
def test_a_bad_catalog_says_what_is_wrong(table, message):
    with pytest.raises((ValueError, TypeError), match=message or "Expected a table of items"):
        Catalog(table)


def test_a_modality_without_a_column_is_refused(tiny):
    with pytest.raises(ValueError, match="Modality 'colour' has no column in the item table"):
        LLM4RecProcessor.from_catalog(tiny.catalog(), {"colour": "categorical"})


def test_words_of_three_items_get_embeddings_and_their_case_does_not_count(tiny):
    processor = tiny.processor(words_per_text=4)
    names = [modality.name for modality in processor.model_config()["modalities"]]
    assert names == ["id", "title", "title words", "category", "price", "picture"]
    known = processor.items["modalities"][1]["values"]
    assert sorted(known) == ["bag", "lamp", "red", "stove"]
    same = processor.item_features({"item_id": ["a", "b"], "title": ["Red LAMP!", "lamp (red)"]})["title words"]
    assert torch.equal(same[0], same[1])
    assert (same[0] > 0).sum() == 2


def test_a_title_of_unknown_words_has_no_words(tiny):
    features = tiny.processor(words_per_text=4).item_features({"item_id": ["a"], "title": ["zyx"]})
    assert features["present"].tolist() == [[True, True, False, False, False, False]]


def test_learned_words_tell_items_apart_after_saving_and_loading(tmp_path, tiny):
    processor = tiny.processor(words_per_text=4)
    processor.save_pretrained(tmp_path)
    again = type(processor).from_pretrained(tmp_path)
    assert torch.equal(again.item_features()["title words"], processor.item_features()["title words"])
    model = tiny.model(processor)
    table = {"item_id": ["n0", "n1"], "title": ["red zyx", "lamp zyx"]}
    model.add_items(again.item_features(table))
    new = model.model.item_table()[-2:]
    assert not torch.allclose(new[0], new[1])
