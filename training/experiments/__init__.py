"""Experiments: sweeps that answer one question with a table and a plot."""
