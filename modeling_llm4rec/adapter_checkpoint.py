"""Adapter checkpoints: low-rank updates and everything about items, without the backbone that they belong to.

Written by training with LoRA; `LLM4RecForCausalLM.from_pretrained` finds one here and rebuilds the recommender.
"""

from __future__ import annotations

import os
from typing import Any

from transformers.utils import cached_file

from .configuration_llm4rec import LLM4RecConfig

ADAPTER_CONFIG = "adapter_config.json"
HUB_KEYS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
"""Keyword arguments that say where to find files of the checkpoint; they do not speak of its backbone."""


def is_adapter(name: str | os.PathLike | None, kwargs: dict[str, Any]) -> bool:
    """Whether a folder or Hub repository holds an adapter in place of a whole model."""
    if name is None or kwargs.get("state_dict") is not None:
        return False
    hub = {key: kwargs[key] for key in HUB_KEYS if key in kwargs}
    return cached_file(str(name), ADAPTER_CONFIG, _raise_exceptions_for_missing_entries=False, **hub) is not None


def load_adapter(cls: type, name: str | os.PathLike, config: Any, kwargs: dict[str, Any]) -> Any:
    """The recommender whose adapter lies in `name`, on the backbone that its configuration names.

    Args:
        cls: `LLM4RecForCausalLM`.
        config: a configuration in place of the saved one, or `None`.
        kwargs: of `from_pretrained`; `is_trainable` to go on training, `dtype`, `device_map`, … for the backbone.

    Raises:
        OSError: if the backbone cannot be loaded.
        ValueError: if the checkpoint names no backbone, or lacks weights.
        ImportError: if peft is not there.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError(f"{name} holds an adapter, which needs peft: `pip install peft`.") from error

    hub = {key: kwargs.pop(key) for key in HUB_KEYS if key in kwargs}
    is_trainable, with_info = kwargs.pop("is_trainable", False), kwargs.pop("output_loading_info", False)
    for key in ("adapter_kwargs", "adapter_name", "trust_remote_code", "_from_auto", "_commit_hash"):
        kwargs.pop(key, None)
    # Not by `isinstance`: as remote code, the configuration's module is loaded twice.
    if getattr(config, "model_type", None) != LLM4RecConfig.model_type:
        where = name if config is None else config
        config, kwargs = LLM4RecConfig.from_pretrained(where, return_unused_kwargs=True, **hub, **kwargs)
    backbone = config.backbone_name_or_path
    if backbone is None:
        raise ValueError(
            f"{name} holds an adapter, but its config.json does not say on which backbone. Pass the one it was "
            "trained on: `from_pretrained(…, backbone_name_or_path=…)`."
        )
    kwargs.setdefault("dtype", config.dtype or "auto")
    same_place = {key: hub[key] for key in ("cache_dir", "local_files_only", "proxies", "token") if key in hub}
    try:
        model = cls.from_backbone(backbone, config=config, backbone_kwargs={**same_place, **kwargs})
    except OSError as error:
        raise OSError(
            f"{name} holds an adapter on the backbone {backbone!r}, which could not be loaded ({error}). Bring it "
            "back, name its new place with `from_pretrained(…, backbone_name_or_path=…)`, or train with "
            "`model.lora.merge=true` for a checkpoint that stands alone."
        ) from error
    peft_config = peft.PeftConfig.from_pretrained(str(name), **hub)
    # What merging or saving later reads; the adapter may have been trained where the backbone lay elsewhere.
    peft_config.base_model_name_or_path = backbone
    peft_config.inference_mode = not is_trainable
    # Not `model.load_adapter`: it would round the updates to the precision of the backbone.
    wrapped = peft.PeftModelForCausalLM(model, peft_config)
    result = wrapped.load_adapter(str(name), "default", is_trainable=is_trainable, **hub)
    missing, unexpected = set(result.missing_keys), set(result.unexpected_keys)
    if missing or unexpected:
        first = sorted(missing | unexpected)[0]
        raise ValueError(
            f"The adapter in {name} does not fit its own configuration: {len(missing)} weights are missing and "
            f"{len(unexpected)} are unknown, such as {first}. Save it again, or download it again."
        )
    # From here on transformers knows of the adapter: `save_pretrained` writes it and not the backbone.
    model._hf_peft_config_loaded = True
    model.train(is_trainable)
    info = {"missing_keys": missing, "unexpected_keys": unexpected, "mismatched_keys": set(), "error_msgs": []}
    return (model, info) if with_info else model
