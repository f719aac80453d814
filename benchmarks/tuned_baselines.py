"""Classical recommenders at their best: hyper-parameters chosen on validation from a small fixed grid.

A weak baseline proves nothing. `benchmarks/run.py` offers each of these as `<name>-tuned` beside the plain one, and
writes what was chosen, from what, into the row.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from llm4rec.benchmarks.data_sets import validation_evaluator
from llm4rec.training.baselines.baseline import Baseline
from llm4rec.training.baselines.ease import EASE
from llm4rec.training.baselines.item_knn import ItemKNN
from llm4rec.training.baselines.transitions import Transitions
from llm4rec.training.data.splits import Split

CRITERION = "filtered/ndcg@10"
DECAYS = (0.5, 0.6, 0.7, 0.8, 0.9)
NEIGHBOURS = (None, 20, 50, 100, 200)
RIDGES = (50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)

Grid = dict[str, tuple[Any, ...]]
GRIDS: dict[str, tuple[Callable[..., Baseline], Grid]] = {
    "itemknn": (ItemKNN, {"neighbours": NEIGHBOURS}),
    "itemknn-recency": (ItemKNN, {"neighbours": NEIGHBOURS, "recency": DECAYS}),
    "ease": (EASE, {"l2": RIDGES}),
    "ease-recency": (EASE, {"l2": RIDGES, "recency": DECAYS}),
    "transitions": (Transitions, {"window": (3, 5, 10, 20, 50), "recency": DECAYS}),
}
READ_WHEN_SCORING = "recency"
"""What can change without fitting again."""


def tune(make: Callable[..., Baseline], grid: Grid, split: Split) -> tuple[Baseline, dict[str, Any]]:
    """The baseline of the grid's best validation NDCG@10, fitted, and a record of the search.

    Returns:
        the baseline; `chosen` (name → value), `grid`, and `validation` (`name=value …` → NDCG@10).
    """
    evaluator = validation_evaluator(split.validation)
    fitted_names = [name for name in grid if name != READ_WHEN_SCORING]
    best, best_value, chosen, tried = None, -1.0, {}, {}
    for values in product(*(grid[name] for name in fitted_names)):
        settings = dict(zip(fitted_names, values, strict=True))
        baseline = make(**settings).fit(split.train)
        for decay in grid.get(READ_WHEN_SCORING, (None,)):
            if decay is not None:
                settings = {**settings, READ_WHEN_SCORING: decay}
                baseline.recency = decay
            value = evaluator.evaluate(baseline.score).metrics[CRITERION]
            tried[" ".join(f"{name}={setting}" for name, setting in settings.items())] = value
            if value > best_value:
                best, best_value, chosen = baseline, value, settings
    if READ_WHEN_SCORING in chosen:
        best.recency = chosen[READ_WHEN_SCORING]
    record = {
        "chosen": chosen,
        "chosen_on": f"validation {CRITERION}",
        "grid": {name: list(values) for name, values in grid.items()},
        "validation": tried,
    }
    return best, record
