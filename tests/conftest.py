"""A world small enough to know by heart: a catalog of twelve items, its processor, models of a few thousand weights.

Everything is built in code; nothing is downloaded.
"""

import importlib.util
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM, LLM4RecProcessor
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, Qwen3Config

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tensors of a few rows: threads only get in each other's way.
torch.set_num_threads(1)

MODALITIES = {"title": "text", "category": "categorical", "price": "numerical", "picture": "vector"}
RATING_LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)
NUM_TIME_GAPS = 32
MAX_HISTORY = 6


def tiny_catalog():
    """Twelve items; some lack a price, a category, a picture; i11 has a title only."""
    words = ["red tent", "blue tent", "warm bag", "cold bag", "old lamp", "new lamp", "red lamp", "blue bag"]
    words += ["small stove", "large stove", "warm stove", "red map"]
    generator = torch.Generator().manual_seed(7)
    pictures = torch.randn(12, 4, generator=generator).tolist()
    return {
        "item_id": [f"i{index}" for index in range(12)],
        "title": words,
        "category": [
            ["tent", "shelter"], ["tent", "shelter"], ["bag"], ["bag", "sleep"], ["lamp"], ["lamp"], ["lamp"],
            ["bag", "sleep"], ["stove"], ["stove"], None, None,
        ],
        "price": [100.0, 120.0, 60.0, None, 10.0, 15.0, 12.0, 55.0, 30.0, 80.0, None, None],
        "picture": [None if index in (3, 11) else picture for index, picture in enumerate(pictures)],
    }  # fmt: skip


def new_items():
    """Two items that the catalog does not know, the second with a category alone."""
    return {
        "item_id": ["n0", "n1"],
        "title": ["red stove", None],
        "category": [["stove"], ["lamp"]],
        "price": [33.0, None],
        "picture": [[0.1, -0.2, 0.3, 0.4], None],
    }


def make_processor(**kwargs):
    """A processor of the tiny catalog."""
    values = {"max_history": MAX_HISTORY, "rating_levels": RATING_LEVELS, "num_time_gaps": NUM_TIME_GAPS}
    return LLM4RecProcessor.from_catalog(tiny_catalog(), MODALITIES, **{**values, **kwargs})


def text_config(architecture="qwen3", **kwargs):
    """A two-layer decoder of width 16."""
    values = {
        "vocab_size": 260,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if architecture == "qwen3":
        return Qwen3Config(
            **{**values, "num_key_value_heads": 1, "head_dim": 8, "tie_word_embeddings": True, **kwargs}
        )
    if architecture == "llama":
        return LlamaConfig(**{**values, "num_key_value_heads": 1, "tie_word_embeddings": False, **kwargs})
    if architecture == "gpt2":
        names = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
        values.pop("intermediate_size")
        return GPT2Config(**{names.get(name, name): value for name, value in {**values, **kwargs}.items()})
    return GPTNeoXConfig(**{**values, **kwargs})


def awaken(model, seed=0, scale=0.3):
    """Draw all weights anew: a fresh model has zeros in its fusion head, and many a mistake hides behind a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.copy_(scale * torch.randn(weight.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
    return model


def make_model(processor, architecture="qwen3", text=None, **kwargs):
    """An awake recommender in evaluation mode on the processor's catalog."""
    config = LLM4RecConfig(
        **{"text_config": text_config(architecture, **(text or {})), **processor.model_config(), **kwargs}
    )
    model = awaken(LLM4RecForCausalLM(config)).eval()
    model.set_items(processor.item_features())
    return model


def make_backbone(folder, architecture="qwen3", **kwargs):
    """A "pretrained" causal language model, saved with the byte tokenizer."""
    from llm4rec.modeling_llm4rec import byte_tokenizer

    torch.manual_seed(3)
    backbone = awaken(AutoModelForCausalLM.from_config(text_config(architecture, **kwargs)), seed=3).eval()
    backbone.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return backbone


HISTORIES = [["i0", "i4", "i2"], ["i5"], ["i1", "i3", "i8", "i9", "i10", "i11", "i6", "i7"], []]


@pytest.fixture(scope="session")
def processor():
    """Processor of the tiny catalog; shared, so never add items to it."""
    return make_processor()


@pytest.fixture(scope="session")
def model(processor):
    """Recommender on the tiny catalog; shared, so never change it."""
    return make_model(processor)


@pytest.fixture
def new_processor():
    """A processor of the tiny catalog that a test may change."""
    return make_processor


@pytest.fixture
def new_model():
    """Make a recommender that a test may change."""
    return make_model


@pytest.fixture
def batch(processor):
    """Four users: three events, one, more than the model reads, none."""
    return processor(
        histories=HISTORIES,
        ratings=[[5, 3, None], [1], [4] * 8, []],
        timestamps=[[0, 60, 86_400], [5], [10 * step for step in range(8)], []],
        return_tensors="pt",
    )


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """Run a script where only torch and transformers are: `bare(script, *arguments, **environment)`."""
    environment = beside(__file__, "bare_environment")
    python = environment.make_bare_environment(tmp_path_factory.mktemp("bare"))
    return partial(environment.run_bare, python)


def beside(file, name):
    """A module of the tests; pytest's importlib mode puts none of their folders on the path."""
    spec = importlib.util.spec_from_file_location(name, Path(file).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="tiny", scope="session")
def tiny_builders():
    """The builders of this module, for tests that need variants."""
    import types

    return types.SimpleNamespace(
        awaken=awaken,
        backbone=make_backbone,
        catalog=tiny_catalog,
        histories=HISTORIES,
        modalities=MODALITIES,
        model=make_model,
        new_items=new_items,
        processor=make_processor,
        text_config=text_config,
    )
