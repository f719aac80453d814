"""Item features: from the catalog's columns to the tensors that the item embedding stores.

Fitted once on a catalog by the processor (vocabularies, means, text encoder), then applied to it and to new items.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .configuration_llm4rec import ModalityConfig
from .text_encoding import HASHING, HashingTextEncoder, SentenceTransformerEncoder, TextEncoder, encode_cached

MAX_TEXT_CHARACTERS = 4000
"""Longer item texts are cut: encoders read a few hundred words, and a hostile text must not cost more than others."""


@dataclass
class ModalityStatistics:
    """What was learned from the catalog about one column; JSON-serialisable, saved with the processor.

    Attributes:
        name, kind: as in `ModalityConfig`.
        column: what it was made from; the column of its own name by default.
        values: categorical, words: the known values; value j has index j + 1.
        max_values: categorical, words: the most values an item holds; further ones are dropped.
        log: numerical: whether log(1 + x) is taken first, for skewed non-negative columns such as prices.
        mean, std: numerical: of the (transformed) column.
        feature_size: text, vector: length of the vectors.
    """

    name: str
    kind: str
    column: str = ""
    values: list[str] = field(default_factory=list)
    max_values: int = 0
    log: bool = False
    mean: float = 0.0
    std: float = 1.0
    feature_size: int = 0

    def __post_init__(self) -> None:
        self.column = self.column or self.name


class ItemFeaturizer:
    """Turns item columns into feature tensors.

    Args:
        statistics: one entry per column modality.
        text_encoder: needed if a modality is `text`.
        with_id: whether items also have an `id` modality (first column of `present`).
    """

    def __init__(
        self, statistics: list[ModalityStatistics], text_encoder: TextEncoder | None = None, with_id: bool = True
    ):
        self.statistics, self.text_encoder, self.with_id = statistics, text_encoder, with_id

    @classmethod
    def fit(
        cls,
        columns: dict[str, list],
        modalities: dict[str, str],
        text_encoder: str = HASHING,
        *,
        with_id: bool = True,
        words_per_text: int = 0,
        min_count: int = 2,
        max_values: int = 32,
    ) -> ItemFeaturizer:
        """Learn vocabularies and statistics from a catalog.

        Args:
            columns: the catalog's columns as lists.
            modalities: kind of each column that the model reads.
            text_encoder: `"hashing"`, or a sentence-transformers id or folder.
            words_per_text: most words of a text that get embeddings of their own, trained with the model, beside the
                vector of the text encoder; 0: none.
            min_count: categorical values of fewer items are dropped: they would only stand for an item's id.
            max_values: most values per item that a categorical modality keeps.

        Raises:
            ValueError: if a column is missing or of the wrong kind.
        """
        for name in modalities:
            if name not in columns:
                raise ValueError(f"Modality {name!r} has no column in the item table; there are {sorted(columns)}.")
        encoder: TextEncoder | None = None
        texts = [_text(v) for name, kind in modalities.items() if kind == "text" for v in columns[name]]
        if texts:
            known = [text for text in texts if text]
            if text_encoder == HASHING:
                encoder = HashingTextEncoder.fit(known or [""])
            else:
                encoder = SentenceTransformerEncoder(text_encoder)
        statistics = []
        for name, kind in modalities.items():
            fitted = ModalityStatistics(name, kind)
            if kind == "text":
                fitted.feature_size = encoder.size
            elif kind == "categorical":
                _fit_categorical(fitted, columns[name], min_count, max_values)
            elif kind == "numerical":
                _fit_numerical(fitted, columns[name])
            elif kind == "vector":
                _fit_vector(fitted, columns[name])
            else:
                raise ValueError(f"Column {name!r} has the unknown modality kind {kind!r}.")
            statistics.append(fitted)
            if kind == "text" and words_per_text:
                words = ModalityStatistics(f"{name} words", "words", name)
                _fit_words(words, columns[name], words_per_text)
                statistics.append(words)
        return cls(statistics, encoder, with_id)

    def modality_configs(self, num_items: int) -> list[ModalityConfig]:
        """The modalities as the model's configuration describes them."""
        configs = [ModalityConfig("id", "id", num_embeddings=num_items)] if self.with_id else []
        for s in self.statistics:
            size = len(s.values) + 1 if s.kind in {"categorical", "words"} else 0
            configs.append(ModalityConfig(s.name, s.kind, size, s.feature_size, s.max_values))
        return configs

    def transform(
        self, columns: dict[str, list], cache: str | Path | None = None, progress: bool = False
    ) -> dict[str, torch.Tensor]:
        """Feature tensors of items.

        Args:
            columns: a missing column, and `None` in a column, make the modality missing there.
            cache: folder for text vectors.

        Returns:
            per modality a tensor with a row an item (float32; int32 for categorical and words), and `present`
            (items, modalities) bool with `id`, where there is one, in the first column.
        """
        count = len(next(iter(columns.values())))
        features: dict[str, torch.Tensor] = {}
        present = [torch.ones(count, dtype=torch.bool)] if self.with_id else []
        for s in self.statistics:
            values = columns.get(s.column, [None] * count)
            if s.kind == "text":
                features[s.name], there = self._texts(s, values, cache, progress)
            elif s.kind in {"categorical", "words"}:
                features[s.name] = _categories(s, values if s.kind == "categorical" else [_words(v) for v in values])
                there = (features[s.name] > 0).any(-1)
            elif s.kind == "numerical":
                numbers = _numbers(s, values)
                there = torch.from_numpy(~np.isnan(numbers))
                features[s.name] = torch.from_numpy(np.nan_to_num((numbers - s.mean) / s.std).astype(np.float32))
            else:
                features[s.name], there = _vectors(s, values)
            present.append(there)
        features["present"] = torch.stack(present, dim=1)
        return features

    def _texts(
        self, s: ModalityStatistics, values: list, cache: str | Path | None, progress: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        texts = [_text(value) for value in values]
        there = torch.tensor([bool(text) for text in texts], dtype=torch.bool)
        vectors = torch.zeros(len(texts), s.feature_size)
        known = [text for text in texts if text]
        if known:
            vectors[there] = torch.from_numpy(encode_cached(self.text_encoder, known, cache, progress))
        return vectors, there

    def to_dict(self) -> dict[str, Any]:
        """The JSON part of the state; the hashing encoder's matrices are saved apart."""
        return {
            "with_id": self.with_id,
            "text_encoder": None if self.text_encoder is None else self.text_encoder.name,
            "modalities": [asdict(s) for s in self.statistics],
        }


def _text(value: Any) -> str:
    return "" if value is None else " ".join(str(value)[:MAX_TEXT_CHARACTERS].split())


def _words(value: Any) -> list[str]:
    """Distinct words and numbers of a text, in lower case."""
    return list(dict.fromkeys(re.findall(r"\w+", _text(value).casefold())))


def _fit_words(s: ModalityStatistics, column: list, max_values: int) -> None:
    """Words of at least three items; those that a quarter of all items share tell nothing apart."""
    counts = Counter(word for value in column for word in _words(value))
    common = max(3, len(column) // 4)
    s.values = [w for w, n in sorted(counts.items(), key=lambda e: (-e[1], e[0])) if 3 <= n <= common]
    s.max_values = max_values


def _value_list(value: Any) -> list[str]:
    if value is None:
        return []
    values = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    return list(dict.fromkeys(str(v).strip() for v in values if v is not None and str(v).strip()))


def _fit_categorical(s: ModalityStatistics, column: list, min_count: int, max_values: int) -> None:
    counts = Counter(value for values in column for value in _value_list(values))
    s.values = [value for value, count in sorted(counts.items(), key=lambda e: (-e[1], e[0])) if count >= min_count]
    known = set(s.values)
    longest = max((sum(v in known for v in _value_list(values)) for values in column), default=0)
    s.max_values = max(1, min(max_values, longest))


def _categories(s: ModalityStatistics, column: list) -> torch.Tensor:
    index = {value: position + 1 for position, value in enumerate(s.values)}
    out = np.zeros((len(column), s.max_values), dtype=np.int32)
    for row, values in enumerate(column):
        # The rarest values say most about an item, so they are kept where there are too many.
        known = sorted((index[v] for v in _value_list(values) if v in index), reverse=True)[: s.max_values]
        out[row, : len(known)] = known
    return torch.from_numpy(out)


def _float(s: ModalityStatistics, value: Any) -> float:
    try:
        number = float("nan") if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Column {s.name!r} holds {value!r}, expected a number or nothing.") from error
    return number if np.isfinite(number) else float("nan")


def _numbers(s: ModalityStatistics, column: list) -> np.ndarray:
    numbers = np.array([_float(s, value) for value in column], dtype=np.float64)
    return np.log1p(numbers.clip(min=0)) if s.log else numbers


def _fit_numerical(s: ModalityStatistics, column: list) -> None:
    numbers = _numbers(s, column)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return
    spread = numbers.std()
    skewness = ((numbers - numbers.mean()) ** 3).mean() / spread**3 if spread > 0 else 0.0
    if numbers.min() >= 0 and skewness > 2:
        s.log, numbers = True, np.log1p(numbers)
    s.mean, s.std = float(numbers.mean()), float(numbers.std()) or 1.0


def _fit_vector(s: ModalityStatistics, column: list) -> None:
    sizes = {len(value) for value in column if value is not None}
    if len(sizes) != 1:
        raise ValueError(f"Column {s.name!r} holds vectors of the lengths {sorted(sizes)}, expected one length.")
    s.feature_size = sizes.pop()


def _vectors(s: ModalityStatistics, column: list) -> tuple[torch.Tensor, torch.Tensor]:
    there = torch.tensor([value is not None for value in column], dtype=torch.bool)
    vectors = torch.zeros(len(column), s.feature_size)
    for row, value in enumerate(column):
        if value is not None:
            if len(value) != s.feature_size:
                raise ValueError(
                    f"Column {s.name!r} holds a vector of length {len(value)}, expected {s.feature_size}."
                )
            vectors[row] = torch.as_tensor(value, dtype=torch.float32)
    return vectors, there
