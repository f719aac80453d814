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
from .recommendation_pipeline import TASK, RecommendationPipeline
from .relevance import LLM4RecForRelevance
from .retrieved_context import RetrievedContext
from .title_search import TitleNotFoundError, TitleSearch


def register_auto_classes() -> None:
    """Teach transformers the model type `llm4rec`: configuration, models, processor, and the task `recommendation`.

    What is taught here comes before the code that a checkpoint carries, so that is never run, nor asked about, where
    this package is.
    """
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoProcessor,
    )
    from transformers.pipelines import PIPELINE_REGISTRY

    AutoConfig.register(LLM4RecConfig.model_type, LLM4RecConfig, exist_ok=True)
    AutoModel.register(LLM4RecConfig, LLM4RecModel, exist_ok=True)
    AutoModelForCausalLM.register(LLM4RecConfig, LLM4RecForCausalLM, exist_ok=True)
    AutoModelForSequenceClassification.register(LLM4RecConfig, LLM4RecForRelevance, exist_ok=True)
    AutoProcessor.register(LLM4RecConfig, LLM4RecProcessor, exist_ok=True)
    if TASK not in PIPELINE_REGISTRY.supported_tasks:  # registering twice is warned of
        PIPELINE_REGISTRY.register_pipeline(TASK, RecommendationPipeline, pt_model=LLM4RecForCausalLM)


if __name__ == "llm4rec.modeling_llm4rec":  # not the copy that pytest makes under the name of the folder
    register_auto_classes()

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
    "RecommendationPipeline",
    "RelevanceConfig",
    "RetrievalConfig",
    "RetrievalMemory",
    "RetrievedContext",
    "TitleNotFoundError",
    "TitleSearch",
    "byte_tokenizer",
    "register_auto_classes",
]
