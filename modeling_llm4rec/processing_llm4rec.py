"""Processor: between people's words and ids and the model's tokens.

Holds the tokenizer, the catalog and the item featurizer. Makes the model's inputs from histories of item ids or from
text with item placeholders, and turns recommended indices back into items.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, PreTrainedTokenizerFast, ProcessorMixin
from transformers.utils import cached_file

from .catalog import Catalog, columns_of
from .context_text import render_context
from .event_embedding import rating_ids, time_gap_ids
from .evidence import Explanation
from .explanation_record import ExplanationRecorder
from .explanation_text import next_best, render_html, render_text
from .item_features import ItemFeaturizer, ModalityStatistics
from .recommendation import RecommendOutput
from .retrieved_context import RetrievedContext
from .text_encoding import HASHING, HashingTextEncoder, SentenceTransformerEncoder

CATALOG_FILE = "catalog.parquet"
TEXT_ENCODER_FILE = "text_encoder.safetensors"
ITEM_PLACEHOLDER = re.compile(r"<\|item:(.+?)\|>")
_HUB_KEYS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the 256 bytes and four special tokens: all text, no vocabulary to learn or download."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<|pad|>", "<|bos|>", "<|eos|>", "<|unk|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(special + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=special[3]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **names)


class LLM4RecProcessor(ProcessorMixin):
    """Processor of an LLM4Rec model.

    Args:
        tokenizer: the backbone's tokenizer.
        items: state of the item featurizer, as plain JSON values.
        text_vocab_size: V of the model; item `i` is token `V + i`.
        max_history: events of a history that the model reads, the latest ones.
        rating_levels: ratings that get an embedding.
        num_time_gaps: log2 buckets of seconds between events; 0: times are not read.

    Make one from a catalog with [`~LLM4RecProcessor.from_catalog`].
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        items: dict[str, Any] | None = None,
        text_vocab_size: int | None = None,
        max_history: int = 50,
        rating_levels: list[float] | None = None,
        num_time_gaps: int = 0,
        chat_template: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(tokenizer, chat_template=chat_template)
        self.items = items or {"with_id": True, "text_encoder": None, "modalities": []}
        self.text_vocab_size = text_vocab_size if text_vocab_size is not None else len(tokenizer)
        self.max_history = max_history
        self.rating_levels = rating_levels or []
        self.num_time_gaps = num_time_gaps
        self._catalog: Catalog | None = None
        self._featurizer: ItemFeaturizer | None = None

    @classmethod
    def from_catalog(
        cls,
        table: Any,
        modalities: dict[str, str],
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        text_vocab_size: int | None = None,
        text_encoder: str = HASHING,
        with_id: bool = True,
        words_per_text: int = 0,
        max_history: int = 50,
        rating_levels: Sequence[float] = (),
        num_time_gaps: int = 0,
    ) -> LLM4RecProcessor:
        """A processor fitted to a catalog.

        Args:
            table: items with a column `item_id`, in any form that `columns_of` reads.
            modalities: kind of each column the model shall read: text, categorical, numerical or vector.
            tokenizer: the backbone's; by default a byte tokenizer.
            text_vocab_size: rows of the backbone's text embedding, where they are more than the tokenizer's tokens.
            text_encoder: `"hashing"`, or a sentence-transformers id or folder.
            with_id: give every item an embedding of its own beside its content.
            words_per_text: most words of each text that get embeddings of their own, trained with the model; 0: none.
        """
        catalog = Catalog(table)
        featurizer = ItemFeaturizer.fit(
            catalog.columns, modalities, text_encoder, with_id=with_id, words_per_text=words_per_text
        )
        processor = cls(
            tokenizer if tokenizer is not None else byte_tokenizer(),
            items=featurizer.to_dict(),
            text_vocab_size=text_vocab_size,
            max_history=max_history,
            rating_levels=[float(level) for level in rating_levels],
            num_time_gaps=num_time_gaps,
        )
        processor._catalog, processor._featurizer = catalog, featurizer
        return processor

    @property
    def catalog(self) -> Catalog:
        """The items. Raises `ValueError` if the processor was made without a catalog."""
        if self._catalog is None:
            raise ValueError("This processor has no catalog; make one with `LLM4RecProcessor.from_catalog`.")
        return self._catalog

    def model_config(self) -> dict[str, Any]:
        """The fields of [`LLM4RecConfig`] that the catalog and the events decide."""
        return {
            "modalities": self._featurizer.modality_configs(len(self.catalog)),
            "num_items": len(self.catalog),
            "rating_levels": list(self.rating_levels),
            "num_time_gaps": self.num_time_gaps,
        }

    def item_features(
        self, table: Any = None, cache: str | Path | None = None, progress: bool = False
    ) -> dict[str, torch.Tensor]:
        """Feature tensors for `model.set_items` (no table: the whole catalog) or `model.add_items` (new items).

        Args:
            table: new items; columns that are missing there are missing modalities.
            cache: folder where text vectors are kept between runs.
        """
        columns = self.catalog.columns if table is None else columns_of(table)
        return self._featurizer.transform(columns, cache, progress)

    def add_items(self, table: Any) -> None:
        """Append items to the catalog; see `model.add_items` for the model's side."""
        self.catalog.append(table)

    def item_mask(self, item_ids: Sequence[Any]) -> torch.Tensor:
        """(items,) bool, true at the given ids: an allow or deny mask for `recommend`."""
        mask = torch.zeros(len(self.catalog), dtype=torch.bool)
        mask[self.catalog.indices(item_ids)] = True
        return mask

    @property
    def start_id(self) -> int:
        """Token before the first event: the state of a user of whom nothing is known."""
        t = self.tokenizer
        ids = (t.bos_token_id, t.eos_token_id, t.pad_token_id)
        return next(token for token in (*ids, 0) if token is not None)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        histories: Sequence[Sequence[Any]] | None = None,
        ratings: Sequence[Sequence[float | None]] | None = None,
        timestamps: Sequence[Sequence[int | None]] | None = None,
        contexts: Sequence[str] | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs from histories of item ids, or from text with `<|item:ID|>` placeholders.

        Args:
            text: a text or several; every placeholder becomes that item's token.
            histories: per user the item ids in time order; may be empty.
            ratings, timestamps: beside each item of `histories`, where known; unix seconds.
            contexts: per user a text that a pretrained backbone reads before the history, from `render_context`.
            return_tensors: `"pt"` for tensors.

        Returns:
            `input_ids`, `attention_mask` (padded on the tokenizer's side), `rating_ids` and `time_gap_ids` if the
            model reads them, and `seen_items` (batch, n) item indices padded with -1 if a history was longer than
            `max_history`.

        Raises:
            ValueError: for an unknown item id, naming the nearest known ones.
            ValueError: if not exactly one of `text` and `histories` is given, or lengths differ.
        """
        if (text is None) == (histories is None):
            raise ValueError("Pass exactly one of `text` and `histories`.")
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            return self._pad([{"input_ids": self._tokens_of(t)} for t in texts], return_tensors)
        if isinstance(histories, str) or any(isinstance(h, str) for h in histories):
            raise ValueError("`histories` holds strings, expected a list of item ids per user: [['id-1', 'id-2'], …].")
        given = {n: v for n, v in {"ratings": ratings, "timestamps": timestamps}.items() if v is not None}
        for name, values in given.items():
            if len(values) != len(histories):
                raise ValueError(f"{name} has {len(values)} entries for {len(histories)} histories.")
        if contexts is not None and len(contexts) != len(histories):
            raise ValueError(f"contexts has {len(contexts)} entries for {len(histories)} histories.")
        rows, seen = [], []
        for user, history in enumerate(histories):
            indices = self.catalog.indices(history)
            beside = {}
            for name, values in given.items():
                if len(values[user]) != len(indices):
                    raise ValueError(
                        f"{name}[{user}] has {len(values[user])} values for a history of {len(indices)} items."
                    )
                beside[name] = values[user]
            row = self.encode_history(indices, **beside)
            if contexts is not None:
                # Text alone: what looks like a placeholder of an item is none here.
                before = self.tokenizer(contexts[user], add_special_tokens=False)["input_ids"]
                row = {name: (before if name == "input_ids" else [0] * len(before)) + ids for name, ids in row.items()}
            rows.append(row)
            seen.append(indices)
        batch = self._pad(rows, None)
        if any(len(indices) > self.max_history for indices in seen):
            longest = max(map(len, seen))
            batch["seen_items"] = [indices + [-1] * (longest - len(indices)) for indices in seen]
        return batch.convert_to_tensors(return_tensors)

    def render_context(self, context: RetrievedContext, max_items: int = 5, max_characters: int = 800) -> list[str]:
        """What a memory found, as text for `contexts`: quoted titles of bounded length that steer nothing.

        Args:
            context: `recommend(…).retrieved`.
            max_items: titles of every source.
            max_characters: of each text.
        """
        tokenizer = self.tokenizer
        special = sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}, key=len, reverse=True)
        return [
            render_context(context, row, self.catalog.title, special, max_items, max_characters)
            for row in range(len(context.items))
        ]

    def encode_history(
        self,
        items: Sequence[int] | np.ndarray,
        ratings: Sequence[float | None] | None = None,
        timestamps: Sequence[int | None] | None = None,
    ) -> dict[str, list[int]]:
        """One history as unpadded `input_ids` (start token, then the latest `max_history` items) and event ids.

        Args:
            items: item indices in time order.
            ratings: beside them, `None` or NaN where unknown.
            timestamps: unix seconds, `None` or negative where unknown.
        """
        keep = slice(max(0, len(items) - self.max_history), None)
        row = {"input_ids": [self.start_id, *(self.text_vocab_size + int(item) for item in items[keep])]}
        empty = [0] * (len(row["input_ids"]) - 1)
        if self.rating_levels:
            values = empty
            if ratings is not None:
                known = [np.nan if r is None else r for r in ratings[keep]]
                values = rating_ids(np.asarray(known, dtype=np.float64), self.rating_levels).tolist()
            row["rating_ids"] = [0, *values]
        if self.num_time_gaps:
            values = empty
            if timestamps is not None:
                known = [-1 if t is None else int(t) for t in timestamps]
                values = time_gap_ids(np.asarray(known, dtype=np.int64), self.num_time_gaps)[keep].tolist()
            row["time_gap_ids"] = [0, *values]
        return row

    def _tokens_of(self, text: str) -> list[int]:
        tokens: list[int] = []
        position = 0
        for match in ITEM_PLACEHOLDER.finditer(text):
            before = text[position : match.start()]
            tokens += self.tokenizer(before, add_special_tokens=position == 0)["input_ids"] if before else []
            tokens.append(self.text_vocab_size + self.catalog.index(match.group(1)))
            position = match.end()
        rest = text[position:]
        if rest or not tokens:
            tokens += self.tokenizer(rest, add_special_tokens=position == 0)["input_ids"]
        return tokens or [self.start_id]

    def _pad(self, rows: list[dict[str, list[int]]], return_tensors: str | None) -> BatchFeature:
        length = max((len(row["input_ids"]) for row in rows), default=0)
        left = self.tokenizer.padding_side == "left"
        pad_id = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.start_id
        batch: dict[str, list] = {}
        for row in rows:
            for name, values in {**row, "attention_mask": [1] * len(row["input_ids"])}.items():
                filler = [pad_id if name == "input_ids" else 0] * (length - len(values))
                batch.setdefault(name, []).append(filler + values if left else values + filler)
        return BatchFeature(batch, tensor_type=return_tensors)

    def decode_items(
        self, items: torch.Tensor | RecommendOutput, scores: torch.Tensor | None = None
    ) -> list[list[dict[str, Any]]]:
        """Recommended items for people to read.

        Args:
            items: `out.items`, or the whole output of `recommend`.
            scores: (batch, k) where `items` is a tensor that carries none.

        Returns:
            per user a list, best first, of `{"item_id", "title", "score", …}` with all raw fields of the item; `score`
            is `None` where no scores are known. Places without an item (-1) are left out.
        """
        if not hasattr(items, "tolist"):  # not by `isinstance`: as remote code, the model has a class of its own
            items, scores = items.items, items.scores
        if scores is None:
            scores = getattr(items, "scores", None)
        decoded = []
        for row, indices in enumerate(items.tolist()):
            places = [column for column, index in enumerate(indices) if index >= 0]
            values = [None if scores is None else float(scores[row, column]) for column in places]
            decoded.append(
                [
                    {
                        "item_id": self.catalog.item_ids[indices[column]],
                        "title": self.catalog.title(indices[column]),
                        "score": score,
                        **{
                            n: v for n, v in self.catalog.row(indices[column]).items() if n not in ("item_id", "title")
                        },
                    }
                    for column, score in zip(places, values, strict=True)
                ]
            )
        return decoded

    def decode_explanations(
        self, explanations: RecommendOutput | list[list[Explanation]]
    ) -> list[list[dict[str, Any]]]:
        """Explanations as records: plain JSON values with the names that people know.

        Args:
            explanations: the output of `recommend(…, explain=True)`, or of `explain`.

        Returns:
            per user a list of records, see [`ExplanationRecorder`].

        Raises:
            ValueError: if the output holds no explanations.
        """
        recommended = hasattr(explanations, "explanations")  # not by `isinstance`, see `decode_items`
        if recommended:
            explanations = explanations.explanations
        if explanations is None:
            raise ValueError("The output holds no explanations; call `recommend(…, explain=True)`.")
        modalities = self._featurizer.modality_configs(len(self.catalog))
        recorder = ExplanationRecorder(self.catalog, modalities, self._featurizer.statistics)
        return [[recorder.record(explanation, recommended) for explanation in user] for user in explanations]

    def render_explanations(
        self,
        explanations: RecommendOutput | list[list[Explanation]] | list[list[dict[str, Any]]],
        style: str = "short",
        language: str = "en",
        markup: str = "text",
    ) -> list[list[str]]:
        """Explanations in words.

        Args:
            explanations: the output of `recommend(…, explain=True)`, of `explain`, or records of them.
            style: one of `short`, `detailed`, `contrastive` (rather than the next item of the list), `sceptical`.
            language: `en`, `de`, or what was added to `explanation_messages.MESSAGES`.
            markup: `text` or `html`, where every name is escaped.

        Returns:
            per user a text for each item.

        Raises:
            ValueError: if there is no such style, language or markup, or the output holds no explanations.
        """
        renderers = {"text": render_text, "html": render_html}
        if markup not in renderers:
            raise ValueError(f"render_explanations got markup={markup!r}, expected text or html.")
        made = isinstance(explanations, list) and all(isinstance(r, dict) for user in explanations for r in user)
        records = explanations if made else self.decode_explanations(explanations)
        return [
            [renderers[markup](record, style, language, next_best(user, place)) for place, record in enumerate(user)]
            for user in records
        ]

    def batch_decode(self, sequences: Any, **kwargs: Any) -> list[str]:
        """Text of token ids; item tokens come back as `<|item:ID|>` placeholders."""
        return [self.decode(sequence, **kwargs) for sequence in sequences]

    def decode(self, token_ids: Any, **kwargs: Any) -> str:
        """Text of one sequence of token ids; item tokens come back as `<|item:ID|>` placeholders."""
        ids = token_ids.tolist() if hasattr(token_ids, "tolist") else list(token_ids)
        parts: list[str] = []
        words: list[int] = []
        for token in [*ids, None]:
            if token is not None and token < self.text_vocab_size:
                words.append(token)
                continue
            if words:
                parts.append(self.tokenizer.decode(words, **kwargs))
                words = []
            if token is not None:
                parts.append(f"<|item:{self.catalog.item_ids[token - self.text_vocab_size]}|>")
        return "".join(parts)

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Write tokenizer, `processor_config.json`, `catalog.parquet` and, for the hashing encoder, its matrices.

        The modules it needs are written too: `AutoProcessor.from_pretrained(…, trust_remote_code=True)` reads them
        where this package is not installed.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        if self._catalog is not None:
            self._catalog.save(folder / CATALOG_FILE)
            encoder = self._featurizer.text_encoder
            if isinstance(encoder, HashingTextEncoder):
                from safetensors.numpy import save_file

                save_file({"idf": encoder.idf, "components": encoder.components}, folder / TEXT_ENCODER_FILE)
        return super().save_pretrained(str(save_directory), push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> LLM4RecProcessor:
        """Load a processor with its catalog from a folder or the Hub."""
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        hub = {name: kwargs[name] for name in _HUB_KEYS if name in kwargs}
        name = str(pretrained_model_name_or_path)
        path = cached_file(name, CATALOG_FILE, _raise_exceptions_for_missing_entries=False, **hub)
        if path is None:
            return processor
        processor._catalog = Catalog.load(path)
        state = processor.items
        encoder: Any = None
        if state["text_encoder"] == HASHING:
            from safetensors.numpy import load_file

            matrices = load_file(cached_file(name, TEXT_ENCODER_FILE, **hub))
            encoder = HashingTextEncoder(matrices["idf"], matrices["components"])
        elif state["text_encoder"] is not None:
            encoder = SentenceTransformerEncoder(state["text_encoder"])
        statistics = [ModalityStatistics(**modality) for modality in state["modalities"]]
        processor._featurizer = ItemFeaturizer(statistics, encoder, state["with_id"])
        return processor

    @property
    def model_input_names(self) -> list[str]:
        """Names of what `__call__` returns."""
        return ["input_ids", "attention_mask", "rating_ids", "time_gap_ids", "seen_items"]


LLM4RecProcessor.register_for_auto_class()

__all__ = ["LLM4RecProcessor", "byte_tokenizer"]
