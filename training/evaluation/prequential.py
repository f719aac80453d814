"""Prequential evaluation: every event of a stream is first asked for, then learned from.

After Vinagre et al., *Evaluation of recommender systems in streaming environments*, RecSys workshop on perspectives on
evaluation, 2014. Beside it, accuracy on held-out events of every block, which nobody learns from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from ..data.prepared import Interactions
from ..data.splits import EvaluationSet
from ..data.streams import EventStream
from ..online.learning_settings import LearningSettings
from .continual import continual_metrics


class StreamLearner(Protocol):
    """What is run over a stream, such as :class:`~..online.adaptation.OnlineAdaptation`."""

    settings: LearningSettings

    def step(self, histories: Interactions, learned: np.ndarray) -> float:
        """Learn from events; their loss before."""

    def remember(self, histories: Interactions, events: np.ndarray) -> None:
        """Take events into the memory."""

    def ndcg(self, cases: EvaluationSet) -> np.ndarray:
        """(cases,) NDCG@10, seen items filtered."""

    def mark_published(self) -> None:
        """A block has ended."""

    def distance(self) -> float:
        """Of the weights from the base; NaN where there is none."""


@dataclass
class PrequentialResult:
    """What a learner did on a stream.

    Attributes:
        places: (asked,) numbers of the events that were asked for. values: (asked,) NDCG@10 of each.
        accuracy: (blocks + 1, blocks + 1), see :func:`continual_metrics`.
        distance: after each block, how far the weights are from the base, Fisher-weighted.
        metrics: all that is reported.
    """

    places: np.ndarray
    values: np.ndarray
    accuracy: np.ndarray
    distance: list[float]
    metrics: dict[str, float]


def prequential(
    stream: EventStream,
    learner: StreamLearner,
    *,
    learns: bool = True,
    blocks: int = 5,
    asked: float = 1.0,
    most_cases: int | None = 1000,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
    progress: bool = False,
) -> PrequentialResult:
    """Run a learner over a stream.

    Args:
        learner: at the base; it has learned the stream when this returns.
        learns: false: the model stays as it is.
        blocks: equal parts of the stream after which held-out events of all earlier parts are asked for.
        asked: share of the events that are asked for before they are learned, drawn by the seed: scoring costs more
            than learning.
        most_cases: of every block, and of the base.
        seed: of both draws.
        say: told a line per block.
        progress: show a progress bar.

    Raises:
        ValueError: if there are more blocks than events, or a block has no held-out event.
    """
    rng = np.random.default_rng([seed, 1])  # not the draw of the held-out events
    is_asked = (rng.random(len(stream)) < asked) & ~stream.held_out
    parts = stream.blocks(blocks)
    tests = [stream.base_split().test.sample(most_cases, seed)]
    for part in parts:
        chosen = part[stream.held_out[part]]
        if most_cases is not None and len(chosen) > most_cases:
            chosen = np.sort(rng.choice(chosen, most_cases, replace=False))
        tests.append(stream.cases(chosen))
    empty = [number for number, test in enumerate(tests) if not len(test)]
    if empty:
        raise ValueError(
            f"Block {empty[0]} has no held-out event with a history. Hold out more, or take fewer blocks."
        )
    accuracy = np.full((blocks + 1, blocks + 1), np.nan)
    accuracy[0, 0] = _accuracy(learner, tests[0])
    places, values, distance = [], [], []
    bar = tqdm(total=len(stream), desc="stream", unit="event", leave=False, disable=None if progress else True)
    for number, part in enumerate(parts, start=1):
        before = sum(map(len, values))
        for chunk in np.array_split(part, max(1, -(-len(part) // learner.settings.events_per_step))):
            now = chunk[is_asked[chunk] & (stream.places[chunk] > 0)]
            if len(now):
                places.append(now)
                values.append(learner.ndcg(stream.cases(now)))
            if learns:
                histories, learned = new_events(stream, chunk)
                learner.step(histories, learned)
                learner.remember(histories, np.flatnonzero(learned))
            bar.update(len(chunk))
        learner.mark_published()
        distance.append(learner.distance())
        for earlier in range(number + 1):
            accuracy[number, earlier] = _accuracy(learner, tests[earlier])
        if say is not None:
            recent = np.concatenate(values)[before:]
            say(
                f"block {number}: NDCG@10 {recent.mean():.4f} before learning, {accuracy[number, number]:.4f} after, "
                f"base {accuracy[number, 0]:.4f}"
            )
    bar.close()
    every = np.concatenate(values)
    metrics = {"prequential/ndcg@10": float(every.mean())} | continual_metrics(accuracy)
    return PrequentialResult(np.concatenate(places), every, accuracy, distance, metrics)


def new_events(stream: EventStream, chunk: np.ndarray) -> tuple[Interactions, np.ndarray]:
    """Histories of the users of some events, up to their last event among them, and which events are to be learned.

    Args:
        chunk: (n,) numbers of successive events of the stream.
    """
    users, owner = np.unique(stream.users[chunk], return_inverse=True)
    stops = np.zeros(len(users), dtype=np.int64)
    np.maximum.at(stops, owner, stream.places[chunk] + 1)
    histories = stream.whole.take(users, first=stops)
    learned = np.zeros(len(histories.items), dtype=bool)
    learned[histories.offsets[owner] + stream.places[chunk]] = ~stream.held_out[chunk]
    return histories, learned


def _accuracy(learner: StreamLearner, cases: EvaluationSet) -> float:
    return float(learner.ndcg(cases).mean())


def as_record(result: PrequentialResult) -> dict[str, Any]:
    """The result as plain values, for JSON."""
    table = [[None if np.isnan(value) else float(value) for value in row] for row in result.accuracy]
    distance = [None if np.isnan(value) else value for value in result.distance]
    return {"metrics": result.metrics, "accuracy": table, "distance": distance, "asked": len(result.values)}


__all__ = ["PrequentialResult", "StreamLearner", "as_record", "new_events", "prequential"]
