"""The learner: reads the feedback log, learns in micro-steps, and publishes versions that readers swap in.

Every event is learned exactly once through any crash: a version carries the number of the last event that it learned,
and learning goes on after the number of the current version (see `feedback_log.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from ...modeling_llm4rec.memory import FOLDER as MEMORY
from ..build import check_same_catalog, split_of
from ..data.prepared import Interactions, PreparedData
from ..data.splits import EvaluationSet
from ..load import load_recommender, recipe_of
from .adaptation import NonFiniteLossError, OnlineAdaptation, Refusals
from .anchor import Anchor
from .feedback_event import FeedbackEvent
from .feedback_log import FeedbackLog, LoggedEvent
from .fisher import diagonal_fisher
from .learning_settings import LearningSettings
from .new_items import Row, add_items, items_of, save_items
from .published import ADAPTER, attach_version_memory
from .user_histories import UserHistories
from .versions import BASE, Version, VersionStore

CONSUMER = "learner"
OPTIMIZER_FILE = "optimizer.safetensors"
ASKED_EVERY = 4
"""One in so many events is asked for before it is learned, for the monitor."""

WITHOUT_BASE = {"replay": 0, "ewc": 0.0}
RATE_WITHOUT_BASE = 1e-4
"""Learning rate, unless another was asked for: without rehearsal a higher one forgets more than it learns."""


@dataclass(frozen=True)
class LearnReport:
    """What one call of `learn` did.

    Attributes:
        events: read. learned: those that spoke for or against a known item. skipped: the others.
        version: current at the end. published: names of the versions that were published.
        rejected: updates that the guard refused. seconds: spent.
    """

    events: int
    learned: int
    skipped: int
    version: str
    published: tuple[str, ...]
    rejected: int
    seconds: float


class OnlineLearner:
    """Learns for a model folder; a context manager, and the only one at a time.

    Args:
        folder: of the model.
        log: the feedback.
        settings: how it learns; by default as the versions before, or the defaults.
        data: prepared data that the model was trained on; needed once, for replay, EWC and the guard. Without it the
            learner does without the three, and pulls to the version published last instead.
        publish_every: events after which a version is published.
        forgetting_limit: share of the guard's NDCG@10 that an update may cost; one that costs more is not published.
        keep: published versions that stay.
        seed: of what is drawn.
        say: told what happens.
        progress: show progress bars.

    Raises:
        LearnerBusyError: if another process learns for this model.
        VersionError: if the current version is damaged.
        ValueError: if the data has another catalog, or the settings do not fit the current version.
    """

    def __init__(
        self,
        folder: str | Path,
        log: FeedbackLog,
        settings: LearningSettings | None = None,
        data: PreparedData | None = None,
        *,
        publish_every: int = 1024,
        forgetting_limit: float = 0.05,
        keep: int = 20,
        seed: int = 0,
        say: Callable[[str], None] = print,
        progress: bool = False,
    ):
        self.folder, self.log, self.say = Path(folder), log, say
        self.publish_every, self.forgetting_limit = publish_every, forgetting_limit
        self.store = VersionStore(folder, keep)
        with ExitStack() as held:
            held.enter_context(self.store.lock())
            self._open(settings, data, seed, progress)
            self._held = held.pop_all()

    def _open(self, settings: LearningSettings | None, data: PreparedData | None, seed: int, progress: bool) -> None:
        self.version, self.sequence = self.store.current()
        path = self.store.path(self.version.name)
        if self.version.name != BASE:
            self.store.check(self.version.name)
        has_memory = (path / MEMORY).is_dir()
        model, self.processor = load_recommender(self.folder, not has_memory)
        self.anchor = Anchor.load(self.folder, self.processor)
        fresh = self.anchor is None and data is not None
        if fresh:
            check_same_catalog(self.processor, data)
        self.new_items = items_of(path) if self.version.name != BASE else []
        add_items(model, self.processor, self.new_items)
        if fresh:
            recipe = recipe_of(self.folder)
            self.anchor = Anchor.of(data, split_of(data, recipe), self.processor, seed)
        settings = self._settings(settings)
        if self.anchor is None and (settings.replay or settings.ewc):
            asked = settings.learning_rate
            rate = RATE_WITHOUT_BASE if asked == LearningSettings().learning_rate else asked
            proximal = settings.proximal or 10.0
            settings = replace(settings, **WITHOUT_BASE, proximal=proximal, learning_rate=rate)
            self.say(
                "Without the data that the model was trained on (--data) there is no rehearsal, no elastic weight "
                "consolidation and no guard: the learner pulls to the version published last, at a learning rate of "
                f"{rate:g}."
            )
        known = self.anchor is not None and not fresh and self.anchor.settings["rank"] == settings.rank
        base = None if self.anchor is None else self.anchor.rehearsed.of(self.anchor.rehearsed.users())
        self.adaptation = OnlineAdaptation(
            model,
            self.processor,
            settings,
            base=base,
            fisher=self.anchor.fisher if known else None,
            seed=seed,
            progress=progress,
        )
        if self.anchor is not None and not known:  # of other weights, or none yet
            if self.adaptation.fisher is None:
                self.adaptation.fisher = diagonal_fisher(
                    self.adaptation.model, self.processor, base, self.adaptation.weights, seed, progress=progress
                )
            self.anchor.fisher, self.anchor.settings = self.adaptation.fisher, vars(settings)
            guard = self._guard()
            self.anchor.guard_ndcg, self.anchor.group_ndcg = (0.0, {}) if guard is None else guard
            self.anchor.save(self.folder)
        if self.version.name != BASE:
            self._load(path)
        if has_memory:
            attach_version_memory(self.adaptation.recommender, path)
        longest = self.processor.max_history + settings.events_per_step
        self.histories = UserHistories(len(self.processor.catalog), longest)
        if self.anchor is not None:
            self.histories.update(self.anchor.known)
        for logged in self.log.events():
            if logged.sequence > self.sequence:
                break
            self._take_in(logged)
        noted = self.log.position(CONSUMER).sequence
        if noted != self.sequence:  # died before it was noted, or an older version was made current
            self.log.record_position(CONSUMER, self.sequence, self.version.name, rollback=noted > self.sequence)
        self._good = self.adaptation.state()
        self._unpublished_items = False

    def _settings(self, given: LearningSettings | None) -> LearningSettings:
        saved = self.version.facts.get("settings")
        before = LearningSettings(**saved) if saved else None
        first = None if self.anchor is None or not self.anchor.settings else LearningSettings(**self.anchor.settings)
        settings = given or before or first or LearningSettings()
        if settings.rank < 1:
            raise ValueError(f"rank is {settings.rank}, expected at least 1: a version is an adapter on the model.")
        if before is not None and settings.rank != before.rank:
            raise ValueError(
                f"rank is {settings.rank}, but version {self.version.name} has rank {before.rank}. Keep it, or go "
                "back to the base: `llm4rec rollback MODEL base`."
            )
        return settings

    def __enter__(self) -> OnlineLearner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_items(self, rows: list[Row]) -> int:
        """Items that feedback may be about from now on; versions published from now on carry them.

        Args:
            rows: of items, with `item_id` and what the model reads; those that are known are passed over.

        Returns:
            how many were new.

        Raises:
            ValueError: if an item has nothing that the model can read; then none is added.
        """
        new = [row for row in rows if row["item_id"] not in self.processor.catalog]
        add_items(self.adaptation.recommender, self.processor, new)
        self.new_items += new
        for histories in (self.histories, *((self.anchor.rehearsed, self.anchor.known) if self.anchor else ())):
            histories.num_items = len(self.processor.catalog)
        self._unpublished_items = bool(new) or self._unpublished_items
        return len(new)

    def close(self) -> None:
        """Let other processes learn."""
        self._held.close()

    # --- Learning ----------------------------------------------------------------------------------------------------

    def learn(self, limit: int | None = None) -> LearnReport:
        """Learn from all events that are new, at most `limit`, and publish.

        Events are read from the log a micro-step at a time, so that memory stays bounded. After Ctrl-C or a crash,
        what was published stays, and the other events are read again.
        """
        started, before = time.perf_counter(), self.sequence
        events = learned = rejected = waiting = waiting_learned = 0
        losses: list[float] = []
        asked: list[tuple[str, float]] = []
        published: list[str] = []
        stream = self.log.events(after=before, limit=limit)
        while batch := list(islice(stream, self.adaptation.settings.events_per_step)):
            count, loss, values = self._absorb(batch)
            waiting, waiting_learned = waiting + len(batch), waiting_learned + count
            losses += [] if math.isnan(loss) else [loss]
            asked += values
            self.sequence = batch[-1].sequence
            if waiting >= self.publish_every:
                rejected += self._publish(waiting, waiting_learned, losses, asked)
                published.append(self.version.name)
                events, learned = events + waiting, learned + waiting_learned
                waiting, waiting_learned, losses, asked = 0, 0, [], []
        if waiting or self._unpublished_items:
            rejected += self._publish(waiting, waiting_learned, losses, asked)
            published.append(self.version.name)
            events, learned = events + waiting, learned + waiting_learned
        seconds = time.perf_counter() - started
        return LearnReport(events, learned, events - learned, self.version.name, tuple(published), rejected, seconds)

    def _absorb(self, batch: list[LoggedEvent]) -> tuple[int, float, list[tuple[str, float]]]:
        """Learn one micro-step; how many events were learned, their loss, users and NDCG@10 of some before."""
        new: dict[str, list[float]] = {}
        against: list[tuple[FeedbackEvent, int]] = []  # and how many choices of the user in this step came before
        for logged in batch:
            if self._take_in(logged):
                propensity = logged.event.propensity
                new.setdefault(logged.event.user_id, []).append(1.0 if propensity is None else 1.0 / propensity)
            elif logged.event.rating is None and logged.event.weight() < 0:
                against.append((logged.event, len(new.get(logged.event.user_id, ()))))
        refusals = self._refusals(against, {user: len(values) for user, values in new.items()})
        if not (new or len(refusals.items)):
            return 0, math.nan, []
        histories = self.histories.of(new)
        learned, weights = np.zeros(len(histories.items), dtype=bool), np.ones(len(histories.items))
        for row, values in enumerate(new.values()):
            stop = histories.offsets[row + 1]
            learned[stop - len(values) : stop] = True
            weights[stop - len(values) : stop] = values
        weighted = any(logged.event.propensity is not None for logged in batch)
        values = self._ask(list(new), histories, np.flatnonzero(learned)[::ASKED_EVERY])
        try:
            loss = self.adaptation.step(histories, learned, weights if weighted else None, refusals)
        except NonFiniteLossError as error:
            self.say(f"Events up to {batch[-1].sequence}: {error}")
            loss = math.nan
        self.adaptation.remember(histories, np.flatnonzero(learned))
        return int(learned.sum()) + len(refusals.items), loss, values

    def _refusals(self, events: list[tuple[FeedbackEvent, int]], taken: dict[str, int]) -> Refusals:
        """Those about known items, each after what its user had chosen until then, which must be something.

        Args:
            events: with the choices of the user in this step that came before.
            taken: user id to all his choices in this step.
        """
        catalog, able, first = self.processor.catalog, [], []
        for event, before in events if self.adaptation.settings.refusal_weight else ():
            place = self.histories.length(event.user_id) - taken.get(event.user_id, 0) + before
            if event.item_id in catalog and place > 0:
                able.append(event)
                first.append(place)
        histories = self.histories.of(event.user_id for event in able)
        return Refusals(
            histories.take(np.arange(len(able)), first=np.array(first, dtype=np.int64)),
            np.array([catalog.index(event.item_id) for event in able], dtype=np.int64),
            np.array([-event.weight() for event in able]),
        )

    def _take_in(self, logged: LoggedEvent) -> bool:
        """Add an event to its user's history; false if it says nothing for an item that is known."""
        event = logged.event
        if (event.rating is None and event.weight() <= 0) or event.item_id not in self.processor.catalog:
            return False
        self.histories.append(event.user_id, self.processor.catalog.index(event.item_id), event.rating, event.time)
        return True

    def _ask(self, users: list[str], histories: Interactions, events: np.ndarray) -> list[tuple[str, float]]:
        """User and NDCG@10 of some events, before they are learned."""
        rows = np.searchsorted(histories.offsets, events, side="right") - 1
        first = events - histories.offsets[rows]
        able = first > 0
        if not able.any():
            return []
        cases = EvaluationSet(
            users=np.arange(int(able.sum())),
            targets=histories.items[events[able]],
            histories=histories.take(rows[able], first=first[able]),
        )
        return list(zip([users[row] for row in rows[able]], self.adaptation.ndcg(cases).tolist(), strict=True))

    def _guard(self) -> tuple[float, dict[str, float]] | None:
        """NDCG@10 on what the base knew of users, of all and by group; `None` without a base."""
        if self.anchor is None:
            return None
        cases = self.anchor.guard_cases()
        if not len(cases):
            return None
        values = self.adaptation.ndcg(cases)
        return float(values.mean()), self.anchor.by_group(values)

    @property
    def _floor(self) -> float:
        """NDCG@10 on the guard below which an update is to blame, if the weights before do better."""
        return 0.0 if self.anchor is None else (1 - self.forgetting_limit) * self.anchor.guard_ndcg

    def _judged(self) -> tuple[tuple[float, dict[str, float]] | None, bool]:
        """The guard's judgement of what is to be published, and whether it refused the update.

        Then the weights are those of the version before. What the memory took in is not for them to answer for: an
        update that does better than they do with the same memory is published, however low that is.
        """
        guard, floor = self._guard(), self._floor
        if guard is None or guard[0] >= floor:
            return guard, False
        updated = self.adaptation.state()
        self.adaptation.restore(self._good)
        before = self._guard()
        fell = f"NDCG@10 on the guard fell to {guard[0]:.4f}, below {floor:.4f}"
        if guard[0] >= before[0]:
            self.adaptation.restore(updated)
            self.say(
                f"{fell}, but not by this update: with the weights of version {self.version.name} it is "
                f"{before[0]:.4f}. The memory has taken in events unlike those of the base; look at them."
            )
            return guard, False
        self.say(
            f"Update rejected: {fell}. The weights of version {self.version.name} serve on; the memory has the "
            "events. Lower the learning rate, or raise ewc or replay."
        )
        return before, True

    def _asked_by_group(self, asked: list[tuple[str, float]]) -> dict[str, float]:
        """NDCG@10 before learning of users whom the base knew, and of new ones; empty without a base."""
        if self.anchor is None:
            return {}
        found: dict[str, list[float]] = {}
        for user, value in asked:
            found.setdefault("known users" if self.anchor.known.length(user) else "new users", []).append(value)
        return {group: float(np.mean(values)) for group, values in sorted(found.items())}

    # --- Publishing --------------------------------------------------------------------------------------------------

    def _publish(self, events: int, learned: int, losses: list[float], asked: list[tuple[str, float]]) -> int:
        """Publish what was learned, or, if the guard refuses it, the weights before; 1 if it did."""
        guard, rejected = self._judged()
        facts = {
            "learned": learned,
            "loss": float(np.mean(losses)) if losses else None,
            "prequential_ndcg": float(np.mean([value for _, value in asked])) if asked else None,
            "prequential_sd": float(np.std([value for _, value in asked])) if asked else None,
            "asked": len(asked),
            "prequential_groups": self._asked_by_group(asked),
            "guard_ndcg": None if guard is None else guard[0],
            "base_guard_ndcg": None if self.anchor is None else self.anchor.guard_ndcg,
            "guard_groups": {} if guard is None else guard[1],
            "base_guard_groups": {} if self.anchor is None else self.anchor.group_ndcg,
            "distance": self.adaptation.distance(),
            "rejected": rejected,
            # An update that costs so much is refused: what is published below the floor, the memory costs.
            "memory_at_fault": guard is not None and guard[0] < self._floor,
            "steps": self.adaptation.steps,
            "settings": vars(self.adaptation.settings),
        }
        self.version = self.store.publish(self._write, self.sequence, self.version.name, events, facts)
        self.adaptation.mark_published()
        self._good, self._unpublished_items = self.adaptation.state(), False
        self.log.record_position(CONSUMER, self.sequence, self.version.name)
        self.say(describe(self.version))
        return int(rejected)

    def _write(self, folder: Path) -> None:
        with self.adaptation.as_published() as model:
            self.adaptation.model.save_pretrained(str(folder / ADAPTER))
            if model.memory is not None:
                probe = model.probe_sequences()
                model.memory.probe = {"input_ids": probe, "states": model._probe_states(probe).float().cpu()}
                model.memory.save(folder)
                model.memory.probe = {}
        save_items(folder, self.new_items)
        save_file(self.adaptation.state(), folder / OPTIMIZER_FILE)

    def _load(self, folder: Path) -> None:
        state = load_file(folder / OPTIMIZER_FILE)
        expected = {f"weight/{name}" for name in self.adaptation.weights}
        if not expected <= set(state):
            raise ValueError(f"{folder} does not fit the model: weights are missing. Restore another version.")
        self.adaptation.restore(state)
        self.adaptation.steps = int(self.version.facts.get("steps", 0))
        self.adaptation.mark_published()


def describe(version: Version) -> str:
    """A version in a line for people."""
    facts = version.facts
    parts = [f"version {version.name}: {facts.get('learned', 0):,} of {version.events:,} events learned"]
    if facts.get("prequential_ndcg") is not None:
        parts.append(f"NDCG@10 before learning {facts['prequential_ndcg']:.4f}")
    if facts.get("guard_ndcg") is not None:
        parts.append(f"guard {facts['guard_ndcg']:.4f} (base {facts['base_guard_ndcg']:.4f})")
    if facts.get("rejected"):
        parts.append("update rejected")
    return ", ".join(parts) + "."


__all__ = ["CONSUMER", "LearnReport", "OnlineLearner", "describe"]
