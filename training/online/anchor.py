"""What a learner keeps of the data its model was trained on: histories to rehearse, the Fisher information, a guard.

Made once, by the first `llm4rec learn … --data`, and kept beside the model as `online/anchor/`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
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


@dataclass
class Anchor:
    """The base of online learning.

    Attributes:
        rehearsed: histories of training.
        known: the latest events of every user, those of validation and test too: what the model is asked with.
        guard: user id to the item of his validation event, which training did not see.
        guard_ndcg: NDCG@10 of the trained model on the guard.
        fisher: of the weights that may move, by name.
        settings: of the learner that it was made for.
    """

    rehearsed: UserHistories
    known: UserHistories
    guard: dict[str, int]
    guard_ndcg: float = 0.0
    fisher: dict[str, torch.Tensor] | None = None
    settings: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: PreparedData, split: Split, processor: LLM4RecProcessor, seed: int = 0) -> Anchor:
        """From prepared data; the guard is drawn from validation by the seed."""
        users = data.users["user_id"].to_list()
        longest = processor.max_history + 1
        rehearsed = UserHistories(len(processor.catalog), longest)
        rehearsed.learn(users, split.train)
        known = UserHistories(len(processor.catalog), longest)
        known.learn(users, data.interactions)
        cases = split.validation.sample(GUARD_CASES, seed)
        guard = {users[user]: int(target) for user, target in zip(cases.users, cases.targets, strict=True)}
        return cls(rehearsed, known, guard)

    def guard_cases(self) -> EvaluationSet:
        """The guard as cases to rank."""
        users = [user for user in self.guard if self.rehearsed.length(user)]
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
        facts = {"guard": self.guard, "guard_ndcg": self.guard_ndcg, "settings": self.settings}
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
        size = len(processor.catalog), processor.max_history + 1
        try:
            facts = json.loads((folder / "anchor.json").read_text(encoding="utf-8"))
            fisher = folder / "fisher.safetensors"
            return cls(
                UserHistories.load(folder / "rehearsed.parquet", *size),
                UserHistories.load(folder / "known.parquet", *size),
                facts["guard"],
                facts["guard_ndcg"],
                load_file(fisher) if fisher.is_file() else None,
                facts["settings"],
            )
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(f"{folder} is damaged ({error}). Delete it, and learn with --data again.") from error


__all__ = ["Anchor"]
