"""A recommender with a memory: unchanged until trained to listen, immediate, persistent, safe against stale files."""

import json

import pytest
import torch
from llm4rec.modeling_llm4rec import LLM4RecForCausalLM, RetrievalConfig, RetrievalMemory
from llm4rec.modeling_llm4rec.retrieval import latest_first
from llm4rec.modeling_llm4rec.vector_memory import VectorMemory


def with_memory(model, listens=True, **config):
    """Give a model a memory of three histories; `listens` opens the gates."""
    model.add_retrieval(RetrievalConfig(neighbours=4, **config))
    memory = RetrievalMemory(
        model.config.retrieval, model.num_items, model.config.text_config.hidden_size, model.content_vectors()
    )
    memory.transitions.learn(torch.tensor([0, 1, 2, 0, 3, 5, 4]), torch.tensor([3, 2, 2]))
    memory.probe = {"input_ids": model.probe_sequences()}
    memory.probe["states"] = model._probe_states(memory.probe["input_ids"])
    model.attach_memory(memory)
    if listens:
        with torch.no_grad():
            model.model.retrieval_adapter.source_weight.fill_(1.0)
    return model.eval()


@pytest.fixture
def listening(tiny):
    """A model with a memory that it listens to."""
    return with_memory(tiny.model(tiny.processor()))


def scores_of(model, batch, **kwargs):
    with torch.no_grad():
        return model.score_items(**batch, **kwargs)


def test_an_untrained_adapter_changes_nothing(tiny, batch):
    plain = tiny.model(tiny.processor())
    before = scores_of(plain, batch)
    after = scores_of(with_memory(plain, listens=False), batch)
    torch.testing.assert_close(after, before)


def test_retrieved_items_gain_and_others_do_not(listening, batch):
    gained = scores_of(listening, batch) - scores_of(listening, batch, retrieval=False)
    context = listening.recommend(**batch, k=3).retrieved
    for row in range(len(gained)):
        found = set(context.items[row].flatten().tolist()) - {-1}
        assert set(gained[row].abs().gt(1e-6).nonzero().flatten().tolist()) <= found
    assert gained.abs().max() > 0.1


def test_relevance_is_the_normalised_product_of_its_parts(listening, batch):
    context = listening.recommend(**batch, k=3).retrieved
    product = context.similarity * context.decay * context.credibility
    total = product.sum(-1, keepdim=True)
    expected = torch.where(total > 0, product / total.clamp(min=1e-12), 0.0)
    torch.testing.assert_close(context.relevance, expected)


def test_an_empty_memory_is_no_hindrance(tiny, batch):
    model = tiny.model(tiny.processor())
    before = scores_of(model, batch)
    model.add_retrieval()
    model.attach_memory(RetrievalMemory(model.config.retrieval, model.num_items, 16))
    with torch.no_grad():
        model.model.retrieval_adapter.source_weight.fill_(1.0)
        model.model.retrieval_adapter.attention_gate.fill_(1.0)
    torch.testing.assert_close(scores_of(model, batch), before)


def test_a_remembered_event_changes_the_next_recommendation_without_training(listening, processor):
    batch = processor(histories=[["i8", "i9"]], return_tensors="pt")
    before = listening.recommend(**batch, k=12).scores
    listening.remember(**batch, items=torch.tensor([7]))
    out = listening.recommend(**batch, k=12)
    assert not torch.equal(out.scores, before)
    transitions = out.retrieved.items[0, out.retrieved.sources.index("transitions")]
    behaviour = out.retrieved.items[0, out.retrieved.sources.index("behaviour")]
    assert 7 in transitions
    assert behaviour[0] == 7


def test_remembering_an_unknown_item_is_refused_and_nothing_is_taken_in(listening, batch):
    size = len(listening.memory)
    with pytest.raises(ValueError, match="expected indices below 12"):
        listening.remember(**batch, items=torch.tensor([1, 2, 3, 99]))
    assert len(listening.memory) == size


def test_a_forgotten_user_leaves_no_trace(listening, processor):
    batch = processor(histories=[["i8", "i9"]], return_tensors="pt")
    before = scores_of(listening, batch)
    listening.memory.add_event(torch.tensor([], dtype=torch.long), torch.ones(16), 8, owner=3)
    listening.memory.add_event(torch.tensor([8]), torch.ones(16), 10, owner=3)
    assert not torch.allclose(scores_of(listening, batch), before)
    listening.memory.forget_owner(3, torch.tensor([8, 10]))
    torch.testing.assert_close(scores_of(listening, batch), before)


def test_forgetting_a_doubtful_event_leaves_the_credibility_of_others_events(listening):
    memory = listening.memory
    nobody = torch.tensor([], dtype=torch.long)
    before = memory.transitions.search(torch.tensor([[1]]), 12)
    memory.add_event(nobody, torch.ones(16), 1, owner=3)
    memory.add_event(torch.tensor([1]), torch.ones(16), 2, credibility=0.25, owner=3)
    memory.forget_owner(3, torch.tensor([1, 2]), torch.tensor([1.0, 0.25]))
    for then, now in zip(before, memory.transitions.search(torch.tensor([[1]]), 12), strict=True):
        torch.testing.assert_close(now, then)


def test_a_new_item_is_found_by_what_is_written_about_it(listening, tiny):
    processor = tiny.processor()
    table = tiny.new_items()
    processor.add_items(table)
    listening.add_items(processor.item_features(table))
    batch = processor(histories=[["i11"]], return_tensors="pt")  # a red map; the new item is a red stove
    context = listening.recommend(**batch, k=3).retrieved
    metadata = context.items[0, context.sources.index("metadata")].tolist()
    assert len(listening.memory.metadata.keys) == listening.num_items == listening.memory.num_items
    assert 12 in metadata


def test_generate_and_recommend_agree_on_the_next_item(listening, processor):
    batch = processor(histories=[["i0", "i4", "i2"]], return_tensors="pt")
    token = listening.generate(**batch, items_only=True, max_new_tokens=1, do_sample=False)[0, -1]
    best = listening.recommend(**batch, k=1).items[0, 0]
    assert int(token) - listening.config.text_vocab_size == int(best)


def test_the_approximate_path_finds_the_retrieved_items_too(listening, batch):
    exact = listening.recommend(**batch, k=3)
    nearly = listening.recommend(**batch, k=3, exact=False)
    assert torch.equal(exact.items, nearly.items)
    torch.testing.assert_close(exact.scores, nearly.scores, rtol=1e-4, atol=1e-4)


def test_a_saved_memory_reads_back_and_recommends_the_same(listening, batch, tmp_path):
    listening.remember(**batch, items=torch.tensor([1, 2, 3, 4]))
    listening.save_pretrained(tmp_path)
    again = LLM4RecForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(scores_of(again, batch), scores_of(listening, batch))
    assert again.memory.sizes() == {**listening.memory.sizes(), "transitions": again.memory.sizes()["transitions"]}


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf"])
def test_a_memory_is_saved_over_the_files_it_was_read_from(tiny, batch, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("llm4rec.modeling_llm4rec.vector_index.VectorIndex.kind_for", lambda count: kind)
    model = with_memory(tiny.model(tiny.processor()))
    keys = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    model.memory.behaviour.add(keys, torch.arange(400) % 12)
    model.save_pretrained(tmp_path)
    again = LLM4RecForCausalLM.from_pretrained(tmp_path).eval()
    for round_ in range(3):
        again.remember(**batch, items=torch.tensor([1, 2, 3, round_]))
        expected = scores_of(again, batch)
        again.save_pretrained(tmp_path)
        torch.testing.assert_close(scores_of(again, batch), expected)
        torch.testing.assert_close(scores_of(LLM4RecForCausalLM.from_pretrained(tmp_path).eval(), batch), expected)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("file", ["memory.json", "keys.safetensors", "transitions.parquet", "behaviour.parquet"])
@pytest.mark.parametrize("harm", ["missing", "truncated", "changed"])
def test_a_harmed_file_is_named_and_the_model_loads_without_it(listening, batch, tmp_path, file, harm):
    listening.save_pretrained(tmp_path)
    path = tmp_path / "memory" / file
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif file == "memory.json":
        path.write_text(json.dumps({"format": 99, "files": {}, "num_items": 1, "index": {}}))
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        LLM4RecForCausalLM.from_pretrained(tmp_path)
    plain = LLM4RecForCausalLM.from_pretrained(tmp_path, retrieval=False).eval()
    torch.testing.assert_close(scores_of(plain, batch), scores_of(listening, batch, retrieval=False))


def test_a_model_loaded_without_its_memory_can_be_saved_and_loaded_again(listening, tmp_path):
    listening.save_pretrained(tmp_path / "a")
    LLM4RecForCausalLM.from_pretrained(tmp_path / "a", retrieval=False).save_pretrained(tmp_path / "b")
    assert LLM4RecForCausalLM.from_pretrained(tmp_path / "b").memory is None


def test_a_changed_encoder_makes_the_memory_an_error(listening, batch):
    listening.recommend(**batch)
    with torch.no_grad():
        for weight in listening.model.language_model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    with pytest.raises(ValueError, match="built with other weights"):
        listening.recommend(**batch)
    listening.recommend(**batch, retrieval=False)


def test_a_memory_of_another_catalog_is_refused(tiny):
    model = tiny.model(tiny.processor())
    model.add_retrieval()
    with pytest.raises(ValueError, match="knows 5 items, the model 12"):
        model.attach_memory(RetrievalMemory(model.config.retrieval, 5, 16))


def test_the_attention_adapter_reads_what_was_retrieved(listening, batch):
    before = scores_of(listening, batch)
    with torch.no_grad():
        listening.model.retrieval_adapter.attention_gate.fill_(1.0)
    assert not torch.allclose(scores_of(listening, batch), before)


@pytest.mark.parametrize("source", ["transitions", "behaviour", "metadata"])
def test_one_source_can_stand_alone(tiny, batch, source):
    model = with_memory(tiny.model(tiny.processor()), sources=[source])
    assert model.recommend(**batch, k=3).retrieved.sources == (source,)


def test_an_unknown_source_is_an_error_that_names_the_known_ones():
    with pytest.raises(Exception, match="expected some of"):
        RetrievalConfig(sources=["reviews"])


def test_histories_are_read_latest_first_whatever_the_padding():
    items = torch.tensor([[-1, -1, 3, 4], [3, 4, -1, -1], [-5, 3, -1, 4]])
    assert latest_first(items)[:, :2].tolist() == [[4, 3]] * 3
    assert (latest_first(items)[:, 2:] == -1).all()


def test_event_credibility_out_of_range_is_refused(listening):
    with pytest.raises(ValueError, match=r"expected a number in \(0, 1\]"):
        listening.memory.add_event(torch.tensor([1]), torch.ones(16), 2, credibility=0.0)


def test_time_decay_needs_the_time_of_the_request(tiny, processor):
    model = with_memory(tiny.model(tiny.processor()), sources=["transitions"], time_decay=1.0)
    model.memory.transitions.add(torch.tensor([8]), 9, time=0)
    batch = processor(histories=[["i8"]], return_tensors="pt")
    early = scores_of(model, batch, request_time=torch.tensor([0]))
    late = scores_of(model, batch, request_time=torch.tensor([5 * 86_400]))
    assert early[0, 9] > late[0, 9]
    torch.testing.assert_close(scores_of(model, batch), early)


def test_memories_keep_keys_in_half_precision():
    assert VectorMemory(4).keys.dtype == torch.float16


def test_what_is_remembered_in_training_mode_is_the_state_of_a_request(tiny, processor):
    model = with_memory(tiny.model(tiny.processor(), "gpt_neox", text={"hidden_dropout": 0.5}))
    batch = processor(histories=[["i8", "i9"]], return_tensors="pt")
    model.remember(**batch, items=torch.tensor([7]))
    model.train()
    model.remember(**batch, items=torch.tensor([7]))
    assert model.training
    keys = model.memory.behaviour.keys
    torch.testing.assert_close(keys[-1], keys[-2])
