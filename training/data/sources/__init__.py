"""Readers of public data sets and of your own tables, one file a source.

Each is a function `(path, options) -> RawData` in :data:`SOURCES`; a new one needs nothing but an entry there.
"""

from __future__ import annotations

from .amazon_reviews import read_amazon_reviews
from .movielens import read_movielens
from .raw import RawData, RawTable, ReadOptions, Source
from .sequences import read_sequences
from .table import read_table
from .yelp import read_yelp

SOURCES: dict[str, Source] = {
    "movielens": read_movielens,
    "amazon-reviews": read_amazon_reviews,
    "yelp": read_yelp,
    "sequences": read_sequences,
    "table": read_table,
}
"""What `llm4rec prepare` can read, by name."""

__all__ = ["SOURCES", "RawData", "RawTable", "ReadOptions", "Source"]
