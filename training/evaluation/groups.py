"""Gaps between groups: accuracy by group of users, exposure by group of items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

UNKNOWN = "unknown"


@dataclass
class Groups:
    """A partition of users or items.

    Attributes:
        names: sorted; labels that are missing (`None`, NaN) form the group `unknown`.
        codes: (users or items,) int64, which name.
    """

    names: list[str]
    codes: np.ndarray

    @classmethod
    def of(cls, labels: Iterable[Any]) -> Groups:
        """From one label each, of any type that has a text form."""
        texts = [UNKNOWN if label is None or label != label else str(label) for label in labels]
        names = sorted(set(texts))
        place = {name: code for code, name in enumerate(names)}
        return cls(names, np.array([place[text] for text in texts], dtype=np.int64))


def group_means(values: np.ndarray, codes: np.ndarray, num_groups: int) -> np.ndarray:
    """Mean of the cases of each group.

    Shape:
        - values: (cases,) float; codes: (cases,) group of each
        - returns: (groups,) float64, NaN for a group without cases
    """
    count = np.bincount(codes, minlength=num_groups)
    total = np.bincount(codes, values, minlength=num_groups)
    return np.divide(total, count, out=np.full(num_groups, np.nan), where=count > 0)


def gap(means: np.ndarray) -> float:
    r"""Largest difference between two groups, :math:`\max_g m_g - \min_g m_g`; groups of NaN are left out.

    With accuracy as m, the unfairness between groups of users of Li et al., *User-oriented fairness in
    recommendation*, WWW 2021, for any number of groups.
    """
    return float(np.nanmax(means) - np.nanmin(means))


def group_exposure(lists: np.ndarray, item_codes: np.ndarray, num_groups: int) -> np.ndarray:
    r"""Attention that each list gives to each group of items.

    .. math:: E_{cg} = \sum_{r} \frac{[\mathrm{group}(L_{cr}) = g]}{\log_2(r + 1)}, \quad r = 1, 2, \dots

    the position-discounted exposure of Singh and Joachims, *Fairness of exposure in rankings*, KDD 2018.

    Shape:
        - lists: (cases, k) item indices, negative: no item
        - item_codes: (items,) group of each item
        - returns: (cases, groups) float64
    """
    cases, k = lists.shape
    discount = np.where(lists >= 0, 1 / np.log2(np.arange(k) + 2.0), 0)
    place = np.arange(cases)[:, None] * num_groups + item_codes[np.maximum(lists, 0)]
    return np.bincount(place.ravel(), discount.ravel(), minlength=cases * num_groups).reshape(cases, num_groups)


def exposure_ratio(exposure: np.ndarray, group_sizes: np.ndarray) -> float:
    r"""Demographic parity of exposure: least over largest exposure per item of a group; 1 is parity.

    .. math:: \frac{\min_g E_g / \lvert g \rvert}{\max_g E_g / \lvert g \rvert}

    the constraint of Singh and Joachims (KDD 2018, section 4.1) as a ratio, for any number of groups.

    Shape:
        - exposure: (groups,) summed over lists; group_sizes: (groups,) items of each, above 0
    """
    per_item = np.asarray(exposure, dtype=np.float64) / group_sizes
    return float(per_item.min() / per_item.max())


def exposure_gap(exposure: np.ndarray) -> float:
    r"""Are groups of users shown the same kinds of items? Largest difference of a share; 0 is parity.

    .. math:: \max_{g} \max_{a, b} \lvert P(g \mid a) - P(g \mid b) \rvert, \quad
        P(g \mid a) = \frac{E_{ag}}{\sum_{g'} E_{ag'}}

    demographic parity of what is shown, given the user's group (Dwork et al., *Fairness through awareness*, ITCS 2012,
    section 3: statistical parity), with a group of items as the outcome.

    Shape:
        - exposure: (user groups, item groups) summed over lists; user groups without exposure are left out
    """
    shown = exposure[exposure.sum(axis=1) > 0]
    shares = shown / shown.sum(axis=1, keepdims=True)
    return float((shares.max(axis=0) - shares.min(axis=0)).max())


def category_exposure(lists: np.ndarray, categories: sparse.csr_array) -> np.ndarray:
    """Attention that each list gives to each category; an item shares its own evenly among its categories.

    The discount by place is that of :func:`group_exposure`; items without a category are left out.

    Shape:
        - lists: (cases, k) item indices, negative: no item
        - categories: (items, categories) 0 or 1
        - returns: (cases, categories) float64
    """
    cases, k = lists.shape
    discount = np.where(lists >= 0, 1 / np.log2(np.arange(k) + 2.0), 0)
    sizes = np.maximum(np.diff(categories.indptr), 1)
    each = discount / sizes[np.maximum(lists, 0)]
    place = (np.arange(cases).repeat(k), np.maximum(lists, 0).ravel())
    shown = sparse.csr_array((each.ravel(), place), shape=(cases, categories.shape[0]))
    return (shown @ categories).toarray().astype(np.float64)


def parity_gap(exposure: np.ndarray) -> float:
    r"""How differently groups of users are served: largest total variation distance between what two are shown.

    .. math:: \max_{a, b} \tfrac12 \sum_c \lvert P(c \mid a) - P(c \mid b) \rvert, \quad
        P(c \mid a) = \frac{E_{ac}}{\sum_{c'} E_{ac'}}

    the bias between two groups of Dwork et al., *Fairness through awareness*, ITCS 2012, section 3, over categories of
    items. 0: group and category are independent, demographic parity; 1: no category in common.

    Shape:
        - exposure: (user groups, categories) summed over lists; user groups without exposure are left out
    """
    shown = exposure[exposure.sum(axis=1) > 0]
    shares = shown / shown.sum(axis=1, keepdims=True)
    return float(np.abs(shares[:, None] - shares[None]).sum(axis=-1).max() / 2)
