"""Full-catalog ranking evaluation: where does the item that really came next stand among all items?

Takes an :class:`~llm4rec.training.data.splits.EvaluationSet` and any function that scores the catalog for a batch of
histories; hands on metrics and the rank of every target. No sampled negatives: metrics on sampled candidates can order
models differently from metrics on the catalog (Krichene and Rendle, *On sampled metrics for item recommendation*,
KDD 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from tqdm.auto import tqdm

from ..data.prepared import Interactions
from ..data.splits import EvaluationSet
from .categories import category_matrix
from .evaluation_result import PROTOCOLS, EvaluationResult
from .groups import Groups, gap, group_means
from .list_statistics import ListFacts, ListStatistics
from .metrics import RANK_METRICS
from .propensity import debiased_mean, propensity
from .serendipity import serendipity

LARGEST_BATCH = 512
"""Cases scored at a time, unless the caller says so."""

SCORES_AT_ONCE = 2**26
"""The same in scores (256 MB in float32): with a larger catalog fewer cases are scored at a time."""

Scorer = Callable[[Interactions], "torch.Tensor | np.ndarray"]
"""From a batch of n histories to (n, items) scores, higher is better; minus infinity: never recommend this item."""


class RankingEvaluator:
    r"""Ranks the whole catalog for every case, once, and reads two protocols off the same scores.

    - `unfiltered`: the target competes with all items.
    - `filtered`: the items of the case's history are taken out, except the target itself where it was seen before.

    Ties share their places: with `b` items strictly better than the target and `t` other items of the same score,

    .. math:: \mathrm{rank} = b + \lfloor t / 2 \rfloor

    the mean of a random order of the tied, rounded down. A scorer that gives all items one score therefore ranks every
    target in the middle of the catalog, not at its top.

    Metrics, for every k and both protocols; each is defined, with its source, by the function of its name:

    | | metrics |
    | --- | --- |
    | always | `hr recall precision ndcg mrr map` of the ranks; `coverage gini` of the lists |
    | with `item_counts` | `novelty popularity popularity_lift serendipity debiased_ndcg` |
    | with `item_categories` | `category_diversity miscalibration` |
    | with `item_vectors` | `vector_diversity` |
    | with `user_groups` | `hr_gap ndcg_gap`, and the accuracy of each group in the result's `groups`; with
      `item_categories` as well `parity_gap` |
    | with `item_groups` | `exposure_ratio`; with both kinds of groups `exposure_gap` |

    The lists of `filtered` hold no item of the history, those of neither protocol an item scored minus infinity.

    Memory: a few arrays of `batch_size` × items on the device of the scores, a rank per case and sums, whatever the
    number of cases; `keep_lists` adds a list per case. The scores are not changed in place.

    Args:
        evaluation_set: the cases.
        ks: lengths of the top-k lists.
        batch_size: cases scored at a time; `None`: 512, or fewer where the catalog is very large.
        progress: show a progress bar on stderr, if that is a terminal.
        item_counts: (items,) train events of every item, `split.train.item_counts()`.
        item_categories: per item its category names (`None`: unknown), or (items, categories) sparse.
        item_vectors: (items, d) float embeddings for diversity; a row of zeros: unknown.
        user_groups: per user of the data set a label, such as `data.users["gender"]`.
        item_groups: per item a label.
        propensity_power: of :func:`~llm4rec.training.evaluation.propensity.propensity`.
        keep_lists: keep every top-k list in the result, for metrics of one's own.

    Raises:
        ValueError: if there are no cases, a k is below 1, or a fact about items or users has another length.
    """

    def __init__(
        self,
        evaluation_set: EvaluationSet,
        ks: Sequence[int] = (5, 10, 20),
        batch_size: int | None = None,
        progress: bool = False,
        *,
        item_counts: np.ndarray | None = None,
        item_categories: Iterable[Sequence[str] | None] | sparse.csr_array | None = None,
        item_vectors: np.ndarray | torch.Tensor | None = None,
        user_groups: Iterable[Any] | None = None,
        item_groups: Iterable[Any] | None = None,
        propensity_power: float = 0.5,
        keep_lists: bool = False,
    ) -> None:
        if not len(evaluation_set):
            raise ValueError(
                "The evaluation set has no cases: no user has both a history and a target. Check the split."
            )
        if batch_size is None:
            batch_size = max(1, min(LARGEST_BATCH, SCORES_AT_ONCE // max(1, evaluation_set.histories.num_items)))
        if not ks or min(ks) < 1 or batch_size < 1:
            raise ValueError(f"ks={tuple(ks)} and batch_size={batch_size}: expected numbers of at least 1.")
        self.evaluation_set = evaluation_set
        self.ks = tuple(sorted(set(ks)))
        self.batch_size = batch_size
        self.progress = progress
        self.propensity_power = propensity_power
        self.keep_lists = keep_lists
        if item_categories is not None and not sparse.issparse(item_categories):
            item_categories = category_matrix(item_categories)
        self.facts = ListFacts(
            item_counts=None if item_counts is None else np.asarray(item_counts),
            categories=None if item_categories is None else sparse.csr_array(item_categories),
            vectors=None if item_vectors is None else torch.as_tensor(item_vectors).detach().cpu().float().numpy(),
            user_groups=None if user_groups is None else Groups.of(user_groups),
            item_groups=None if item_groups is None else Groups.of(item_groups),
        )
        self._check_facts()

    def _check_facts(self) -> None:
        num_items, facts = self.evaluation_set.histories.num_items, self.facts
        for name, rows in (
            ("item_counts", facts.item_counts),
            ("item_categories", None if facts.categories is None else facts.categories.indptr[1:]),
            ("item_vectors", facts.vectors),
            ("item_groups", None if facts.item_groups is None else facts.item_groups.codes),
        ):
            if rows is not None and len(rows) != num_items:
                raise ValueError(f"{name} has {len(rows)} rows, expected one for each of the {num_items} items.")
        last = int(self.evaluation_set.users.max())
        if facts.user_groups is not None and len(facts.user_groups.codes) <= last:
            raise ValueError(
                f"user_groups has {len(facts.user_groups.codes)} labels, but a case is of user index {last}: expected "
                "one label for every user of the data set, not for every case."
            )

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
        popularity_ranks: dict[str, list[np.ndarray]] = {protocol: [] for protocol in PROTOCOLS}
        kept: dict[str, list[np.ndarray]] = {protocol: [] for protocol in PROTOCOLS}
        statistics = {protocol: ListStatistics(num_items, self.ks, self.facts) for protocol in PROTOCOLS}

        starts = range(0, len(cases), self.batch_size)
        for start in tqdm(starts, desc="rank", leave=False, disable=None if self.progress else True):
            batch = slice(start, min(start + self.batch_size, len(cases)))
            histories = cases.histories.rows(batch.start, batch.stop)
            scores = self._checked(score(histories), histories, start)
            targets = torch.as_tensor(cases.targets[batch].astype(np.int64)).to(scores.device)
            seen = _seen_pairs(histories, scores.device)

            _append(ranks, _ranks(scores, targets, seen))
            if self.facts.item_counts is not None:
                counts = torch.as_tensor(self.facts.item_counts, device=scores.device).expand(len(targets), -1)
                _append(popularity_ranks, _ranks(counts, targets, seen))

            for protocol in PROTOCOLS:
                allowed = scores
                if protocol == "filtered":
                    allowed = scores.index_put(seen, scores.new_tensor(-torch.inf))
                lists = self._lists(allowed)
                statistics[protocol].update(lists, histories, cases.users[batch])
                if self.keep_lists:
                    kept[protocol].append(lists.astype(np.int32))

        result = EvaluationResult({}, _joined(ranks), cases.users, num_items)
        if self.facts.item_counts is not None:
            result.popularity_ranks = _joined(popularity_ranks)
        if self.keep_lists:
            result.lists = _joined(kept)
        self._add_metrics(result, statistics)
        return result

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
        bad_rows = scores.amax(dim=1).isnan().nonzero().flatten()  # a maximum with NaN is NaN
        if len(bad_rows):
            row = start + int(bad_rows[0])
            raise ValueError(
                f"The scorer returned NaN for {len(bad_rows)} of histories {start}:{start + expected[0]}; the first "
                f"is row {row} of the evaluation set, user index {self.evaluation_set.users[row]}. Expected numbers; "
                "use minus infinity for an item that must not be recommended."
            )
        return scores

    def _lists(self, scores: torch.Tensor) -> np.ndarray:
        """(cases, largest k) items of the highest scores, -1 after the last that is above minus infinity."""
        top = scores.topk(min(self.ks[-1], scores.shape[1]), dim=1)
        return torch.where(top.values == -torch.inf, -1, top.indices).cpu().numpy()

    def _add_metrics(self, result: EvaluationResult, statistics: dict[str, ListStatistics]) -> None:
        facts, targets = self.facts, self.evaluation_set.targets
        for protocol in PROTOCOLS:
            ranks, values = result.ranks[protocol], {}
            for k in self.ks:
                for name, metric in RANK_METRICS.items():
                    values[f"{name}@{k}"] = float(metric(ranks, k).mean())
                if facts.item_counts is not None:
                    chance = propensity(facts.item_counts, self.propensity_power)[targets]
                    values[f"debiased_ndcg@{k}"] = debiased_mean(RANK_METRICS["ndcg"](ranks, k), chance)
                    popular = result.popularity_ranks[protocol]
                    values[f"serendipity@{k}"] = float(serendipity(ranks, popular, k).mean())
                if facts.user_groups is not None:
                    values |= self._group_gaps(result, protocol, k)
            values |= statistics[protocol].metrics()
            result.metrics |= {f"{protocol}/{name}": value for name, value in values.items()}

    def _group_gaps(self, result: EvaluationResult, protocol: str, k: int) -> dict[str, float]:
        """Gaps between groups of users; the groups' own accuracy goes into the result."""
        groups, gaps = self.facts.user_groups, {}
        codes = groups.codes[result.users]
        for metric in ("hr", "ndcg"):
            name = f"{protocol}/{metric}@{k}"
            means = group_means(result.values(name), codes, len(groups.names))
            gaps[f"{metric}_gap@{k}"] = gap(means)
            for group, mean, cases in zip(groups.names, means, np.bincount(codes, minlength=len(means)), strict=True):
                if cases:
                    result.groups.setdefault(group, {"cases": int(cases)})[name] = float(mean)
        return gaps


def _append(parts: dict[str, list[np.ndarray]], ranks: tuple[torch.Tensor, torch.Tensor]) -> None:
    for protocol, batch in zip(("unfiltered", "filtered"), ranks, strict=True):
        parts[protocol].append(batch.cpu().numpy())


def _joined(parts: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {protocol: np.concatenate(batches) for protocol, batches in parts.items()}


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
    # Counted in 32 bits: on a CPU five times as fast as the default of 64.
    better = (scores > target_scores).sum(dim=1, dtype=torch.int32).long()
    tied = (scores == target_scores).sum(dim=1, dtype=torch.int32).long() - 1

    rows, items = seen
    seen_scores, threshold = scores[rows, items], target_scores[rows, 0]
    seen_better = torch.zeros_like(better).index_add_(0, rows, (seen_scores > threshold).long())
    seen_tied = torch.zeros_like(tied).index_add_(
        0, rows, ((seen_scores == threshold) & (items != targets[rows])).long()
    )
    return better + tied // 2, (better - seen_better) + (tied - seen_tied) // 2
