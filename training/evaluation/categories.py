"""Category sets of the catalog as a sparse matrix, for diversity and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import sparse


def category_matrix(categories: Iterable[Sequence[str] | None]) -> sparse.csr_array:
    """Which item has which category.

    Args:
        categories: per item its category names, in any order; `None` or empty: unknown.

    Shape:
        - returns: (items, distinct categories) float32, 0 or 1; columns in the order of first appearance
    """
    columns: dict[str, int] = {}
    indices, lengths = [], []
    for names in categories:
        found = sorted({columns.setdefault(name, len(columns)) for name in names or ()})
        indices += found
        lengths.append(len(found))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return sparse.csr_array(
        (np.ones(len(indices), dtype=np.float32), np.array(indices, dtype=np.int64), offsets),
        shape=(len(lengths), len(columns)),
    )
