"""Checkpoints: save, load anywhere, the same scores; the Auto classes; dtypes; foreign folders."""

import json
import subprocess
import sys

import llm4rec  # noqa: F401  (registers the Auto classes)
import pytest
import torch
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM, LLM4RecModel, LLM4RecProcessor
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor

IN_ANOTHER_PROCESS = """
import sys, torch
torch.set_num_threads(1)
import llm4rec
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoProcessor

folder = sys.argv[1]
model, processor = AutoModelForCausalLM.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
histories = [["i0", "i4", "i2"], ["i5"], []]
batch = processor(histories=histories, ratings=[[5, 3, 1], [2], []], return_tensors="pt")
out = model.recommend(**batch, k=12)
with torch.no_grad():
    scores = model.score_items(**batch)
save_file({"items": out.items, "scores": out.scores, "all": scores}, folder + "/out.st")
"""


def save(model, processor, folder):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt_neox"])
def test_a_model_loaded_in_a_new_process_gives_identical_scores(tmp_path, tiny, architecture):
    processor = tiny.processor()
    model = tiny.model(processor, architecture)
    save(model, processor, tmp_path)
    batch = processor(histories=[["i0", "i4", "i2"], ["i5"], []], ratings=[[5, 3, 1], [2], []], return_tensors="pt")
    expected = model.recommend(**batch, k=12)
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path)], check=True)
    loaded = load_file(tmp_path / "out.st")
    assert torch.equal(loaded["items"], expected.items)
    torch.testing.assert_close(loaded["scores"], expected.scores)
    with torch.no_grad():
        torch.testing.assert_close(loaded["all"], model.score_items(**batch))


def test_auto_classes_know_the_model(tmp_path, model, processor):
    save(model, processor, tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), LLM4RecConfig)
    assert isinstance(AutoModelForCausalLM.from_pretrained(tmp_path), LLM4RecForCausalLM)
    assert isinstance(AutoModel.from_pretrained(tmp_path), LLM4RecModel)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path), LLM4RecProcessor)


def test_auto_model_is_the_recommender_without_its_head(tmp_path, model, processor, batch):
    save(model, processor, tmp_path)
    bare = AutoModel.from_pretrained(tmp_path)
    inputs = {name: values for name, values in batch.items() if name != "seen_items"}
    with torch.no_grad():
        states = bare(**inputs).last_hidden_state
        torch.testing.assert_close(states, model.model(**inputs).last_hidden_state)


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gpt_neox"])
def test_nothing_is_missing_or_left_over_in_a_checkpoint(tmp_path, tiny, processor, architecture):
    model = tiny.model(processor, architecture)
    model.save_pretrained(tmp_path)
    loaded, info = LLM4RecForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state, expected = loaded.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("architecture", "tied"), [("qwen3", True), ("llama", False)])
def test_the_text_head_is_tied_exactly_when_the_backbones_is(tmp_path, tiny, processor, architecture, tied):
    tiny.model(processor, architecture).save_pretrained(tmp_path)
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path)
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) == tied


def test_a_checkpoint_with_added_items_comes_back_with_them(tmp_path, tiny):
    processor = tiny.processor()
    model = tiny.model(processor)
    processor.add_items(tiny.new_items())
    model.add_items(processor.item_features(tiny.new_items()))
    save(model, processor, tmp_path)
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path)
    loaded_processor = LLM4RecProcessor.from_pretrained(tmp_path)
    batch = loaded_processor(histories=[["n0", "i4"]], return_tensors="pt")
    assert loaded.num_items == 14
    torch.testing.assert_close(loaded.recommend(**batch, k=14).scores, model.recommend(**batch, k=14).scores)
    more = {"item_id": ["n2"], "title": ["red stove"]}
    loaded_processor.add_items(more)
    loaded.add_items(loaded_processor.item_features(more))
    assert loaded.num_items == 15


def test_a_large_checkpoint_in_shards_comes_back(tmp_path, model, batch):
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.recommend(**batch).scores, model.recommend(**batch).scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_checkpoint_loads_in_half_precision(tmp_path, model, processor, batch, dtype):
    model.save_pretrained(tmp_path)
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    assert {weight.dtype for weight in loaded.model.language_model.parameters()} == {dtype}
    # Items keep their precision: half of it would swallow small updates.
    item_embedding = loaded.model.item_embedding
    assert {t.dtype for t in (*item_embedding.parameters(), item_embedding.features.modality_1)} == {torch.float32}
    inputs = {name: values for name, values in batch.items() if name != "seen_items"}
    with torch.no_grad():
        scores, expected = loaded.score_items(**inputs).float(), model.score_items(**inputs)
    assert torch.corrcoef(torch.stack([scores.flatten(), expected.flatten()]))[0, 1] > 0.99
    labels = batch["input_ids"].masked_fill(batch["input_ids"] < 260, -100)
    loaded.train()(**inputs, labels=labels).loss.backward()
    out = loaded.eval().generate(**inputs, items_only=True, max_new_tokens=2)
    assert (out[:, -2:] >= 260).all()


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_a_device_map_places_the_whole_recommender(tmp_path, model, batch, device_map):
    model.save_pretrained(tmp_path)
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path, device_map=device_map)
    assert {weight.device for weight in loaded.state_dict().values()} == {loaded.device}
    found = loaded.recommend(**batch.to(loaded.device), k=3)
    torch.testing.assert_close(found.scores.cpu(), model.recommend(**batch.to("cpu"), k=3).scores, atol=1e-4, rtol=0)


def test_attention_implementation_passes_through_to_the_backbone(tmp_path, model):
    model.save_pretrained(tmp_path)
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert loaded.model.language_model.config._attn_implementation == "eager"


def test_generation_config_comes_back(tmp_path, tiny, processor):
    model = tiny.model(processor)
    model.generation_config.max_new_tokens = 7
    model.save_pretrained(tmp_path)
    assert LLM4RecForCausalLM.from_pretrained(tmp_path).generation_config.max_new_tokens == 7


def test_a_catalog_of_another_size_than_the_config_is_an_error(tmp_path, model):
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"num_items": 11}))
    with pytest.raises(RuntimeError, match="mismatched"):
        LLM4RecForCausalLM.from_pretrained(tmp_path)


def test_a_truncated_checkpoint_is_an_error(tmp_path, model):
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(Exception, match=r"(?i)incomplete|invalid|header|size"):
        LLM4RecForCausalLM.from_pretrained(tmp_path)


def test_a_checkpoint_that_lost_its_features_does_not_load_silently(tmp_path, model):
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    save_file({name: v for name, v in state.items() if "features" not in name}, path, metadata={"format": "pt"})
    _, info = LLM4RecForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert any("features" in name for name in info["missing_keys"])


def test_an_empty_catalog_says_what_to_do(tiny):
    model = LLM4RecForCausalLM(LLM4RecConfig(text_config=tiny.text_config()))
    with pytest.raises(ValueError, match="catalog is empty: load a checkpoint, or set item features first"):
        model.recommend(torch.tensor([[1]]))


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path, model, processor):
    save(model, processor, tmp_path)
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "processor_config.json", "catalog.parquet"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".pickle", ".npy"))]
