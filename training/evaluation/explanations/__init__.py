"""Whether explanations are true and readable: faithfulness, claims, texts."""
