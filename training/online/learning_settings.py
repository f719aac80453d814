"""How a recommender learns from a stream: the numbers of every method of online learning."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class LearningSettings:
    """One way of learning online.

    Args:
        rank: of the low-rank adapter on the backbone; what belongs to items and events is copied and trained whole.
            0: no adapter, all weights move.
        learning_rate: of Adam.
        events_per_step: new events of a micro-step. One with fewer moves the less for them, beside what it rehearses.
        replay: histories of the base that every step rehearses.
        replay_weight: of their loss beside that of the new events.
        ewc: λ of elastic weight consolidation: what the base needs is held the tighter. 0: none.
        proximal: μ of the pull towards the weights of the version that was published last. 0: none.
        average: steps that the average of the weights looks back on; the average is what is published. 0: none.
        refusal_weight: of what users said against items (skip, dislike, hide) beside what they chose. 0: not learned.
        max_grad_norm: gradients are cut to this norm.
        max_weight: largest weight of an event by inverse propensity.
        remember: whether the model's memory, if it has one, takes in every event at once.

    Raises:
        ValueError: for a number outside its range.
    """

    rank: int = 32
    learning_rate: float = 1e-3
    events_per_step: int = 128
    replay: int = 64
    replay_weight: float = 3.0
    ewc: float = 100.0
    proximal: float = 0.0
    average: float = 50.0
    refusal_weight: float = 1.0
    max_grad_norm: float = 1.0
    max_weight: float = 10.0
    remember: bool = True

    def __post_init__(self) -> None:
        positive = {"learning_rate", "events_per_step", "max_grad_norm", "max_weight"}
        for entry in fields(self):
            value = getattr(self, entry.name)
            above = value > 0 if entry.name in positive else value >= 0
            if not (above and math.isfinite(value)):
                expected = "more than 0" if entry.name in positive else "0 or more"
                raise ValueError(f"{entry.name} is {value}, expected {expected}.")


__all__ = ["LearningSettings"]
