"""Classical recommenders that every accuracy table needs."""
