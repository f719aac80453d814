"""Readers of public data sets and of your own tables, one file a source."""
