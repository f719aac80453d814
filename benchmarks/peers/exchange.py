"""What goes to another library and comes back: events as plain Parquet there, lists of items here.

A peer runs in its own environment (`rectools_run.py`), sees no test target, and hands back the best items of every
user; our evaluator judges them like any other scores.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.splits import EvaluationSet, Split

SCRIPT = Path(__file__).parent / "rectools_run.py"


def export_events(split: Split, path: Path) -> None:
    """Write the train events and the validation targets; `position` orders a user's events."""
    train, cases = split.train, split.validation
    users = np.repeat(np.arange(train.num_users), train.lengths)
    positions = np.arange(len(train.items)) - np.repeat(train.offsets[:-1], train.lengths)
    learned = {"user": users, "item": train.items, "position": positions, "held_out": np.zeros(len(users), bool)}
    # After all of the history, which in a split by time is longer than what the user has in train.
    asked = {
        "user": cases.users,
        "item": cases.targets,
        "position": np.maximum(train.lengths[cases.users], cases.histories.lengths),
        "held_out": np.ones(len(cases), bool),
    }
    parts = [
        pl.DataFrame(
            {name: values if name == "held_out" else values.astype(np.int32) for name, values in part.items()}
        )
        for part in (learned, asked)
    ]
    pl.concat(parts).sort("user", "position").write_parquet(path)


class ListScorer:
    """Scores of lists that were made elsewhere: the first of a list stands highest, what is in none is minus infinity.

    A target outside its list thus ranks with all other such items, in the middle of what is left of the catalog: a
    miss, except in a catalog of some dozens.

    It has to be called with all cases in their order, as the evaluator does, since a history alone does not say whose
    it is.

    Args:
        lists: columns `user`, `item`, `place`.
        cases: that will be asked; users without a list get a miss.

    Raises:
        ValueError: if a list names an item twice, or one that is not in the catalog.
    """

    def __init__(self, lists: pl.DataFrame, cases: EvaluationSet) -> None:
        num_items = cases.histories.num_items
        outside = lists.filter((pl.col("item") < 0) | (pl.col("item") >= num_items))
        if len(outside):
            raise ValueError(f"{len(outside)} places name items outside the catalog of {num_items}: {outside.row(0)}.")
        twice = len(lists) - lists.select("user", "item").n_unique()
        if twice:
            raise ValueError(f"{twice} items are in a user's list twice.")
        rows = pl.DataFrame({"user": cases.users.astype(np.int32), "row": np.arange(len(cases), dtype=np.int32)})
        found = rows.join(lists.cast(pl.Int32), on="user", how="inner").sort("row", "place")
        self.rows, self.items = found["row"].to_numpy(), found["item"].to_numpy()
        self.scores = -found["place"].to_numpy().astype(np.float32)
        self.asked = 0

    def __call__(self, histories: Interactions) -> np.ndarray:
        """(cases, items) float32 scores of the next cases."""
        first, last = self.asked, self.asked + histories.num_users
        self.asked = last
        chosen = slice(*np.searchsorted(self.rows, [first, last]))
        scores = np.full((histories.num_users, histories.num_items), -np.inf, dtype=np.float32)
        scores[self.rows[chosen] - first, self.items[chosen]] = self.scores[chosen]
        return scores


def run_rectools(
    python: str, model: str, seed: int, split: Split, folder: Path, settings: dict[str, Any]
) -> tuple[ListScorer, dict[str, Any]]:
    """Export, train in the other environment, read back.

    Args:
        python: interpreter of the environment that has RecTools.
        settings: `epochs` and `patience` of the run; everything else goes to the RecTools model.

    Raises:
        RuntimeError: if the peer failed; it has told why on stderr.
    """
    folder.mkdir(parents=True, exist_ok=True)
    export_events(split, folder / "events.parquet")
    own = {name: settings[name] for name in settings if name not in ("epochs", "patience")}
    command = [python, str(SCRIPT), str(folder), model, "--seed", str(seed), "--settings", json.dumps(own)]
    for name in ("epochs", "patience"):
        if name in settings:
            command += [f"--{name}", str(settings[name])]
    outcome = subprocess.run(command, check=False)
    if outcome.returncode:
        raise RuntimeError(f"{SCRIPT.name} ended with code {outcome.returncode}; what it wrote above says why.")
    lists = pl.read_parquet(folder / "lists.parquet")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return ListScorer(lists, split.test), report
