"""LoRA: what it trains, what it leaves alone, and adapters that save and load as whole recommenders."""

import json
import shutil

import pytest
import torch
from llm4rec.configuration.recipe import LoraRecipe
from llm4rec.modeling_llm4rec import LLM4RecForCausalLM, LLM4RecModel, LLM4RecProcessor
from llm4rec.training.adapters import add_lora, merged, recommender_of
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

HISTORIES = [["i0", "i4", "i2"], ["i5", "i1", "i3"]]


@pytest.fixture(params=["qwen3", "llama", "gpt2"])
def adapted(request, tiny, tmp_path):
    """A tiny pretrained backbone (tied Qwen3, untied Llama, GPT-2 with its transposed layers) under LoRA."""
    return build(tiny, tmp_path / "backbone", request.param)


def build(tiny, folder, architecture="qwen3", dtype=torch.float32):
    tiny.backbone(folder, architecture)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = tiny.processor(tokenizer=tokenizer, text_vocab_size=260)
    torch.manual_seed(0)
    model = LLM4RecForCausalLM.from_backbone(str(folder), catalog=processor, backbone_kwargs={"dtype": dtype})
    return processor, add_lora(model, LoraRecipe(rank=2, alpha=4, dropout=0.0))


def train(processor, model, steps=3):
    batch = processor(histories=HISTORIES, ratings=[[5, 3, 1], [2, 2, 4]], return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["input_ids"] < 260, -100)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=0.05)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    model.eval()


def save(processor, model, folder):
    model.save_pretrained(folder)
    recommender_of(model).config.save_pretrained(folder)
    processor.save_pretrained(folder)


def recommended(processor, model, **kwargs):
    batch = processor(histories=HISTORIES, ratings=[[5, 3, 1], [2, 2, 4]], return_tensors="pt")
    return recommender_of(model).recommend(**batch, **{"k": 12, **kwargs})


def test_training_changes_the_adapter_and_the_items_and_nothing_else(adapted):
    processor, model = adapted
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(processor, model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    adapter = {name for name in before if "lora_" in name}
    items = {name for name in before if "modules_to_save" in name}
    assert changed <= adapter | items
    assert adapter <= changed
    assert {name.split(".encoders.")[1][:10] for name in changed & items if ".encoders." in name} == {
        f"modality_{index}" for index in range(5)
    }
    assert any("event_embedding" in name for name in changed)
    assert not any("features" in name or "present" in name for name in changed)


def test_only_the_backbones_linear_layers_get_an_adapter(adapted):
    _, model = adapted
    places = {name.split(".lora_A")[0] for name, _ in model.named_parameters() if "lora_A" in name}
    assert places
    assert all(".language_model." in name for name in places)
    assert not any("lm_head" in name or "embed" in name for name in places)


def test_before_training_an_adapter_changes_no_score(tiny, tmp_path):
    processor, model = build(tiny, tmp_path / "backbone")
    model.eval()
    with_adapter = recommended(processor, model).scores
    with model.disable_adapter():
        torch.testing.assert_close(recommended(processor, model).scores, with_adapter)


def test_target_modules_can_be_chosen_and_wrong_ones_are_named(tiny, tmp_path):
    tiny.backbone(tmp_path)
    model = LLM4RecForCausalLM.from_backbone(str(tmp_path), catalog=tiny.processor())
    with pytest.raises(ValueError, match=r"\['query'\] match no linear layer .*q_proj"):
        add_lora(model, LoraRecipe(target_modules=["query"]))
    model = add_lora(model, LoraRecipe(rank=2, target_modules=["q_proj"]))
    names = [name for name, _ in model.named_parameters() if "lora_A" in name]
    assert len(names) == 2
    assert all("q_proj" in name for name in names)


def test_an_adapter_folder_loads_as_the_whole_recommender(adapted, tmp_path):
    processor, model = adapted
    train(processor, model)
    save(processor, model, tmp_path / "adapter")
    expected = recommended(processor, model)
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path / "adapter")
    loaded_processor = LLM4RecProcessor.from_pretrained(tmp_path / "adapter")
    assert type(loaded) is LLM4RecForCausalLM
    assert not loaded.training
    got = recommended(loaded_processor, loaded)
    assert torch.equal(got.items, expected.items)
    torch.testing.assert_close(got.scores, expected.scores)
    assert not any(weight.requires_grad for name, weight in loaded.named_parameters() if "lora_" in name)


def test_an_adapter_folder_holds_items_and_updates_but_no_backbone(adapted, tmp_path):
    processor, model = adapted
    train(processor, model)
    save(processor, model, tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json", "catalog.parquet"} <= names
    assert "model.safetensors" not in names
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        keys = list(file.keys())
    assert any("features.modality_1" in key for key in keys)
    assert any("event_embedding" in key for key in keys)
    trained_fully = ("item_embedding", "event_embedding", "repeat_bias")
    assert all("lora_" in key or any(part in key for part in trained_fully) for key in keys)


def test_auto_classes_load_an_adapter_folder(tiny, tmp_path):
    import llm4rec  # noqa: F401
    from transformers import AutoModel

    processor, model = build(tiny, tmp_path / "backbone")
    train(processor, model)
    save(processor, model, tmp_path / "adapter")
    expected = recommended(processor, model)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert isinstance(loaded, LLM4RecForCausalLM)
    torch.testing.assert_close(recommended(processor, loaded).scores, expected.scores)
    assert isinstance(AutoModel.from_pretrained(tmp_path / "adapter"), LLM4RecModel)


def test_items_added_under_an_adapter_are_saved_and_loaded(adapted, tiny, tmp_path):
    processor, model = adapted
    train(processor, model)
    recommender = recommender_of(model)
    processor.add_items(tiny.new_items())
    recommender.add_items(processor.item_features(tiny.new_items()))
    expected = recommended(processor, model, k=14)
    assert {12, 13} <= set(expected.items.flatten().tolist())
    save(processor, model, tmp_path / "adapter")
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(recommended(processor, loaded, k=14).scores, expected.scores)


def test_items_added_to_a_loaded_adapter_are_saved_by_save_pretrained_alone(tiny, tmp_path):
    processor, model = build(tiny, tmp_path / "backbone")
    train(processor, model)
    save(processor, model, tmp_path / "adapter")
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path / "adapter")
    processor.add_items(tiny.new_items())
    loaded.add_items(processor.item_features(tiny.new_items()))
    expected = recommended(processor, loaded, k=14)
    loaded.save_pretrained(tmp_path / "again")
    again, info = LLM4RecForCausalLM.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not info["unexpected_keys"]
    torch.testing.assert_close(recommended(processor, again, k=14).scores, expected.scores)


def test_a_merged_model_is_a_plain_checkpoint_with_the_same_scores(adapted, tmp_path):
    processor, model = adapted
    train(processor, model)
    expected = recommended(processor, model).scores
    plain = merged(model)
    torch.testing.assert_close(recommended(processor, plain).scores, expected, rtol=1e-4, atol=1e-4)
    plain.save_pretrained(tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    shutil.rmtree(tmp_path / "backbone")
    loaded, info = LLM4RecForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(recommended(processor, loaded).scores, recommended(processor, plain).scores)


def test_a_loaded_adapter_can_be_merged(tiny, tmp_path):
    processor, model = build(tiny, tmp_path / "backbone")
    train(processor, model)
    save(processor, model, tmp_path / "adapter")
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path / "adapter")
    expected = recommended(processor, loaded).scores
    merged(loaded).save_pretrained(tmp_path / "merged")
    plain, info = LLM4RecForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(recommended(processor, plain).scores, expected, rtol=1e-4, atol=1e-4)


def test_a_loaded_adapter_can_be_trained_on(tiny, tmp_path):
    processor, model = build(tiny, tmp_path / "backbone")
    train(processor, model)
    save(processor, model, tmp_path / "adapter")
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path / "adapter", is_trainable=True)
    assert loaded.training
    trainable = {name for name, weight in loaded.named_parameters() if weight.requires_grad}
    assert trainable
    assert all("lora_" in name or "modules_to_save" in name for name in trainable)
    before = recommended(processor, loaded).scores
    train(processor, loaded)
    assert not torch.equal(recommended(processor, loaded).scores, before)


def test_a_backbone_that_is_gone_is_named_with_what_to_do(tiny, tmp_path):
    processor, model = build(tiny, tmp_path / "backbone")
    save(processor, model, tmp_path / "adapter")
    shutil.move(tmp_path / "backbone", tmp_path / "moved")
    with pytest.raises(OSError, match=r"adapter on the backbone '.*/backbone'.*backbone_name_or_path=.*lora\.merge"):
        LLM4RecForCausalLM.from_pretrained(tmp_path / "adapter")
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path / "adapter", backbone_name_or_path=str(tmp_path / "moved"))
    torch.testing.assert_close(recommended(processor, loaded).scores, recommended(processor, model.eval()).scores)
    assert loaded.config.backbone_name_or_path == str(tmp_path / "moved")


def test_an_adapter_that_does_not_name_its_backbone_says_so(tiny, tmp_path):
    processor, model = build(tiny, tmp_path / "backbone")
    save(processor, model, tmp_path / "adapter")
    values = json.loads((tmp_path / "adapter" / "config.json").read_text())
    values["backbone_name_or_path"] = None
    (tmp_path / "adapter" / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"does not say on which backbone.*backbone_name_or_path"):
        LLM4RecForCausalLM.from_pretrained(tmp_path / "adapter")


def test_items_are_trained_and_saved_in_single_precision_on_a_half_precision_backbone(tiny, tmp_path):
    processor, model = build(tiny, tmp_path / "backbone", dtype=torch.bfloat16)
    train(processor, model, steps=1)
    recommender = recommender_of(model)
    assert recommender.model.item_embedding.encoders["modality_0"].embedding.weight.dtype == torch.float32
    assert recommender.get_input_embeddings().weight.dtype == torch.bfloat16
    save(processor, model, tmp_path / "adapter")
    loaded = LLM4RecForCausalLM.from_pretrained(tmp_path / "adapter")
    assert loaded.get_input_embeddings().weight.dtype == torch.bfloat16
    torch.testing.assert_close(recommended(processor, loaded).scores, recommended(processor, model).scores)


def test_generation_works_under_an_adapter(adapted):
    processor, model = adapted
    train(processor, model, steps=1)
    batch = processor(histories=HISTORIES, return_tensors="pt")
    out = recommender_of(model).generate(**batch, items_only=True, max_new_tokens=3)
    assert (out[:, -3:] >= 260).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_with_an_adapter_explains_itself(tiny, tmp_path, dtype):
    processor, model = build(tiny, tmp_path / "backbone", dtype=dtype)
    train(processor, model, steps=1)
    out = recommended(processor, model, k=2, explain=True)
    long = recommender_of(model).explain(
        **processor(histories=HISTORIES, return_tensors="pt"), items=out.items, max_removals=2
    )
    assert {piece.kind for why in out.explanations[0] for piece in why.evidence} >= {"history", "modality"}
    assert long[0][0].measured_items == 2
    assert processor.render_explanations(out, style="detailed")[0][0]
    assert all(weight.grad is None or not weight.grad.isnan().any() for weight in model.parameters())
