"""What of users and items a logistic regression of exposure may read: all that the prepared data tells of them."""

from __future__ import annotations

import numpy as np
import polars as pl

from ..data.prepared import PreparedData

MOST_VALUES = 100
"""Values of a column that get a feature of their own, the most frequent ones."""


def user_features(data: PreparedData) -> np.ndarray | None:
    """(users, d) float64 indicators of attributes, sensitive ones too: what was shown may depend on them.

    `None` if nothing is known of users.
    """
    columns = [*data.schema.users.attributes, *data.schema.users.sensitive]
    return _together([_indicators(data.users[column]) for column in dict.fromkeys(columns)])


def item_features(data: PreparedData) -> np.ndarray | None:
    """(items, d) float64 indicators of categories, and numbers; `None` if nothing is known of items."""
    parts = []
    for column, modality in data.schema.items.modalities.items():
        if modality.kind == "categorical":
            parts.append(_indicators(data.items[column]))
        elif modality.kind == "numerical":
            values = data.items[column].cast(pl.Float64)
            parts.append(values.fill_null(values.mean() or 0.0).to_numpy()[:, None])
    return _together(parts)


def _together(parts: list[np.ndarray]) -> np.ndarray | None:
    parts = [part for part in parts if part.shape[1]]
    return np.concatenate(parts, axis=1) if parts else None


def _indicators(values: pl.Series) -> np.ndarray:
    """(rows, values) 1 where a row holds a value; a row may hold several or none."""
    lists = values if values.dtype == pl.List else values.cast(pl.String).reshape((-1, 1)).arr.to_list()
    rows = pl.DataFrame({"row": np.arange(len(lists)), "value": lists}).explode("value").drop_nulls("value")
    frequent = rows["value"].value_counts(sort=True)["value"].head(MOST_VALUES).sort()
    place = {value: column for column, value in enumerate(frequent.to_list())}
    found = np.zeros((len(lists), len(place)))
    for row, value in rows.iter_rows():
        if value in place:
            found[row, place[value]] = 1
    return found
