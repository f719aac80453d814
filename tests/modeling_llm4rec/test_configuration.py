"""Configuration: strict types, unknown keys, round trips, versions."""

import json

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from llm4rec.modeling_llm4rec import LLM4RecConfig, ModalityConfig
from transformers import GPTNeoXConfig, LlamaConfig


def test_default_backbone_is_a_small_gpt_neox_decoder():
    config = LLM4RecConfig()
    assert isinstance(config.text_config, GPTNeoXConfig)
    assert config.text_config.num_hidden_layers == 1
    assert config.text_vocab_size == 260


def test_unknown_config_key_names_the_nearest_valid_one():
    with pytest.raises(ValueError, match=r"unknown key 'fusion_dropuot'; did you mean 'fusion_dropout'"):
        LLM4RecConfig(fusion_dropuot=0.1)


def test_unknown_modality_key_names_the_nearest_valid_one():
    with pytest.raises(ValueError, match=r"'feature_sise'; did you mean 'feature_size'"):
        LLM4RecConfig(modalities=[{"name": "title", "kind": "text", "feature_sise": 3}])


def test_unknown_key_of_a_newer_format_asks_to_upgrade():
    with pytest.raises(ValueError, match=r"format version 99 .*'memory_size'.*pip install --upgrade llm4rec"):
        LLM4RecConfig(format_version=99, memory_size=3)


def test_newer_checkpoint_on_disk_asks_to_upgrade(tmp_path):
    LLM4RecConfig(num_items=3).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    for later in ({"retrieval_from_the_future": {"k": 3}}, {"modalities": [{"kind": "smell"}]}, {}):
        (tmp_path / "config.json").write_text(json.dumps(values | {"format_version": 99} | later))
        with pytest.raises(ValueError, match=r"format version 99.*pip install --upgrade llm4rec"):
            LLM4RecConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_items", "many"), ("fusion_dropout", "0.1"), ("num_negatives", 2.5), ("rating_levels", 3)],
)
def test_a_value_of_the_wrong_type_is_refused_and_named(field, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=field):
        LLM4RecConfig(**{field: value})


def test_a_modality_of_an_unknown_kind_is_refused():
    with pytest.raises(StrictDataclassFieldValidationError, match="kind"):
        ModalityConfig(name="smell", kind="olfactory")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fusion_dropout": 1.0}, r"fusion_dropout must lie in \[0, 1\), got 1.0"),
        ({"num_items": -1}, "num_items must be 0 or more, got -1"),
        ({"rating_levels": [3, 1, 2]}, "rating_levels must ascend"),
        ({"modalities": []}, "at least one modality"),
        ({"modalities": [{"name": "a", "kind": "id"}, {"name": "a", "kind": "numerical"}]}, "must be unique"),
        ({"modalities": [{"name": "present", "kind": "numerical"}]}, "cannot be named 'present'"),
        ({"modalities": [{"name": "title", "kind": "text"}]}, "'title' of kind 'text' needs feature_size >= 1"),
    ],
)
def test_values_out_of_range_say_what_was_expected(values, message):
    with pytest.raises(Exception, match=message):
        LLM4RecConfig(**values)


def test_config_comes_back_from_disk_as_it_was(tmp_path, model):
    model.config.save_pretrained(tmp_path)
    loaded = LLM4RecConfig.from_pretrained(tmp_path)
    assert loaded.modalities == model.config.modalities
    assert isinstance(loaded.text_config, type(model.config.text_config))
    assert loaded.to_dict() == model.config.to_dict()


def test_text_config_given_as_a_dict_is_resolved_by_its_model_type():
    config = LLM4RecConfig(
        text_config={"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 11}
    )
    assert isinstance(config.text_config, LlamaConfig)
    assert (config.item_width, config.text_vocab_size) == (8, 11)


def test_a_config_does_not_change_the_modalities_it_was_given():
    given = ModalityConfig("id", "id")
    LLM4RecConfig(modalities=[given], num_items=5)
    assert LLM4RecConfig(modalities=[given], num_items=9).modalities[0].num_embeddings == 9
