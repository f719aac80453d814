"""From raw files to a trained, evaluated recommender."""
