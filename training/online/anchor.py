"""What a learner keeps of the data its model was trained on: histories to rehearse, the Fisher information, a guard.

Made once, by the first `llm4rec learn … --data`, and kept beside the model as `online/anchor/`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ...modeling_llm4rec import LLM4RecProcessor
from ..data.prepared import PreparedData
from ..data.splits import EvaluationSet, Split
from .user_histories import UserHistories
from .versions import ONLINE, UNFINISHED

FOLDER = "anchor"
GUARD_CASES = 500
REHEARSED_HISTORIES = 8
"""What is kept of each user to rehearse, in histories as long as the model reads."""


@dataclass
class Anchor:
    """The base of online learning.

    Attributes:
        rehearsed: histories of training.
        known: the latest events of every user, those of validation and test too: what the model is asked with.
        guard: user id to the item of his validation event, which training did not see.
        guard_ndcg: NDCG@10 of the trained model on the guard.
        groups: user id of the guard to group, by the first sensitive attribute of users; empty without one.
        group_ndcg: NDCG@10 of the trained model on the guard, by group.
        fisher: of the weights that may move, by name.
        settings: of the learner that it was made for.
    """

    rehearsed: UserHistories
    known: UserHistories
    guard: dict[str, int]
    guard_ndcg: float = 0.0
    groups: dict[str, str] = field(default_factory=dict)
    group_ndcg: dict[str, float] = field(default_factory=dict)
    fisher: dict[str, torch.Tensor] | None = None
    settings: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: PreparedData, split: Split, processor: LLM4RecProcessor, seed: int = 0) -> Anchor:
        """From prepared data; the guard is drawn from validation by the seed."""
        users = data.users["user_id"].to_list()
        longest = processor.max_history + 1
        rehearsed = UserHistories(len(processor.catalog), REHEARSED_HISTORIES * longest)
        rehearsed.learn(users, split.train)
        known = UserHistories(len(processor.catalog), longest)
        known.learn(users, data.interactions)
        cases = split.validation.sample(GUARD_CASES, seed)
        guard = {users[user]: int(target) for user, target in zip(cases.users, cases.targets, strict=True)}
        sensitive = next(iter(data.schema.users.sensitive), None)
        of_user = {} if sensitive is None else dict(zip(users, data.users[sensitive].to_list(), strict=True))
        groups = {user: str(of_user[user]) for user in guard if of_user.get(user) is not None}
        return cls(rehearsed, known, guard, groups=groups)

    def guard_users(self) -> list[str]:
        """Users of the guard who have a history, in the order of their cases."""
        return [user for user in self.guard if self.rehearsed.length(user)]

    def by_group(self, values: np.ndarray) -> dict[str, float]:
        """Means of the guard's values by group of users; empty without groups.

        Args:
            values: (cases,) in the order of :meth:`guard_cases`.
        """
        found: dict[str, list[float]] = {}
        for user, value in zip(self.guard_users(), values, strict=True):
            if user in self.groups:
                found.setdefault(self.groups[user], []).append(float(value))
        return {group: float(np.mean(found[group])) for group in sorted(found)}

    def guard_cases(self) -> EvaluationSet:
        """The guard as cases to rank."""
        users = self.guard_users()
        return EvaluationSet(
            users=np.arange(len(users)),
            targets=np.array([self.guard[user] for user in users], dtype=np.int32),
            histories=self.rehearsed.of(users),
        )

    def save(self, model: str | Path) -> None:
        """Write it beside a model, all of it or nothing."""
        folder = Path(model) / ONLINE
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{UNFINISHED}{FOLDER}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        self.rehearsed.save(partial / "rehearsed.parquet")
        self.known.save(partial / "known.parquet")
        if self.fisher is not None:
            save_file({name: part.contiguous() for name, part in self.fisher.items()}, partial / "fisher.safetensors")
        names = ("guard", "guard_ndcg", "groups", "group_ndcg", "settings")
        facts = {name: getattr(self, name) for name in names}
        (partial / "anchor.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        os.replace(partial, folder / FOLDER)

    @classmethod
    def load(cls, model: str | Path, processor: LLM4RecProcessor) -> Anchor | None:
        """Read what `save` wrote; `None` where nothing was.

        Raises:
            ValueError: if a file is missing or damaged.
        """
        folder = Path(model) / ONLINE / FOLDER
        if not folder.is_dir():
            return None
        items, longest = len(processor.catalog), processor.max_history + 1
        try:
            facts = json.loads((folder / "anchor.json").read_text(encoding="utf-8"))
            fisher = folder / "fisher.safetensors"
            return cls(
                UserHistories.load(folder / "rehearsed.parquet", items, REHEARSED_HISTORIES * longest),
                UserHistories.load(folder / "known.parquet", items, longest),
                facts["guard"],
                facts["guard_ndcg"],
                facts.get("groups", {}),  # anchors of older versions have none
                facts.get("group_ndcg", {}),
                load_file(fisher) if fisher.is_file() else None,
                facts["settings"],
            )
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(f"{folder} is damaged ({error}). Delete it, and learn with --data again.") from error


__all__ = ["Anchor"]
