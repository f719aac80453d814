"""from_backbone(): the pretrained weights as they are, items beside them."""

import pytest
import torch
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM
from transformers import AutoTokenizer


@pytest.fixture(params=["qwen3", "llama", "gpt2", "gpt_neox"])
def pretrained(request, tmp_path):
    """Architecture and folder of a tiny "pretrained" language model: tied (Qwen3, GPT-2) and untied heads."""
    return request.param, tmp_path / "backbone"


def load(pretrained, tiny, **kwargs):
    architecture, folder = pretrained
    backbone = tiny.backbone(folder, architecture)
    processor = tiny.processor(tokenizer=AutoTokenizer.from_pretrained(folder), text_vocab_size=260)
    return backbone, processor, LLM4RecForCausalLM.from_backbone(str(folder), catalog=processor, **kwargs).eval()


def test_backbone_weights_are_bit_identical_to_the_checkpoint(pretrained, tiny):
    backbone, _, model = load(pretrained, tiny)
    ours, theirs = model.model.language_model.state_dict(), backbone.base_model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(model.lm_head.weight, backbone.get_output_embeddings().weight)
    tied = backbone.config.tie_word_embeddings
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied


def test_text_logits_on_text_are_the_language_models_own(pretrained, tiny):
    backbone, processor, model = load(pretrained, tiny)
    batch = processor(text=["Which tent is red?", "Hi"], return_tensors="pt")
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = backbone(**batch, position_ids=positions).logits
        logits = model(**batch).logits
    kept = batch["attention_mask"].bool()
    torch.testing.assert_close(logits[..., :260][kept], expected[kept], rtol=1e-5, atol=1e-5)
    assert logits.shape[-1] == 260 + 12


def test_text_loss_on_text_is_the_language_models_own(pretrained, tiny):
    backbone, processor, model = load(pretrained, tiny)
    ids = processor(text="Which tent is red?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(model(ids, labels=ids).loss, backbone(ids, labels=ids).loss)


def test_text_generation_is_the_language_models_own(pretrained, tiny):
    backbone, processor, model = load(pretrained, tiny)
    # Item logits compete with text; push them away to compare.
    with torch.no_grad():
        for weight in model.model.item_embedding.parameters():
            weight.zero_()
    batch = processor(text="Which tent", return_tensors="pt")
    expected = backbone.generate(**batch, max_new_tokens=6, do_sample=False)
    got = model.generate(**batch, max_new_tokens=6, do_sample=False, bad_words_ids=[[i] for i in range(260, 272)])
    assert torch.equal(got, expected)


def test_items_have_the_scale_of_the_text_embeddings(pretrained, tiny):
    backbone, _, model = load(pretrained, tiny)
    text = backbone.get_input_embeddings().weight.std().item()
    id_embeddings = model.model.item_embedding.encoders["modality_0"].embedding.weight
    assert id_embeddings.std().item() == pytest.approx(text, rel=0.3)


def test_it_recommends_saves_and_loads_as_one_checkpoint(pretrained, tiny, tmp_path):
    _, processor, model = load(pretrained, tiny)
    batch = processor(histories=tiny.histories, return_tensors="pt")
    expected = model.recommend(**batch, k=12)
    model.save_pretrained(tmp_path / "recommender")
    loaded, info = LLM4RecForCausalLM.from_pretrained(tmp_path / "recommender", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(loaded.recommend(**batch, k=12).scores, expected.scores)


def test_a_padded_text_vocabulary_stays_reserved(tiny, tmp_path):
    folder = tmp_path / "backbone"
    tiny.backbone(folder, vocab_size=300)
    processor = tiny.processor(tokenizer=AutoTokenizer.from_pretrained(folder), text_vocab_size=300)
    model = LLM4RecForCausalLM.from_backbone(str(folder), catalog=processor).eval()
    batch = processor(histories=[["i0", "i4"]], return_tensors="pt")
    assert batch["input_ids"].tolist() == [[processor.start_id, 300, 304]]
    assert model.recommend(**batch, k=12).items.max() == 11


def test_a_processor_of_another_vocabulary_than_the_backbone_is_refused(tiny, tmp_path):
    tiny.backbone(tmp_path, vocab_size=300)
    with pytest.raises(ValueError, match=r"text_vocab_size 260.* 300.*text_vocab_size=300"):
        LLM4RecForCausalLM.from_backbone(str(tmp_path), catalog=tiny.processor())


def test_neither_catalog_nor_config_is_an_error(tiny, tmp_path):
    with pytest.raises(ValueError, match="neither `catalog` nor `config`"):
        LLM4RecForCausalLM.from_backbone(str(tmp_path))


def test_an_unknown_config_key_is_named(tiny, tmp_path):
    tiny.backbone(tmp_path)
    with pytest.raises(ValueError, match="'fusion_widht'; did you mean 'fusion_width'"):
        LLM4RecForCausalLM.from_backbone(str(tmp_path), catalog=tiny.processor(), fusion_widht=8)


def test_a_backbone_in_memory_and_half_precision(tiny, tmp_path):
    tiny.backbone(tmp_path)
    processor = tiny.processor()
    model = LLM4RecForCausalLM.from_backbone(
        str(tmp_path), catalog=processor, backbone_kwargs={"dtype": torch.bfloat16, "attn_implementation": "eager"}
    )
    assert {weight.dtype for weight in model.model.language_model.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in model.model.item_embedding.parameters()} == {torch.float32}
    assert model.model.language_model.config._attn_implementation == "eager"
    batch = processor(histories=[["i0"]], return_tensors="pt")
    assert model.eval().recommend(**batch, k=3).scores.isfinite().all()


def test_a_config_given_beside_the_backbone_keeps_its_fields(tiny, tmp_path):
    tiny.backbone(tmp_path, "llama")
    processor = tiny.processor()
    config = LLM4RecConfig(**processor.model_config(), fusion_width=24, num_negatives=3, label_smoothing=0.1)
    model = LLM4RecForCausalLM.from_backbone(str(tmp_path), config=config)
    assert (model.config.fusion_width, model.config.num_negatives) == (24, 3)
    assert model.config.text_config.model_type == "llama"
    assert model.config.backbone_name_or_path == str(tmp_path)
    assert config.text_config.model_type == "gpt_neox"
