"""LLM4Rec: any causal language model becomes a multimodal recommender that generates only real items.

`import llm4rec` teaches the Auto classes of transformers the model, so `AutoModelForCausalLM.from_pretrained(folder)`
gives a recommender. That needs transformers and torch, seconds of import; the `llm4rec` command, which must answer
`--help` at once, leaves it until a command loads a model.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration import DataSchema, Recipe
    from .modeling_llm4rec import (
        Catalog,
        LLM4RecConfig,
        LLM4RecForCausalLM,
        LLM4RecForRelevance,
        LLM4RecModel,
        LLM4RecProcessor,
        ModalityConfig,
        RecommendOutput,
        register_auto_classes,
    )
    from .training.data.prepared import PreparedData
    from .training.simulation.world import World, WorldConfig
    from .training.train import train
    from .training.trainer import LLM4RecTrainer, LLM4RecTrainingArguments

__version__ = "0.1.0"

_WHERE = {
    "Catalog": ".modeling_llm4rec",
    "DataSchema": ".configuration",
    "LLM4RecConfig": ".modeling_llm4rec",
    "LLM4RecForCausalLM": ".modeling_llm4rec",
    "LLM4RecForRelevance": ".modeling_llm4rec",
    "LLM4RecModel": ".modeling_llm4rec",
    "LLM4RecProcessor": ".modeling_llm4rec",
    "LLM4RecTrainer": ".training.trainer",
    "LLM4RecTrainingArguments": ".training.trainer",
    "ModalityConfig": ".modeling_llm4rec",
    "PreparedData": ".training.data.prepared",
    "Recipe": ".configuration",
    "RecommendOutput": ".modeling_llm4rec",
    "World": ".training.simulation.world",
    "WorldConfig": ".training.simulation.world",
    "register_auto_classes": ".modeling_llm4rec",
    "train": ".training.train",
}
__all__ = [
    "Catalog",
    "DataSchema",
    "LLM4RecConfig",
    "LLM4RecForCausalLM",
    "LLM4RecForRelevance",
    "LLM4RecModel",
    "LLM4RecProcessor",
    "LLM4RecTrainer",
    "LLM4RecTrainingArguments",
    "ModalityConfig",
    "PreparedData",
    "Recipe",
    "RecommendOutput",
    "World",
    "WorldConfig",
    "__version__",
    "register_auto_classes",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'llm4rec' has no attribute {name!r}; it has {', '.join(sorted(_WHERE))}")
    return getattr(import_module(_WHERE[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)


# pytest imports this file a second time, under the name of its folder; that copy must not take over the Auto classes.
# While `python -m llm4rec.training.cli` looks for its module, "-m" stands where the command's name does later.
if __name__ == "llm4rec" and PurePath(sys.argv[0] if sys.argv else "").stem not in ("llm4rec", "-m"):
    import_module(".modeling_llm4rec", __name__)  # which registers them
