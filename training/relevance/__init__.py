"""Training of relevance models: ratings of pairs of user and item, with or without inverse propensities."""
