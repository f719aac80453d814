r"""Diversity inside a recommended list: how little its items have in common.

.. math:: \mathrm{ILD}(L) = \frac{2}{\lvert L \rvert (\lvert L \rvert - 1)} \sum_{i < j \le \lvert L \rvert}
    \bigl(1 - \mathrm{sim}(L_i, L_j)\bigr)

the average dissimilarity of Smyth and McClave, *Similarity vs. diversity*, ICCBR 2001 (one minus the intra-list
similarity of Ziegler et al., *Improving recommendation lists through topic diversification*, WWW 2005). The evaluator
computes the pairwise similarities of the longest list once and reads every shorter one off its corner.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse


def jaccard_similarity(lists: np.ndarray, categories: sparse.csr_array) -> np.ndarray:
    r"""Similarity of the items of each list by their category sets.

    .. math:: \mathrm{sim}(i, j) = \frac{\lvert C_i \cap C_j \rvert}{\lvert C_i \cup C_j \rvert}

    Shape:
        - lists: (cases, k) item indices, negative: no item
        - categories: (items, categories), 0 or 1
        - returns: (cases, k, k) float64, NaN where an item has no category or is missing
    """
    cases, k = lists.shape
    chosen = categories[np.maximum(lists, 0).ravel()]
    sizes = np.where(lists >= 0, np.diff(chosen.indptr).reshape(cases, k), 0)
    # Categories of different lists must not meet: each list gets columns of its own.
    owner = np.repeat(np.arange(cases * k) // k, np.diff(chosen.indptr)).astype(np.int64)
    blocks = sparse.csr_array(
        (np.ones(chosen.nnz), owner * categories.shape[1] + chosen.indices, chosen.indptr),
        shape=(cases * k, cases * max(categories.shape[1], 1)),
    )
    common = sparse.coo_array(blocks @ blocks.T)
    rows, columns = common.coords
    both = np.zeros((cases, k, k))
    both[rows // k, rows % k, columns % k] = common.data
    either = sizes[:, :, None] + sizes[:, None, :] - both
    known = (sizes[:, :, None] > 0) & (sizes[:, None, :] > 0)
    return np.divide(both, either, out=np.full(both.shape, np.nan), where=known)


def cosine_similarity(lists: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Similarity of the items of each list by the cosine of their vectors.

    Shape:
        - lists: (cases, k) item indices, negative: no item
        - vectors: (items, d) float; a row of zeros: unknown
        - returns: (cases, k, k) float64, NaN where an item is unknown or missing
    """
    chosen = vectors[np.maximum(lists, 0)].astype(np.float64)
    norms = np.linalg.norm(chosen, axis=-1, keepdims=True)
    unit = np.divide(chosen, norms, out=np.full(chosen.shape, np.nan), where=(norms > 0) & (lists >= 0)[..., None])
    return unit @ unit.swapaxes(1, 2)


def intra_list_diversity(similarity: np.ndarray, k: int | None = None) -> np.ndarray:
    """Mean dissimilarity of the pairs among the first k items whose similarity is known.

    Shape:
        - similarity: (cases, n, n), from :func:`jaccard_similarity` or :func:`cosine_similarity`
        - returns: (cases,) float64, NaN for a list without such a pair
    """
    first, second = np.triu_indices(similarity.shape[1] if k is None else min(k, similarity.shape[1]), 1)
    pairs = similarity[:, first, second]
    known = ~np.isnan(pairs)
    count = known.sum(axis=1)
    total = np.where(known, 1 - pairs, 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(pairs), np.nan), where=count > 0)
