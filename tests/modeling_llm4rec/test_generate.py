"""generate(): inside the catalog when asked, the same scores as forward, text otherwise."""

import pytest
import torch

GREEDY = {"do_sample": False}
WAYS = {
    "greedy": GREEDY,
    "sampling": {"do_sample": True, "temperature": 5.0, "top_k": 0, "top_p": 0.999},
    "top_k": {"do_sample": True, "temperature": 3.0, "top_k": 50},
    "beams": {"do_sample": False, "num_beams": 3},
    "beam_sampling": {"do_sample": True, "num_beams": 3, "temperature": 2.0},
    "slates": {"do_sample": True, "num_return_sequences": 4, "temperature": 4.0},
}


def generated(model, batch, n=4, **kwargs):
    torch.manual_seed(0)
    out = model.generate(**batch, items_only=True, max_new_tokens=n, **kwargs)
    return out[:, batch["input_ids"].shape[1] :] - model.config.text_vocab_size


@pytest.fixture
def two_users(processor):
    return processor(histories=[["i0", "i4", "i2"], ["i5"]], return_tensors="pt")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", ["qwen3", "gpt_neox"])
def test_generation_never_leaves_the_catalog(tiny, processor, two_users, way, architecture):
    model = tiny.model(processor, architecture)
    items = generated(model, two_users, **WAYS[way])
    assert items.shape[1] == 4
    assert ((items >= 0) & (items < 12)).all()


@pytest.mark.parametrize("way", WAYS)
def test_generation_repeats_no_item_and_none_of_the_history(model, two_users, way):
    items = generated(model, two_users, **WAYS[way])
    each = len(items) // 2
    for row, slate in enumerate(items.tolist()):
        history = [0, 4, 2] if row < each else [5]
        assert len(set(slate) | set(history)) == len(slate) + len(history)


def test_repeats_are_possible_on_request(model, two_users):
    items = generated(model, two_users, n=30, do_sample=True, temperature=5.0, no_repeats=False)
    assert all(len(set(slate)) < 30 for slate in items.tolist())


@pytest.mark.parametrize("way", WAYS)
def test_generation_repeats_no_item_of_a_history_longer_than_the_model_reads(model, processor, way):
    long = ["i1", "i3", "i8", "i9", "i10", "i11", "i6"]
    batch = processor(histories=[long, ["i5"]], return_tensors="pt")
    items = generated(model, batch, **WAYS[way])
    assert set(items[: len(items) // 2].flatten().tolist()) <= {0, 2, 4, 5, 7}


@pytest.mark.parametrize("way", WAYS)
def test_generation_stays_inside_the_allow_mask(model, processor, two_users, way):
    allow = processor.item_mask(["i1", "i3", "i6", "i7", "i8"])
    items = generated(model, two_users, n=3, allow=allow, **WAYS[way])
    assert set(items.flatten().tolist()) <= {1, 3, 6, 7, 8}


@pytest.mark.parametrize("way", ["greedy", "sampling", "beams"])
def test_a_slate_longer_than_the_candidates_is_refused_before_it_leaves_the_catalog(model, processor, two_users, way):
    allow = processor.item_mask(["i0", "i1", "i3"])
    with pytest.raises(ValueError, match=r"no item left for sequence 0 .*max_new_tokens.*no_repeats=False"):
        generated(model, two_users, n=3, allow=allow, **WAYS[way])


@pytest.mark.parametrize("sample", [False, True])
def test_more_beams_than_candidates_never_leave_the_catalog(model, processor, two_users, sample):
    allow = processor.item_mask(["i1", "i3"])
    beams = {"allow": allow, "num_beams": 6, "do_sample": sample}
    items = generated(model, two_users, n=2, **beams)
    assert set(items.flatten().tolist()) == {1, 3}
    try:
        items = generated(model, two_users, n=2, num_return_sequences=6, **beams)
    except ValueError as error:
        assert "fewer sequences of distinct items" in str(error)  # noqa: PT017
    else:
        assert set(items.flatten().tolist()) == {1, 3}


def test_greedy_generation_continues_with_what_recommend_ranks_first(model, two_users):
    items = generated(model, two_users, n=1, **GREEDY)
    assert items[:, 0].tolist() == model.recommend(**two_users, k=1).items[:, 0].tolist()


def test_cached_generation_equals_generation_without_a_cache(model, batch):
    inputs = {name: values for name, values in batch.items() if name != "seen_items"}
    assert torch.equal(
        generated(model, inputs, n=2, use_cache=True, **GREEDY),
        generated(model, inputs, n=2, use_cache=False, **GREEDY),
    )


def test_event_ids_of_the_prompt_count_in_generation(model, processor):
    inputs = processor(histories=[["i0", "i4"]] * 5, ratings=[[r, r] for r in range(1, 6)], return_tensors="pt")
    out = model.generate(
        **inputs, items_only=True, max_new_tokens=1, output_scores=True, return_dict_in_generate=True, **GREEDY
    )
    with torch.no_grad():
        expected = model(**inputs).logits[:, -1]
    kept = out.scores[0].isfinite()
    torch.testing.assert_close(out.scores[0][kept], expected[kept])
    assert not torch.allclose(expected[0], expected[4], atol=1e-3)


def test_allow_without_items_only_is_refused(model, processor, two_users):
    with pytest.raises(ValueError, match="`allow` without `items_only=True`"):
        model.generate(**two_users, allow=processor.item_mask(["i0"]))


def test_generated_items_and_text_decode_to_placeholders_and_words(model, processor):
    batch = processor(text="I bought <|item:i3|>", return_tensors="pt")
    out = model.generate(**batch, items_only=True, max_new_tokens=2, **GREEDY)
    text = processor.batch_decode(out)[0]
    assert text.startswith("I bought <|item:i3|><|item:")
    assert processor(text=text)["input_ids"] == out.tolist()


def test_unrestricted_generation_may_write_text(model, processor):
    batch = processor(text="Why?", return_tensors="pt")
    out = model.generate(**batch, max_new_tokens=5, do_sample=True)
    assert out.shape[1] >= batch["input_ids"].shape[1] + 1
