"""Text encoders: from an item's words to the vector that the `text` modality stores.

Run once per catalog by the processor, and again for new items; vectors are cached by content.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

HASHING = "hashing"
"""Name of the built-in encoder, which needs no download."""


class HashingTextEncoder:
    r"""Hashed words and word pairs, weighted by idf, projected by a truncated SVD fitted on the catalog.

    The stand-in where no sentence encoder can be had: it knows which words occur together in this catalog and nothing
    of the language. (Latent semantic analysis, Deerwester et al. 1990, on hashed features.)

    Args:
        idf: (features,) float32 inverse document frequencies.
        components: (size, features) float32 right singular vectors.
    """

    name = HASHING
    num_features = 2**14
    max_size = 128

    def __init__(self, idf: np.ndarray, components: np.ndarray):
        # safetensors writes the bytes as they lie, and the SVD hands out a transposed view.
        self.idf, self.components = np.ascontiguousarray(idf), np.ascontiguousarray(components)

    @classmethod
    def fit(cls, texts: list[str]) -> HashingTextEncoder:
        """Fit idf and SVD on the catalog's texts."""
        counts = cls._counts(texts)
        documents = np.asarray((counts > 0).sum(0)).ravel()
        idf = (np.log((1 + len(texts)) / (1 + documents)) + 1).astype(np.float32)
        TruncatedSVD = _sklearn("sklearn.decomposition").TruncatedSVD
        used = int((documents > 0).sum())
        size = max(1, min(cls.max_size, len(texts) - 1, used - 1))
        with np.errstate(invalid="ignore"):  # texts that are all alike explain no variance, which is not asked for
            svd = TruncatedSVD(size, random_state=0).fit(_unit_rows(counts.multiply(idf).tocsr()))
        return cls(idf, svd.components_.astype(np.float32))

    @property
    def size(self) -> int:
        """Length of the vectors."""
        return len(self.components)

    @classmethod
    def _counts(cls, texts: list[str]) -> Any:
        vectorizer = _sklearn("sklearn.feature_extraction.text").HashingVectorizer(
            n_features=cls.num_features, ngram_range=(1, 2), alternate_sign=False, norm=None, dtype=np.float32
        )
        return vectorizer.transform(texts)

    def encode(self, texts: list[str], progress: bool = False) -> np.ndarray:
        """(texts, size) float32 vectors."""
        return np.asarray(_unit_rows(self._counts(texts).multiply(self.idf).tocsr()) @ self.components.T, np.float32)

    def key(self) -> str:
        """What the vectors depend on besides the text."""
        return self.name + hashlib.sha256(self.components.tobytes()).hexdigest()


class SentenceTransformerEncoder:
    """Any encoder of the sentence-transformers library, by Hub id or folder.

    Args:
        name: Hub id or path.
        batch_size: texts per forward pass.
    """

    def __init__(self, name: str, batch_size: int = 64):
        self.name, self.batch_size = name, batch_size
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The encoder, loaded at first use."""
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError as error:
                raise ImportError(
                    f"The text encoder {self.name!r} needs sentence-transformers: `pip install 'llm4rec[text]'`. "
                    f"Without it, use the text encoder {HASHING!r}."
                ) from error
            self._model = SentenceTransformer(self.name)
        return self._model

    @property
    def size(self) -> int:
        """Length of the vectors."""
        return self.model.get_embedding_dimension()

    def encode(self, texts: list[str], progress: bool = False) -> np.ndarray:
        """(texts, size) float32 unit vectors."""
        return self.model.encode(
            texts, batch_size=self.batch_size, show_progress_bar=progress, normalize_embeddings=True
        ).astype(np.float32)

    def key(self) -> str:
        """What the vectors depend on besides the text."""
        return self.name


TextEncoder = HashingTextEncoder | SentenceTransformerEncoder


def encode_cached(encoder: TextEncoder, texts: list[str], cache: str | Path | None, progress: bool) -> np.ndarray:
    """Encode texts, or read the vectors of the same texts and encoder from an earlier run.

    Args:
        cache: folder of cached vectors (safetensors); `None`: no caching.
    """
    if cache is None:
        return encoder.encode(texts, progress)
    from safetensors.numpy import load_file, save_file

    digest = hashlib.sha256(encoder.key().encode())
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    path = Path(cache) / f"{digest.hexdigest()[:32]}.safetensors"
    if path.is_file():
        return load_file(path)["vectors"]
    vectors = np.ascontiguousarray(encoder.encode(texts, progress))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # several processes may encode the same catalog
    save_file({"vectors": vectors}, partial)
    partial.replace(path)
    return vectors


def _unit_rows(matrix: Any) -> Any:
    return _sklearn("sklearn.preprocessing").normalize(matrix)


def _sklearn(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"The text encoder {HASHING!r} needs scikit-learn: `pip install scikit-learn`.") from error
