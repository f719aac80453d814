"""LLM4Rec: any causal language model becomes a multimodal recommender."""
