"""Low-rank adapters on a pretrained backbone, by peft: the fusion head is trained fully and saved with the adapter."""

from __future__ import annotations

from typing import Any

import torch

from ..configuration.recipe import LoraRecipe
from ..modeling_llm4rec import LLM4RecForCausalLM

TRAINED_FULLY = [
    "item_embedding",
    "event_embedding",
    "repeat_bias",
    "retrieval_adapter",
    "popularity_prior",
    "adversary",
    "state_eraser",
]
"""Modules that peft copies, trains and saves whole beside the low-rank updates."""


def add_lora(model: LLM4RecForCausalLM, recipe: LoraRecipe) -> Any:
    """Wrap a recommender in a `peft.PeftModel`: LoRA on the backbone, everything about items and events in full.

    Args:
        model: usually from `LLM4RecForCausalLM.from_backbone`.
        recipe: rank, alpha, dropout and target modules.

    Raises:
        ValueError: if `target_modules` match no layer of the backbone.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers.pytorch_utils import Conv1D

    if getattr(model.model.language_model, "is_loaded_in_4bit", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    layers = linear_layers(model)
    wanted = recipe.target_modules or sorted({name.rsplit(".", 1)[-1] for name in layers})
    targets = [f"model.language_model.{name}" for name in layers if name.rsplit(".", 1)[-1] in wanted]
    if not targets:
        raise ValueError(
            f"lora.target_modules={wanted} match no linear layer of the backbone, which has "
            f"{', '.join(sorted({name.rsplit('.', 1)[-1] for name in layers}))}."
        )
    parts = {name: getattr(model.model, name) for name in TRAINED_FULLY}
    fully = [name for name, part in parts.items() if part is not None and part.state_dict()]
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=targets,
        modules_to_save=fully,
        fan_in_fan_out=all(isinstance(model.get_submodule(name), Conv1D) for name in targets),
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.config.backbone_name_or_path,
    )
    return get_peft_model(model, config)


def merged(model: Any) -> LLM4RecForCausalLM:
    """The recommender with its adapter added into the weights: a plain model that needs neither peft nor the backbone.

    Args:
        model: from :func:`add_lora`, or an adapter that `from_pretrained` loaded.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    plain = recommender_of(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            plain.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            plain.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    plain._hf_peft_config_loaded = False
    if hasattr(plain, "peft_config"):
        del plain.peft_config
    return plain


def linear_layers(model: LLM4RecForCausalLM) -> list[str]:
    """Names, inside the backbone, of its linear layers (GPT-2's transposed ones and quantised ones included)."""
    from transformers.pytorch_utils import Conv1D

    return [
        name
        for name, module in model.model.language_model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D))
    ]


def recommender_of(model: Any) -> LLM4RecForCausalLM:
    """The recommender inside whatever wraps it: peft, DDP, or nothing."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model
