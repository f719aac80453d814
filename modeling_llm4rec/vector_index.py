"""Vector index: the entries of a memory whose keys are most like a query, exactly or by FAISS.

Used by `vector_memory.py`; knows vectors and row numbers only.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers.utils import is_faiss_available

EXACT_BELOW, GRAPH_BELOW = 20_000, 300_000
"""Vectors up to which every one is compared, and up to which a neighbour graph is built; above: inverted lists."""

NEIGHBOURS_IN_GRAPH, GRAPH_EFFORT, GRAPH_SEARCH = 16, 64, 128
"""HNSW: links a vector, and how many candidates are kept while building and searching."""

POINTS_PER_LIST, SEARCHED_LISTS = 256, 48
"""Inverted lists: vectors a list holds on average, and how many lists are searched."""


class VectorIndex:
    """Search by inner product over unit vectors.

    `exact` compares all, `hnsw` walks a neighbour graph, `ivf` searches inverted lists of vectors that take a byte a
    dimension (product quantisation takes less and finds too few: `docs/design.md`).

    Args:
        kind: `exact`, `hnsw` or `ivf`.
        keys: (n, d) float, unit rows.

    Raises:
        ImportError: for the last two without faiss.
    """

    def __init__(self, kind: str, keys: torch.Tensor):
        self.kind = kind
        self._keys = keys if kind == "exact" else keys[:0]
        self._mapped: Path | None = None
        if kind == "exact":
            return
        faiss = _faiss()
        vectors = keys.float().contiguous().numpy()
        width = vectors.shape[1]
        if kind == "hnsw":
            self._index = faiss.IndexHNSWSQ(
                width, faiss.ScalarQuantizer.QT_8bit, NEIGHBOURS_IN_GRAPH, faiss.METRIC_INNER_PRODUCT
            )
            self._index.hnsw.efConstruction = GRAPH_EFFORT
        else:
            lists = max(1, len(vectors) // POINTS_PER_LIST)
            self._index = faiss.IndexIVFScalarQuantizer(
                faiss.IndexFlatIP(width), width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
            )
            self._index.cp.niter, self._index.cp.max_points_per_centroid = 6, 39
        self._index.train(vectors)
        self._index.add(vectors)
        self._set_effort()

    @staticmethod
    def kind_for(count: int) -> str:
        """The kind that fits `count` vectors; without faiss all are compared."""
        if count <= EXACT_BELOW or not is_faiss_available():
            return "exact"
        return "hnsw" if count <= GRAPH_BELOW else "ivf"

    def _set_effort(self) -> None:
        if self.kind == "hnsw":
            self._index.hnsw.efSearch = GRAPH_SEARCH
        else:
            self._index.nprobe = min(self._index.nlist, SEARCHED_LISTS)

    def __len__(self) -> int:
        return len(self._keys) + (0 if self.kind == "exact" else self._index.ntotal)

    def add(self, keys: torch.Tensor) -> None:
        """Append unit vectors (n, d); a mapped index cannot change, so theirs are compared one by one."""
        if self.kind == "exact" or self._mapped is not None:
            self._keys = torch.cat([self._keys, keys.to(self._keys.dtype)])
        else:
            self._index.add(keys.float().contiguous().numpy())

    def search(self, queries: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Similarities (batch, count) float, best first, and rows (batch, count) long; -1 where there are fewer."""
        found = []
        indexed = 0 if self.kind == "exact" else self._index.ntotal
        if indexed:
            best = self._index.search(queries.float().contiguous().numpy(), min(count, indexed))
            found.append(tuple(torch.from_numpy(part) for part in best))
        if len(self._keys) or not found:
            best = (queries.float() @ self._keys.float().T).topk(min(count, len(self._keys)), dim=1)
            found.append((best.values, best.indices + indexed))
        similarity, rows = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        if len(found) > 1:
            best = similarity.topk(min(count, similarity.shape[1]), dim=1)
            similarity, rows = best.values, rows.gather(1, best.indices)
        missing = (0, count - rows.shape[1])
        return (
            torch.nn.functional.pad(similarity, missing, value=-1.0),
            torch.nn.functional.pad(rows, missing, value=-1),
        )

    def save(self, path: str | Path) -> None:
        """Write a FAISS index; an exact one needs no file of its own, nor do vectors that are compared one by one.

        Raises:
            FileNotFoundError: if the index is mapped from a file that is gone.
        """
        if self._mapped is not None:
            shutil.copyfile(self._mapped, path)
        elif self.kind != "exact":
            _faiss().write_index(self._index, str(path))

    @classmethod
    def load(cls, path: str | Path, kind: str, keys: torch.Tensor) -> VectorIndex:
        """Read what `save` wrote; inverted lists are mapped into memory, not copied.

        Args:
            keys: all vectors; those after the last that the file holds are compared one by one.

        Raises:
            ImportError: without faiss.
            ValueError: if the file holds no index, or one of another shape than `keys`.
        """
        if kind == "exact":
            return cls(kind, keys)
        faiss = _faiss()
        index = cls.__new__(cls)
        index.kind, index._mapped = kind, Path(path).resolve() if kind == "ivf" else None
        try:
            index._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if kind == "ivf" else 0)
        except RuntimeError as error:
            raise ValueError(f"{path} is no index that FAISS can read. Copy or download the model again.") from error
        if index._index.ntotal > len(keys) or index._index.d != keys.shape[1]:
            raise ValueError(
                f"{path} holds {index._index.ntotal} vectors of width {index._index.d}, the memory has {len(keys)} of "
                f"width {keys.shape[1]}. The files are of two memories; copy or download the model again."
            )
        index._keys = keys[index._index.ntotal :]
        index._set_effort()
        return index


def unit_rows(vectors: torch.Tensor) -> torch.Tensor:
    """Rows scaled to length 1; a row of zeros stays."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def _faiss():
    if is_faiss_available():
        import faiss

        return faiss
    raise ImportError("A memory of this size needs faiss: `pip install 'llm4rec[retrieval]'`.")


__all__ = ["VectorIndex", "unit_rows"]
