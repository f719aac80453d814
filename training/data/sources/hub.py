"""A data set on the Hugging Face Hub as a lazy table; used by the source `table` for a path that is not on disk."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from .files import row_places
from .raw import ROW, RawTable


def scan_hub(name: str, config: str | None = None) -> RawTable:
    """Load one configuration of a data set; its splits are joined in their order.

    Args:
        config: the configuration, where the data set has several (such as `interactions` and `items`).

    Raises:
        FileNotFoundError: if the data set is not there or the Hub cannot be reached.
        ValueError: if a configuration has to be named or cannot be read.
    """
    import datasets

    wanted = f"{name} ({config})" if config else name
    try:
        splits = datasets.load_dataset(name, config)
    except ValueError as error:
        raise ValueError(
            f"{wanted} on the Hub cannot be read: {str(error).splitlines()[0]} Name the configuration in schema.yaml: "
            "`interactions: {path: CONFIG}`."
        ) from error
    except Exception as error:  # requests, httpx, huggingface_hub and fsspec each have their own
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise FileNotFoundError(
            f"{wanted} is neither on disk nor readable on the Hub ({type(error).__name__}: {reason}). Check the name "
            "and the network; for private data log in with `hf auth login`; or download it and give its folder."
        ) from error
    tables = [pl.from_arrow(split.data.table) for split in splits.values()]
    frame = pl.concat(tables, how="diagonal_relaxed").with_row_index(ROW)
    return RawTable(frame.lazy(), Path(wanted), row_places)
