"""Sums over top-k lists, so that a million users leave no list behind.

The evaluator hands in the lists of each batch once per protocol and asks for the means at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..data.prepared import Interactions
from .calibration import miscalibration
from .diversity import cosine_similarity, intra_list_diversity, jaccard_similarity
from .groups import Groups, category_exposure, exposure_gap, exposure_ratio, group_exposure, parity_gap
from .popularity_bias import average_popularity, gini, novelty, popularity_lift


@dataclass
class ListFacts:
    """What is known of items and users beyond who had what; each may be `None`, and its metrics are then left out.

    Attributes:
        item_counts: (items,) train events of every item.
        categories: (items, categories) sparse, 0 or 1.
        vectors: (items, d) float.
        user_groups: of the users of the data set.
        item_groups: of the catalog.
    """

    item_counts: np.ndarray | None = None
    categories: sparse.csr_array | None = None
    vectors: np.ndarray | None = None
    user_groups: Groups | None = None
    item_groups: Groups | None = None


class ListStatistics:
    """Running sums of one protocol: per k one number a metric, an exposure count an item, a cell a pair of groups.

    A metric that is not defined for a case (NaN, such as the diversity of a list of one) leaves the case out; one that
    is defined for no case is left out of the metrics.
    """

    def __init__(self, num_items: int, ks: tuple[int, ...], facts: ListFacts) -> None:
        self.ks = ks
        self.facts = facts
        self.exposure = {k: np.zeros(num_items, dtype=np.int64) for k in ks}
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        users = len(facts.user_groups.names) if facts.user_groups else 1
        items = len(facts.item_groups.names) if facts.item_groups else 0
        self.group_exposure = {k: np.zeros((users, items)) for k in ks}
        categories = 0 if facts.categories is None else facts.categories.shape[1]
        self.category_exposure = {k: np.zeros((users, categories)) for k in ks}

    def update(self, lists: np.ndarray, histories: Interactions, users: np.ndarray) -> None:
        """Add a batch.

        Args:
            lists: (cases, largest k) item indices, best first, -1 after the end of a shorter list.
            histories: of the same cases.
            users: (cases,) user indices.
        """
        for k in self.ks:
            shown = lists[:, :k]
            self.exposure[k] += np.bincount(shown[shown >= 0], minlength=len(self.exposure[k]))
        for name, values in self._case_values(lists, histories):
            defined = ~np.isnan(values)
            self.sums[name] = self.sums.get(name, 0.0) + float(values[defined].sum())
            self.counts[name] = self.counts.get(name, 0) + int(defined.sum())
        groups, by_category = self.facts.item_groups, self.facts.categories
        user_codes = self.facts.user_groups.codes[users] if self.facts.user_groups else np.zeros(len(users), int)
        if by_category is not None and self.facts.user_groups is not None:
            for k in self.ks:
                np.add.at(self.category_exposure[k], user_codes, category_exposure(lists[:, :k], by_category))
        if groups is not None:
            for k in self.ks:
                cells = group_exposure(lists[:, :k], groups.codes, len(groups.names))
                np.add.at(self.group_exposure[k], user_codes, cells)

    def _case_values(self, lists: np.ndarray, histories: Interactions) -> Iterator[tuple[str, np.ndarray]]:
        facts = self.facts
        if facts.item_counts is not None:
            for k in self.ks:
                yield f"novelty@{k}", novelty(lists[:, :k], facts.item_counts)
                yield f"popularity@{k}", average_popularity(lists[:, :k], facts.item_counts)
            owners = np.repeat(np.arange(histories.num_users), histories.lengths)
            events = np.bincount(owners, facts.item_counts[histories.items], minlength=histories.num_users)
            yield "history_popularity", events / np.where(histories.lengths > 0, histories.lengths, np.nan)
        if facts.categories is not None:
            similarity = jaccard_similarity(lists, facts.categories)
            for k in self.ks:
                yield f"category_diversity@{k}", intra_list_diversity(similarity, k)
                yield f"miscalibration@{k}", miscalibration(lists[:, :k], histories, facts.categories)
        if facts.vectors is not None:
            similarity = cosine_similarity(lists, facts.vectors)
            for k in self.ks:
                yield f"vector_diversity@{k}", intra_list_diversity(similarity, k)

    def metrics(self) -> dict[str, float]:
        """`{metric}@{k}` → value over everything seen so far."""
        means = {name: self.sums[name] / count for name, count in self.counts.items() if count}
        base = means.pop("history_popularity", 0.0)
        for k in self.ks:
            means[f"coverage@{k}"] = float((self.exposure[k] > 0).mean())
            if self.exposure[k].any():
                means[f"gini@{k}"] = gini(self.exposure[k])
            if base > 0 and f"popularity@{k}" in means:
                means[f"popularity_lift@{k}"] = popularity_lift(means[f"popularity@{k}"], base)
            if self.facts.user_groups is not None and self.category_exposure[k].any():
                means[f"parity_gap@{k}"] = parity_gap(self.category_exposure[k])
            if self.facts.item_groups is not None and self.group_exposure[k].any():
                sizes = np.bincount(self.facts.item_groups.codes)
                means[f"exposure_ratio@{k}"] = exposure_ratio(self.group_exposure[k].sum(axis=0), sizes)
                if self.facts.user_groups is not None:
                    means[f"exposure_gap@{k}"] = exposure_gap(self.group_exposure[k])
        return means
