"""A recommender at a moment: what is asked together, and which version it is."""

from __future__ import annotations

from dataclasses import dataclass

from ..modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor


@dataclass(frozen=True)
class Snapshot:
    """A recommender that stays as it is while newer versions are published.

    Attributes:
        model: in evaluation mode; shared, so nobody may change it.
        processor: with the catalog of the model.
        version: names it; another one means other weights or another catalog.
    """

    model: LLM4RecForCausalLM
    processor: LLM4RecProcessor
    version: str

    @property
    def has_popularity(self) -> bool:
        """Whether γ′ can be chosen."""
        return self.model.model.popularity_prior is not None


__all__ = ["Snapshot"]
