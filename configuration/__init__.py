"""What a user edits: recipes and the data schema; re-exports the model's configuration."""

from typing import TYPE_CHECKING, Any

from .recipe import (
    DataRecipe,
    DebiasingRecipe,
    LoraRecipe,
    ModelRecipe,
    Recipe,
    RetrievalRecipe,
    TrainingRecipe,
    recipe_names,
)
from .schema import DataSchema

if TYPE_CHECKING:
    from ..modeling_llm4rec.configuration_llm4rec import (
        FairnessConfig,
        LLM4RecConfig,
        ModalityConfig,
        PopularityConfig,
        RetrievalConfig,
    )

__all__ = [
    "DataRecipe",
    "DataSchema",
    "DebiasingRecipe",
    "FairnessConfig",
    "LLM4RecConfig",
    "LoraRecipe",
    "ModalityConfig",
    "ModelRecipe",
    "PopularityConfig",
    "Recipe",
    "RetrievalConfig",
    "RetrievalRecipe",
    "TrainingRecipe",
    "recipe_names",
]


def __getattr__(name: str) -> Any:
    # The model's configuration imports transformers, which reading a recipe does not need.
    if name in {"FairnessConfig", "LLM4RecConfig", "ModalityConfig", "PopularityConfig", "RetrievalConfig"}:
        from ..modeling_llm4rec import configuration_llm4rec

        return getattr(configuration_llm4rec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
