"""Full-catalog ranking evaluation: where does the item that really came next stand among all items?

Takes an :class:`~llm4rec.training.data.splits.EvaluationSet` and any function that scores the catalog for a batch of
histories; hands on metrics and the rank of every target. No sampled negatives: metrics on sampled candidates can order
models differently from metrics on the catalog (Krichene and Rendle, *On sampled metrics for item recommendation*,
KDD 2020).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from ..data.prepared import Interactions
from ..data.splits import EvaluationSet
from . import metrics

Scorer = Callable[[Interactions], "torch.Tensor | np.ndarray"]
"""From a batch of n histories to (n, items) scores, higher is better; minus infinity: never recommend this item."""

PROTOCOLS = ("filtered", "unfiltered")


@dataclass
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        metrics: `{protocol}/{metric}@{k}` → mean over cases, such as `filtered/ndcg@10`.
        ranks: per protocol (cases,) int64, 0-based ranks of the targets, in the order of the evaluation set.
        users: (cases,) int64, whose ranks these are.
        num_items: size of the catalog that was ranked.
    """

    metrics: dict[str, float]
    ranks: dict[str, np.ndarray]
    users: np.ndarray
    num_items: int

    def to_json(self, path: str | Path | None = None, with_ranks: bool = False) -> str:
        """The result as JSON text, also written to `path` if given.

        Args:
            with_ranks: keep the rank of every case, for intervals and paired tests later.
        """
        values = {"cases": len(self.users), "num_items": self.num_items, "metrics": self.metrics}
        if with_ranks:
            values["users"] = self.users.tolist()
            values["ranks"] = {protocol: ranks.tolist() for protocol, ranks in self.ranks.items()}
        text = json.dumps(values, indent=None if with_ranks else 2)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text


class RankingEvaluator:
    r"""Ranks the whole catalog for every case, once, and reads two protocols off the same scores.

    - `unfiltered`: the target competes with all items.
    - `filtered`: the items of the case's history are taken out, except the target itself where it was seen before.

    Ties share their places: with `b` items strictly better than the target and `t` other items of the same score,

    .. math:: \mathrm{rank} = b + \lfloor t / 2 \rfloor

    the mean of a random order of the tied, rounded down. A scorer that gives all items one score therefore ranks every
    target in the middle of the catalog, not at its top.

    Metrics, for every k: `hr ndcg mrr` (:mod:`~llm4rec.training.evaluation.metrics`) and `coverage`, the share of the
    catalog in at least one top-k list. The lists of `filtered` hold no item of the history, those of neither protocol
    an item scored minus infinity.

    Memory: a few arrays of `batch_size` × items on the device of the scores, whatever the number of cases. The scores
    are not changed in place.

    Args:
        evaluation_set: the cases.
        ks: lengths of the top-k lists.
        batch_size: cases scored at a time.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        ValueError: if there are no cases, or a k below 1.
    """

    def __init__(
        self,
        evaluation_set: EvaluationSet,
        ks: Sequence[int] = (5, 10, 20),
        batch_size: int = 512,
        progress: bool = False,
    ) -> None:
        if not len(evaluation_set):
            raise ValueError(
                "The evaluation set has no cases: no user has both a history and a target. Check the split."
            )
        if not ks or min(ks) < 1 or batch_size < 1:
            raise ValueError(f"ks={tuple(ks)} and batch_size={batch_size}: expected numbers of at least 1.")
        self.evaluation_set = evaluation_set
        self.ks = tuple(sorted(set(ks)))
        self.batch_size = batch_size
        self.progress = progress

    @torch.no_grad()
    def evaluate(self, score: Scorer) -> EvaluationResult:
        """Score all cases and rank.

        Args:
            score: called with the histories of at most `batch_size` cases as an
                :class:`~llm4rec.training.data.prepared.Interactions`; returns (n, items), numpy or torch, on any
                device.

        Raises:
            ValueError: if scores have another shape, or hold NaN.
        """
        cases = self.evaluation_set
        num_items = cases.histories.num_items
        ranks: dict[str, list[np.ndarray]] = {protocol: [] for protocol in PROTOCOLS}
        covered = {(protocol, k): np.zeros(num_items, dtype=bool) for protocol in PROTOCOLS for k in self.ks}

        starts = range(0, len(cases), self.batch_size)
        for start in tqdm(starts, desc="rank", leave=False, disable=None if self.progress else True):
            histories = cases.histories.rows(start, min(start + self.batch_size, len(cases)))
            scores = self._checked(score(histories), histories, start)
            targets = torch.as_tensor(cases.targets[start : start + self.batch_size].astype(np.int64)).to(
                scores.device
            )
            seen = _seen_pairs(histories, scores.device)

            unfiltered, filtered = _ranks(scores, targets, seen)
            ranks["unfiltered"].append(unfiltered.cpu().numpy())
            ranks["filtered"].append(filtered.cpu().numpy())

            self._cover(covered, "unfiltered", scores)
            self._cover(covered, "filtered", scores.index_put(seen, scores.new_tensor(-torch.inf)))

        all_ranks = {protocol: np.concatenate(parts) for protocol, parts in ranks.items()}
        return EvaluationResult(self._metrics(all_ranks, covered), all_ranks, cases.users, num_items)

    def _checked(self, scores: torch.Tensor | np.ndarray, histories: Interactions, start: int) -> torch.Tensor:
        if isinstance(scores, np.ndarray):
            scores = torch.from_numpy(np.require(scores, requirements=["C", "W"]))
        if not scores.is_floating_point():
            scores = scores.double()
        expected = (histories.num_users, histories.num_items)
        if tuple(scores.shape) != expected:
            raise ValueError(
                f"The scorer returned shape {tuple(scores.shape)}, expected (histories, items) = {expected}."
            )
        bad_rows = torch.isnan(scores).any(dim=1).nonzero().flatten()
        if len(bad_rows):
            row = start + int(bad_rows[0])
            raise ValueError(
                f"The scorer returned NaN for {len(bad_rows)} of histories {start}:{start + expected[0]}; the first "
                f"is row {row} of the evaluation set, user index {self.evaluation_set.users[row]}. Expected numbers; "
                "use minus infinity for an item that must not be recommended."
            )
        return scores

    def _cover(self, covered: dict[tuple[str, int], np.ndarray], protocol: str, scores: torch.Tensor) -> None:
        top = scores.topk(min(self.ks[-1], scores.shape[1]), dim=1)
        lists = torch.where(top.values == -torch.inf, -1, top.indices).cpu().numpy()
        for k in self.ks:
            items = lists[:, :k]
            covered[protocol, k][items[items >= 0]] = True

    def _metrics(self, ranks: dict[str, np.ndarray], covered: dict[tuple[str, int], np.ndarray]) -> dict[str, float]:
        values = {}
        for protocol in PROTOCOLS:
            for k in self.ks:
                values[f"{protocol}/hr@{k}"] = float(metrics.hit_rate(ranks[protocol], k).mean())
                values[f"{protocol}/ndcg@{k}"] = float(metrics.ndcg(ranks[protocol], k).mean())
                values[f"{protocol}/mrr@{k}"] = float(metrics.mrr(ranks[protocol], k).mean())
                values[f"{protocol}/coverage@{k}"] = float(covered[protocol, k].mean())
        return values


def _seen_pairs(histories: Interactions, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct (row, item) pairs of a batch of histories, two (pairs,) long tensors."""
    rows = np.repeat(np.arange(histories.num_users), histories.lengths)
    pairs = np.unique(rows * histories.num_items + histories.items)
    return tuple(torch.from_numpy(part).to(device) for part in np.divmod(pairs, histories.num_items))


def _ranks(
    scores: torch.Tensor, targets: torch.Tensor, seen: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unfiltered and filtered ranks of the targets, each (cases,) long."""
    target_scores = scores.gather(1, targets[:, None])
    better = (scores > target_scores).sum(dim=1)
    tied = (scores == target_scores).sum(dim=1) - 1

    rows, items = seen
    seen_scores, threshold = scores[rows, items], target_scores[rows, 0]
    seen_better = torch.zeros_like(better).index_add_(0, rows, (seen_scores > threshold).long())
    seen_tied = torch.zeros_like(tied).index_add_(
        0, rows, ((seen_scores == threshold) & (items != targets[rows])).long()
    )
    return better + tied // 2, (better - seen_better) + (tied - seen_tied) // 2
