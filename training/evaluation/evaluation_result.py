"""What an evaluation found: means by name, and what intervals and paired comparisons need."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .metrics import RANK_METRICS
from .serendipity import serendipity

PROTOCOLS = ("filtered", "unfiltered")


@dataclass
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        metrics: `{protocol}/{metric}@{k}` → mean over cases, such as `filtered/ndcg@10`.
        ranks: per protocol (cases,) int64, 0-based ranks of the targets, in the order of the evaluation set.
        users: (cases,) int64, whose ranks these are.
        num_items: size of the catalog that was ranked.
        groups: group of users → its accuracy metrics; empty without user groups.
        popularity_ranks: per protocol (cases,) int64, the targets' ranks by train count; `None` without counts.
        lists: per protocol (cases, largest k) int32 recommended items, -1 where a list is shorter; `None` unless the
            evaluator was asked to keep them.
    """

    metrics: dict[str, float]
    ranks: dict[str, np.ndarray]
    users: np.ndarray
    num_items: int
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    popularity_ranks: dict[str, np.ndarray] | None = None
    lists: dict[str, np.ndarray] | None = None

    def values(self, metric: str) -> np.ndarray:
        """The value of every case, (cases,) float64, of a metric that ranks alone determine.

        Args:
            metric: `{protocol}/{name}@{k}`, name one of `hr recall precision ndcg mrr map serendipity`; any k.

        Raises:
            ValueError: if the metric is not of that form, or needs what this result does not hold.
        """
        try:
            protocol, rest = metric.split("/")
            name, k = rest.split("@")
            length = int(k)
        except ValueError:
            raise ValueError(f"{metric!r} is no metric's name: expected a form such as 'filtered/ndcg@10'.") from None
        if protocol not in self.ranks or length < 1:
            raise ValueError(
                f"{metric!r}: expected one of {', '.join(self.ranks)} before the slash and k of 1 or more."
            )
        if name in RANK_METRICS:
            return RANK_METRICS[name](self.ranks[protocol], length)
        if name == "serendipity" and self.popularity_ranks is not None:
            return serendipity(self.ranks[protocol], self.popularity_ranks[protocol], length)
        raise ValueError(
            f"{metric!r} has no value per case here; those with one are {', '.join(RANK_METRICS)}, and serendipity if "
            "the evaluator has item_counts. For others evaluate with keep_lists=True and pass the lists to the "
            "metric's own function."
        )

    def to_json(self, path: str | Path | None = None, with_ranks: bool = False) -> str:
        """The result as JSON text, also written to `path` if given.

        Args:
            with_ranks: keep the rank of every case, for intervals and paired tests later.
        """
        values = {"cases": len(self.users), "num_items": self.num_items, "metrics": self.metrics}
        if self.groups:
            values["groups"] = self.groups
        if with_ranks:
            values["users"] = self.users.tolist()
            values["ranks"] = {protocol: ranks.tolist() for protocol, ranks in self.ranks.items()}
        text = json.dumps(values, indent=None if with_ranks else 2)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text
