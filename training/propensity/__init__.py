"""Propensities: how likely each event was to be observed, and what follows for its weight."""
