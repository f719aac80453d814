"""Periodic full retraining: what learning online is compared with, at the cost that it saves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...configuration.recipe import Recipe
from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ..data.prepared import Interactions, PreparedData
from ..data.splits import EvaluationSet, Split, leave_one_out
from ..data.streams import EventStream
from ..evaluation.ranking_evaluator import RankingEvaluator
from ..online.learning_settings import LearningSettings
from ..trainer import ModelScorer
from .trained_variants import trained_variant


class PeriodicRetraining:
    """A learner of :func:`~..evaluation.prequential.prequential` that trains a new model after every block.

    Between two trainings the model stays as it is, its memory too. Nobody's held-out events are learned.

    Args:
        data: whose events the stream has.
        recipe: of every training.
        stream: and in how many `blocks` it is cut.
        model, processor: the base, asked until the first block has ended.
        folder: for the models, `block-1` and so on; those that are there are not trained again.
        settings: only `events_per_step` counts: events that are asked for at a time.
    """

    def __init__(
        self,
        data: PreparedData,
        recipe: Recipe,
        stream: EventStream,
        blocks: int,
        model: LLM4RecForCausalLM,
        processor: LLM4RecProcessor,
        folder: Path,
        settings: LearningSettings,
        say: Callable[[str], None] = print,
        progress: bool = False,
    ):
        self.settings = settings
        self._data, self._recipe, self._stream = data, recipe, stream
        self._ends = [int(part[-1]) + 1 for part in stream.blocks(blocks)]
        self._model, self._processor = model, processor
        self._folder, self._say, self._progress = folder, say, progress
        self._block = 0

    def step(self, histories: Interactions, learned: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Nothing: it learns when a block ends."""
        return math.nan

    def remember(self, histories: Interactions, events: np.ndarray, owners: np.ndarray | None = None) -> None:
        """Nothing: its memory is built anew when a block ends."""

    def mark_published(self) -> None:
        """Train on all that is known at the end of the next block."""
        known = known_events(self._stream, self._ends[self._block])
        self._block += 1
        self._model, self._processor = trained_variant(
            replace(self._data, interactions=known),
            self._recipe,
            {},
            self._folder / f"block-{self._block}",
            self._say,
            self._progress,
            split=_but_the_last_event(known),
        )

    def ndcg(self, cases: EvaluationSet) -> np.ndarray:
        """(cases,) float64 NDCG@10, seen items filtered."""
        result = RankingEvaluator(cases, ks=(10,)).evaluate(ModelScorer(self._model, self._processor))
        return np.asarray(result.values("filtered/ndcg@10"), dtype=np.float64)

    def distance(self) -> float:
        """NaN: weights that were trained from scratch are at no distance from the base's."""
        return math.nan


def known_events(stream: EventStream, end: int) -> Interactions:
    """What may be learned when `end` events of the stream have come: no held-out event, nor one the base is asked for.

    Args:
        end: number of events.
    """
    known = np.zeros(len(stream.whole.items), dtype=bool)
    base = stream.base.lengths
    places = np.arange(len(known)) - np.repeat(stream.whole.offsets[:-1], stream.whole.lengths)
    known[places < np.repeat(base, stream.whole.lengths)] = True
    tests = stream.base_split().test.users
    known[stream.whole.offsets[tests] + base[tests] - 1] = False
    known[stream.events[:end][~stream.held_out[:end]]] = True
    return stream.whole.keep(known)


def _but_the_last_event(known: Interactions) -> Split:
    """Train on all but every user's last event, and choose by that: nothing is kept for a test."""
    split = leave_one_out(known)
    first = np.maximum(known.lengths - 1, 0)
    return replace(split, train=known.take(np.arange(known.num_users), first=first), validation=split.test)


__all__ = ["PeriodicRetraining", "known_events"]
