"""Item index: the few items of a very large catalog among which a user's best ones lie, without scoring them all.

Used by `LLM4RecForCausalLM.recommend` above `config.max_exact_items` items; what it finds is scored exactly there.
"""

from __future__ import annotations

import math

import torch
from transformers.utils import is_faiss_available

POINTS_PER_LIST = 39
"""Items that a list's centroid is estimated from; FAISS calls fewer too few."""

SEARCHED_SHARE, SEARCHED_AT_LEAST = 16, 64
"""One list in sixteen is searched, but no fewer than 64."""


class ItemIndex:
    """FAISS inverted lists of item embeddings, a byte a dimension, searched by inner product.

    There are about four times as many lists as the square root of the catalog's size; of a large catalog one in
    sixteen is searched. The centroids are drawn by a fixed seed, so a catalog always gets the same index.

    Args:
        table: (items, d) float embeddings.

    Raises:
        ImportError: without faiss.
    """

    def __init__(self, table: torch.Tensor):
        if is_faiss_available():
            import faiss
        else:  # in this order, or remote code would be taken to need faiss
            raise ImportError("An item index needs faiss: `pip install 'llm4rec[retrieval]'`.")

        items, width = table.shape
        lists = max(1, min(int(4 * math.sqrt(items)), items // POINTS_PER_LIST))
        self._index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(width), width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        self._index.nprobe = min(lists, max(SEARCHED_AT_LEAST, lists // SEARCHED_SHARE))
        self._index.cp.niter, self._index.cp.max_points_per_centroid = 8, POINTS_PER_LIST
        vectors = table.detach().cpu().float().contiguous().numpy()
        self._index.train(vectors)
        self._index.add(vectors)

    def __len__(self) -> int:
        return self._index.ntotal

    def add(self, rows: torch.Tensor) -> None:
        """Append items (n, d), without moving those that are there."""
        self._index.add(rows.detach().cpu().float().contiguous().numpy())

    def search(self, states: torch.Tensor, count: int) -> torch.Tensor:
        """(batch, count) long item indices of likely high scores for states (batch, d); -1 where fewer were found."""
        found = self._index.search(states.detach().cpu().float().contiguous().numpy(), min(count, len(self)))[1]
        return torch.from_numpy(found).to(states.device)


__all__ = ["ItemIndex"]
