"""From a recipe to its parts: the split, the processor and the untrained model.

Called by `training/train.py`; `split_of` also by the evaluation, which must cut the data as training did.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configuration.recipe import Recipe
from ..modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM, LLM4RecProcessor
from ..modeling_llm4rec.adapter_checkpoint import is_adapter
from .data.prepared import Interactions, PreparedData
from .data.splits import Split, global_time, leave_one_out
from .load import short_reason

MAX_RATING_LEVELS = 10


def split_of(data: PreparedData, recipe: Recipe) -> Split:
    """The recipe's split of a data set."""
    if recipe.data.split == "global_time":
        return global_time(data.interactions)
    return leave_one_out(data.interactions, recipe.data.min_events)


def build_processor(data: PreparedData, recipe: Recipe, split: Split) -> LLM4RecProcessor:
    """The processor of a data set: what of items and events the model will read.

    Raises:
        ValueError: if the recipe names a modality that the data lacks, or leaves items with nothing to read; if the
            recommender that it starts from has another catalog.
    """
    if recipe.model.start_from:
        with _pretrained("model.start_from", recipe.model.start_from):
            processor = LLM4RecProcessor.from_pretrained(recipe.model.start_from)
        check_same_catalog(processor, data)
        return processor
    known = {name: modality.kind for name, modality in data.schema.items.modalities.items()}
    wanted = list(known) if recipe.data.modalities is None else recipe.data.modalities
    for name in wanted:
        if name not in known:
            raise ValueError(f"data.modalities names {name!r}; the prepared items have {', '.join(known) or 'none'}.")
    if not wanted and not recipe.data.item_ids:
        raise ValueError("data.modalities is empty and data.item_ids is false: items would have nothing to read.")
    tokenizer = text_vocab_size = None
    if recipe.model.backbone:
        from transformers import AutoConfig, AutoTokenizer

        with _pretrained("model.backbone", recipe.model.backbone):
            tokenizer = AutoTokenizer.from_pretrained(recipe.model.backbone)
            text_vocab_size = AutoConfig.from_pretrained(recipe.model.backbone).get_text_config().vocab_size
    with _pretrained("data.text_encoder", recipe.data.text_encoder, ", or take 'hashing', which needs neither"):
        return LLM4RecProcessor.from_catalog(
            data.items,
            {name: known[name] for name in wanted},
            tokenizer=tokenizer,
            text_vocab_size=text_vocab_size,
            text_encoder=recipe.data.text_encoder,
            with_id=recipe.data.item_ids,
            words_per_text=recipe.data.words_per_text,
            max_history=recipe.data.max_history,
            rating_levels=_rating_levels(split.train) if recipe.data.ratings else (),
            num_time_gaps=32 if recipe.data.times and split.train.timestamps is not None else 0,
        )


@contextmanager
def _pretrained(field: str, name: str, otherwise: str = "") -> Iterator[None]:
    """Name the recipe's field where a model that it names cannot be loaded from disk or the Hub."""
    if Path(name).is_dir() and not any(Path(name).glob("*.json")):
        raise FileNotFoundError(f"{field}: {name} holds no model (no config.json).")
    try:
        yield
    except OSError as error:
        raise FileNotFoundError(
            f"{field}: {name!r} cannot be loaded from disk or from the Hub ({short_reason(error).rstrip('.')}). Check "
            f"the name and the network{otherwise}."
        ) from error


def _rating_levels(train: Interactions) -> list[float]:
    """The ratings that occur, or ten quantiles of them; none if all are alike."""
    if train.ratings is None:
        return []
    known = np.unique(train.ratings[~np.isnan(train.ratings)].astype(np.float64).round(4))
    if len(known) > MAX_RATING_LEVELS:
        known = np.unique(np.quantile(known, np.linspace(0, 1, MAX_RATING_LEVELS)).round(4))
    return known.tolist() if len(known) > 1 else []


def build_model(
    processor: LLM4RecProcessor,
    recipe: Recipe,
    train: Interactions,
    cache: Path | None = None,
    progress: bool = False,
) -> LLM4RecForCausalLM:
    """The recommender, untrained: drawn anew, or on a pretrained backbone.

    Args:
        train: its items get an id embedding; other items of the catalog are known by content only, as new ones are.
        cache: folder for text vectors.

    Raises:
        FileNotFoundError: if the pretrained backbone cannot be had.
        ValueError: if fields of the recipe contradict each other, or are none of the backbone's.
    """
    model_recipe = recipe.model
    if model_recipe.start_from:
        return _started_from(recipe)
    values = processor.model_config() | {
        "fusion_width": model_recipe.fusion_width,
        "fusion_heads": model_recipe.fusion_heads,
        "fusion_dropout": model_recipe.fusion_dropout,
        "id_dropout": model_recipe.id_dropout,
        "event_dropout": model_recipe.event_dropout,
        "new_item_bonus": model_recipe.new_item_bonus,
        "repeat_bias": model_recipe.repeat_bias,
        "num_negatives": model_recipe.num_negatives,
        "label_smoothing": model_recipe.label_smoothing,
    }
    if model_recipe.backbone:
        if model_recipe.text_config:
            raise ValueError(
                "model.backbone names a pretrained model and model.text_config describes one trained from scratch: "
                "leave one of them out."
            )
        kwargs: dict[str, Any] = {"dtype": model_recipe.dtype}
        if model_recipe.attention:
            kwargs["attn_implementation"] = model_recipe.attention
        if model_recipe.lora.quantize_4bit:
            kwargs["quantization_config"] = _four_bit()
        with _pretrained("model.backbone", model_recipe.backbone):
            model = LLM4RecForCausalLM.from_backbone(
                model_recipe.backbone, config=LLM4RecConfig(**values), backbone_kwargs=kwargs
            )
    else:
        model = LLM4RecForCausalLM(_config_from_scratch(recipe, processor, values))
        if model_recipe.attention:
            model.set_attn_implementation(model_recipe.attention)
    features = processor.item_features(cache=cache, progress=progress)
    if recipe.data.item_ids:
        untrained = torch.from_numpy(train.item_counts() == 0)
        content = features["present"][:, 1:].any(-1)
        features["present"][untrained & content, 0] = False
    model.set_items(features)
    return model


def _started_from(recipe: Recipe) -> LLM4RecForCausalLM:
    """A trained recommender whose training goes on; of the recipe's model, what it says of loss and serving holds."""
    wanted = recipe.model
    if wanted.backbone:
        raise ValueError(
            "model.start_from names a trained recommender, which has a backbone: leave model.backbone out."
        )
    with _pretrained("model.start_from", wanted.start_from):
        if is_adapter(wanted.start_from, {}):
            raise ValueError(
                f"model.start_from: {wanted.start_from} is an adapter on a backbone. Train it with "
                "model.lora.merge=true to have a model that training can start from."
            )
        model = LLM4RecForCausalLM.from_pretrained(wanted.start_from, retrieval=False)
    for name in ("num_negatives", "label_smoothing", "new_item_bonus"):
        setattr(model.config, name, getattr(wanted, name))
    model.config.retrieval = model.model.retrieval_adapter = None  # a memory speaks of the weights as they were
    model.config.fairness = model.model.state_eraser = None
    model.config.popularity = model.model.popularity_prior = None  # added anew where the recipe asks for it
    model.config.loss_weighting = "none"  # likewise
    return model


def check_same_catalog(processor: LLM4RecProcessor, data: PreparedData) -> None:
    """Item indices of model and data must mean the same items.

    Raises:
        ValueError: naming how many items differ.
    """
    known, given = processor.catalog.item_ids, data.items["item_id"].to_list()
    if known == given:
        return
    new = set(given) - set(known)
    raise ValueError(
        f"{data.folder} has {len(given):,} items, the model knows {len(known):,}, and "
        + (f"{len(new):,} are new to it (the first: {min(new)!r})" if new else "they stand in another order")
        + ". Take the prepared data that the model was trained on, or train anew."
    )


def _config_from_scratch(recipe: Recipe, processor: LLM4RecProcessor, values: dict[str, Any]) -> LLM4RecConfig:
    """The configuration of a model whose backbone `model.text_config` describes.

    Raises:
        ValueError: naming the field of `model.text_config` that is wrong.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    base = LLM4RecConfig().text_config.to_diff_dict()
    given = recipe.model.text_config
    kind = given.get("model_type", base["model_type"])
    if kind not in CONFIG_MAPPING:
        near = difflib.get_close_matches(str(kind), list(CONFIG_MAPPING), n=3, cutoff=0.0)
        raise ValueError(f"model.text_config.model_type is {kind!r}, unknown to transformers; near are {near}.")
    # transformers keeps a misspelt field without a word; older names of fields are none of ours to judge.
    known = {field.name for field in fields(CONFIG_MAPPING[kind])} | CONFIG_MAPPING[kind].attribute_map.keys()
    for name in given.keys() - known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if near:
            raise ValueError(f"model.text_config has the unknown key {name!r}; did you mean {near[0]!r}?")
    if kind == base["model_type"]:
        given = base | given
    text_config = {"tie_word_embeddings": True} | given | {"vocab_size": processor.text_vocab_size}
    try:
        return LLM4RecConfig(text_config=text_config, **values)
    except StrictDataclassError as error:
        raise ValueError(f"model.text_config or another field of model is wrong: {short_reason(error)}") from error


def _four_bit() -> Any:
    if not torch.cuda.is_available():
        raise ValueError("model.lora.quantize_4bit needs a CUDA GPU; set it to false to train in full precision.")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "model.lora.quantize_4bit needs bitsandbytes: `pip install 'llm4rec[quantization]'`."
        ) from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )
