"""The model, complete by itself: it travels to the Hub as remote code, so nothing here imports the rest of llm4rec."""

from .catalog import Catalog
from .configuration_llm4rec import (
    FairnessConfig,
    LLM4RecConfig,
    ModalityConfig,
    PopularityConfig,
    RelevanceConfig,
    RetrievalConfig,
)
from .evidence import Evidence, Explanation
from .memory import RetrievalMemory
from .modeling_llm4rec import LLM4RecForCausalLM, LLM4RecModel, LLM4RecPreTrainedModel
from .phrasing import ExplanationPhraser
from .processing_llm4rec import LLM4RecProcessor, byte_tokenizer
from .recommendation import RecommendOutput
from .relevance import LLM4RecForRelevance
from .retrieved_context import RetrievedContext

__all__ = [
    "Catalog",
    "Evidence",
    "Explanation",
    "ExplanationPhraser",
    "FairnessConfig",
    "LLM4RecConfig",
    "LLM4RecForCausalLM",
    "LLM4RecForRelevance",
    "LLM4RecModel",
    "LLM4RecPreTrainedModel",
    "LLM4RecProcessor",
    "ModalityConfig",
    "PopularityConfig",
    "RecommendOutput",
    "RelevanceConfig",
    "RetrievalConfig",
    "RetrievalMemory",
    "RetrievedContext",
    "byte_tokenizer",
]
