"""The steps of online learning: gradients of new events, held back by what the base needs.

Knows histories and weights alone; the feedback log and the published versions are the learner's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from ...configuration.recipe import LoraRecipe
from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ..adapters import add_lora, recommender_of
from ..data.prepared import Interactions
from ..data.sequences import history_batch
from ..data.splits import EvaluationSet
from ..evaluation.ranking_evaluator import RankingEvaluator
from ..trainer import ModelScorer
from ..weight_averaging import WeightAverage
from .fisher import diagonal_fisher
from .learning_settings import LearningSettings
from .micro_batches import micro_batch


@dataclass(frozen=True)
class Refusals:
    """What users said against items.

    Attributes:
        histories: a user's for each, with at least one event.
        items: (n,) item indices. strengths: (n,) in (0, 1], 1 for a plain no.
    """

    histories: Interactions
    items: np.ndarray
    strengths: np.ndarray


class NonFiniteLossError(ValueError):
    """A step whose loss is NaN or infinite; the weights are as they were before it."""


class OnlineAdaptation:
    r"""A recommender that learns in micro-steps.

    A step descends the loss of the new events, plus `replay_weight` times that of rehearsed base histories, by Adam.
    The new events of a step that has fewer than `events_per_step` count for so much less.
    Then every weight is drawn back towards what it was,

    .. math:: \theta_j \leftarrow \theta_j - \frac{\eta \lambda F_j}{1 + \eta \lambda F_j} (\theta_j - \theta^*_j)

    which is the implicit step on the penalty :math:`\frac{\lambda}{2} \sum_j F_j (\theta_j - \theta^*_j)^2` of elastic
    weight consolidation (Kirkpatrick et al., PNAS 2017) and, unlike an explicit one, stable for every λ. The proximal
    variant does the same with :math:`F_j = 1` and the weights published last, as single-adapter continual learners do.

    Args:
        model: a trained recommender; with `settings.rank` it is wrapped, and its own weights stay.
        processor: its processor.
        settings: the method.
        base: histories to rehearse and to estimate the Fisher information on; needed for `replay` and `ewc`.
        fisher: the diagonal, if it is known already.
        seed: of the adapter's weights, rehearsed histories and the Fisher information's.
        progress: show a progress bar while the Fisher information is estimated.

    Raises:
        ValueError: if the settings ask for a base that is not there.
    """

    def __init__(
        self,
        model: LLM4RecForCausalLM,
        processor: LLM4RecProcessor,
        settings: LearningSettings,
        base: Interactions | None = None,
        fisher: dict[str, torch.Tensor] | None = None,
        seed: int = 0,
        progress: bool = False,
    ):
        if base is None and (settings.replay or (settings.ewc and fisher is None)):
            raise ValueError(
                "Replay and elastic weight consolidation need histories of the base. Give the data that the model "
                "was trained on, or set replay=0 and ewc=0."
            )
        torch.manual_seed(seed)
        self.settings, self.processor = settings, processor
        model.config.loss_weighting = "snips"  # of the events that have a propensity
        adapter = LoraRecipe(rank=settings.rank, alpha=2 * settings.rank, dropout=0.0)
        self.model = add_lora(model, adapter) if settings.rank else model.requires_grad_(True)
        self.weights = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        self.base = base
        self._rehearsable = np.zeros(0, dtype=np.int64)  # events
        if base is not None:
            self._rehearsable = np.flatnonzero(np.repeat(base.lengths > 1, base.lengths))
        self._draws = np.random.default_rng(seed)
        self.anchor = self._copy()
        self.published = self.anchor
        self.fisher = fisher
        if settings.ewc and fisher is None:
            self.fisher = diagonal_fisher(self.model, processor, base, self.weights, seed, progress=progress)
        self.optimizer = torch.optim.Adam(self.weights.values(), lr=settings.learning_rate)
        self.steps = 0
        self._average = WeightAverage(self.model, settings.average, trained=True) if settings.average else None

    @property
    def recommender(self) -> LLM4RecForCausalLM:
        """The model to ask, inside :meth:`as_published`."""
        return recommender_of(self.model)

    def step(
        self,
        histories: Interactions,
        learned: np.ndarray,
        weights: np.ndarray | None = None,
        refusals: Refusals | None = None,
    ) -> float:
        """One micro-step.

        Args:
            histories: of some users, new events at their ends.
            learned: (events,) bool: the events to learn from.
            weights: (events,) by inverse propensity, in any unit.
            refusals: what is to become less likely.

        Returns:
            loss of the new events in nats, before the step; NaN if there are none.

        Raises:
            NonFiniteLossError: if a loss or a gradient is not finite; nothing has changed.
        """
        settings = self.settings
        refuses = refusals is not None and len(refusals.items) > 0 and settings.refusal_weight > 0
        if not (learned.any() or refuses):
            return math.nan
        if self.recommender.memory is not None:
            self.recommender.memory.probe = {}  # the encoder moves on; it is taken again when a version is published
        self.model.train()
        parts, new = [], math.nan
        if learned.any():
            loss = self._loss(micro_batch(histories, learned, self.processor, self._clipped(weights)))
            parts.append(min(1.0, int(learned.sum()) / settings.events_per_step) * loss)
            new = loss.item()
        if refuses:
            share = min(1.0, len(refusals.items) / settings.events_per_step)
            parts.append(share * settings.refusal_weight * self._refusal_loss(refusals))
        if settings.replay and len(self._rehearsable):
            past = self._past()
            rehearsed = self._loss(micro_batch(past, np.ones(len(past.items), dtype=bool), self.processor))
            parts.append(settings.replay_weight * rehearsed)
        loss = torch.stack(parts).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), settings.max_grad_norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteLossError(
                f"The loss of {int(learned.sum())} events is {loss.item()}, its gradient's norm {norm.item()}; the "
                "step was not taken. Lower the learning rate, or look at the events."
            )
        self.optimizer.step()
        self._draw_back()
        self.steps += 1
        if self._average is not None:
            self._average.update(self.steps)
        return new

    def remember(self, histories: Interactions, events: np.ndarray, owners: np.ndarray | None = None) -> None:
        """Take events into the model's memory, if it has one: the next recommendation knows them.

        Args:
            histories: of some users.
            events: (n,) numbers of events in `histories`.
            owners: (n,) user indices of the events in the memory; by default nobody's.
        """
        model = self.recommender
        if model.memory is None or not self.settings.remember or not len(events):
            return
        rows = np.searchsorted(histories.offsets, events, side="right") - 1
        before = histories.take(rows, first=events - histories.offsets[rows])
        batch = history_batch(before, self.processor)
        times = None if histories.timestamps is None else torch.from_numpy(histories.timestamps[events])
        with self.as_published(), torch.no_grad():
            model.remember(
                **{name: values.to(model.device) for name, values in batch.items()},
                items=torch.from_numpy(histories.items[events].astype(np.int64)),
                times=times,
                owners=None if owners is None else torch.from_numpy(owners),
            )

    def _refusal_loss(self, refusals: Refusals) -> torch.Tensor:
        r"""Unlikelihood, :math:`-\log(1 - p(i \mid h))` (Welleck et al., arXiv 1908.04319), by strength.

        It moves little where an item is unlikely as it is, and much where it would be recommended.
        """
        device = self.recommender.device
        batch = history_batch(refusals.histories, self.processor)
        scores = self.recommender.score_items(
            retrieval=False, **{name: values.to(device) for name, values in batch.items()}
        )
        items = torch.from_numpy(refusals.items.astype(np.int64)).to(device)
        likely = scores.log_softmax(-1).gather(1, items[:, None])[:, 0].exp().clamp(max=1 - 1e-6)
        strengths = torch.from_numpy(refusals.strengths.astype(np.float32)).to(device)
        return -(strengths * torch.log1p(-likely)).mean()

    def _past(self) -> Interactions:
        """Parts of base histories to rehearse, as long as the model reads.

        Drawn by event, as training sees them: drawn by user, who has few events would count for more than there.
        """
        base, longest = self.base, self.processor.max_history + 1
        events = self._draws.choice(self._rehearsable, self.settings.replay)
        users = np.searchsorted(base.offsets, events, side="right") - 1
        lengths = base.lengths[users]
        stops = events - base.offsets[users] + 1 + self._draws.integers(0, longest, len(events))
        return base.take(users, first=np.minimum(np.maximum(stops, longest), lengths))

    def _loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        device = self.recommender.device
        return self.model(**{name: values.to(device) for name, values in batch.items()}).loss

    def _clipped(self, weights: np.ndarray | None) -> np.ndarray | None:
        if weights is None:
            return None
        return np.minimum(weights / weights.mean(), self.settings.max_weight)

    @torch.no_grad()
    def _draw_back(self) -> None:
        rate = self.settings.learning_rate
        for name, weight in self.weights.items():
            if self.settings.ewc:
                pull = rate * self.settings.ewc * self.fisher[name]
                weight.sub_((weight - self.anchor[name]) * (pull / (1 + pull)).to(weight.dtype))
            if self.settings.proximal:
                pull = rate * self.settings.proximal
                weight.sub_((weight - self.published[name]) * (pull / (1 + pull)))

    @contextmanager
    def as_published(self) -> Iterator[LLM4RecForCausalLM]:
        """The recommender as it would be published now: ready to be asked, with averaged weights if so set."""
        averaged = nullcontext() if self._average is None or not self.steps else self._average.in_place()
        with averaged:
            self.model.eval()
            yield self.recommender

    def ndcg(self, cases: EvaluationSet) -> np.ndarray:
        """(cases,) float64 NDCG@10 of the recommender as it would be published, seen items filtered."""
        with self.as_published() as model:
            result = RankingEvaluator(cases, ks=(10,)).evaluate(ModelScorer(model, self.processor))
        return np.asarray(result.values("filtered/ndcg@10"), dtype=np.float64)

    def mark_published(self) -> None:
        """Take the present weights for those that the proximal pull goes to."""
        self.published = self._copy()

    @torch.no_grad()
    def distance(self) -> float:
        r"""Distance from the base, :math:`\frac{1}{2} \sum_j F_j (\theta_j - \theta^*_j)^2`.

        Without a Fisher information F is 1.
        """
        total = 0.0
        for name, weight in self.weights.items():
            moved = (weight - self.anchor[name]).float() ** 2
            total += float((moved if self.fisher is None else moved * self.fisher[name]).sum()) / 2
        return total

    def state(self) -> dict[str, torch.Tensor]:
        """All that learning goes on from: weights, their average, and Adam's moments, copied."""
        state = {f"weight/{name}": weight.detach().clone() for name, weight in self.weights.items()}
        average = self._average
        if average is not None:
            names = zip(average.names, average.average, strict=True)
            state |= {f"average/{name}": values.detach().clone() for name, values in names}
        for name, weight in self.weights.items():
            for part, values in self.optimizer.state.get(weight, {}).items():
                state[f"{part}/{name}"] = torch.as_tensor(values).detach().clone()
        return state

    @torch.no_grad()
    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take up learning where `state` was taken; the number of steps is the caller's."""
        moments: dict[str, dict[str, torch.Tensor]] = {}
        average = self._average
        for key, values in state.items():
            part, _, name = key.partition("/")
            if part == "weight":
                self.weights[name].copy_(values)
            elif part == "average" and average is not None:
                average.average[average.names.index(name)].copy_(values)
            elif part != "average":
                moments.setdefault(name, {})[part] = values.clone()
        self.optimizer.state.clear()
        for name, parts in moments.items():
            self.optimizer.state[self.weights[name]] = parts

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in self.weights.items()}


__all__ = ["NonFiniteLossError", "OnlineAdaptation", "Refusals"]
