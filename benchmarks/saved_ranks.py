"""The rank of every test target of a run, kept so that runs can be compared user by user later.

`benchmarks/run.py` writes them beside the row, outside version control; `benchmarks/compare.py` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from llm4rec.training.evaluation.evaluation_result import PROTOCOLS, EvaluationResult
from llm4rec.training.evaluation.metrics import RANK_METRICS

RANKS = Path(__file__).parent / "ranks"


def run_name(model: str, protocol: str, seed: int | None) -> str:
    """Name of a run's files: `model`, `model-seed0`, `model-cold-items-seed0`."""
    name = model if protocol == "leave_one_out" else f"{model}-{protocol.replace('_', '-')}"
    return name if seed is None else f"{name}-seed{seed}"


@dataclass
class SavedRanks:
    """What one run found of every case.

    Attributes:
        users: (cases,) int32.
        targets: (cases,) int32 item indices.
        ranks: per `filtered` and `unfiltered` (cases,) int32, 0-based.
        num_items: size of the catalog.
        values: further metrics that have a value per case, by their names in rows; NaN where not defined.
    """

    users: np.ndarray
    targets: np.ndarray
    ranks: dict[str, np.ndarray]
    num_items: int
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write one compressed file of plain arrays."""
        path.parent.mkdir(parents=True, exist_ok=True)
        ranks = {name: ranks.astype(np.int32) for name, ranks in self.ranks.items()}
        values = {f"{name}.value": values.astype(np.float32) for name, values in self.values.items()}
        np.savez_compressed(
            path,
            users=self.users.astype(np.int32),
            targets=self.targets.astype(np.int32),
            num_items=np.int64(self.num_items),
            **ranks,
            **values,
        )

    @classmethod
    def load(cls, path: Path) -> SavedRanks:
        """Read it back; nothing in it is executed."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(
                users=arrays["users"],
                targets=arrays["targets"],
                ranks={name: arrays[name] for name in PROTOCOLS},
                num_items=int(arrays["num_items"]),
                values={name.removesuffix(".value"): arrays[name] for name in arrays.files if name.endswith(".value")},
            )

    def has(self, name: str) -> bool:
        """Whether :meth:`metric` knows it."""
        return name in self.values or name.split("/")[-1].split("@")[0] in RANK_METRICS

    def metric(self, name: str) -> np.ndarray:
        """(cases,) float64 of a metric, from the ranks or as it was saved."""
        if name in self.values:
            return self.values[name].astype(np.float64)
        return EvaluationResult({}, self.ranks, self.users, self.num_items).values(name)


def runs_of(dataset: str, model: str, protocol: str, folder: Path = RANKS) -> dict[int | None, SavedRanks]:
    """All saved runs of a model, by seed (`None`: it draws no random numbers).

    Raises:
        FileNotFoundError: if there is none.
    """
    found: dict[int | None, SavedRanks] = {}
    stem = run_name(model, protocol, None)
    for path in sorted((folder / dataset).glob(f"{stem}*.npz")):
        seed = path.stem.removeprefix(stem).removeprefix("-seed")
        if path.stem == stem:
            found[None] = SavedRanks.load(path)
        elif path.stem == f"{stem}-seed{seed}" and seed.isdigit():
            found[int(seed)] = SavedRanks.load(path)
    if not found:
        raise FileNotFoundError(
            f"{folder / dataset} holds no ranks of {model} ({protocol}). Run `python benchmarks/run.py {dataset} "
            f"{model} …` first: it keeps them."
        )
    return found
