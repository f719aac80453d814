"""Leakage probe: how well can a sensitive attribute still be told from user states that were made not to tell it?

The states are frozen and the probes are fresh, so an adversary that training merely outwitted does not count.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass

import numpy as np

LEAST_OF_A_GROUP = 10
"""Users that the smallest group needs, for five folds with two of it in each."""

REPEATS = 5
"""Draws of folds and of the network's start over which is averaged: one draw lies up to .02 off (docs/design.md)."""


@dataclass(frozen=True)
class LeakageReport:
    """What probes read off the states.

    Attributes:
        auc: the higher of the two below; 0.5: nothing.
        linear_auc: of a logistic regression, mean over the draws.
        mlp_auc: of a network with one hidden layer, mean over the draws.
        users: with a known label.
        largest_group: share of the users, what guessing it always gets right.
    """

    auc: float
    linear_auc: float
    mlp_auc: float
    users: int
    largest_group: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def leakage(states: np.ndarray, labels: np.ndarray, seed: int = 0, repeats: int = REPEATS) -> LeakageReport:
    """Area under the ROC curve of probes on held-out users, by five-fold cross-validation, repeated and averaged.

    For more than two values it is the mean over pairs of values (Hand and Till, *Machine Learning* 45, 2001).

    Args:
        seed: of the folds and of the network; different seeds share no draw.
        repeats: draws, each with folds and a network of its own.

    Shape:
        - states: (users, width) float; labels: (users,) int, -1 where unknown

    Raises:
        ValueError: if there are fewer than two groups, one is too small for five folds, or `repeats` is below 1.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, expected at least 1.")
    states, labels = np.asarray(states, dtype=np.float64), np.asarray(labels)
    states, labels = states[labels >= 0], labels[labels >= 0]
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 2 or counts.min() < LEAST_OF_A_GROUP:
        raise ValueError(
            f"A probe needs two groups of at least {LEAST_OF_A_GROUP} users; there are "
            f"{dict(zip(values.tolist(), counts.tolist(), strict=True))}."
        )
    found: dict[str, list[float]] = {"linear_auc": [], "mlp_auc": []}
    for draw in range(seed * repeats, (seed + 1) * repeats):
        folds = StratifiedKFold(5, shuffle=True, random_state=draw)
        probes = {
            "linear_auc": LogisticRegression(C=0.1, max_iter=1000),
            "mlp_auc": MLPClassifier((64,), alpha=1e-2, early_stopping=True, random_state=draw, max_iter=200),
        }
        for name, probe in probes.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                chance = cross_val_predict(
                    make_pipeline(StandardScaler(), probe), states, labels, cv=folds, method="predict_proba"
                )
            found[name].append(_auc(labels, chance))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return LeakageReport(
        max(means.values()), **means, users=len(labels), largest_group=float(counts.max() / counts.sum())
    )


def _auc(labels: np.ndarray, chance: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    if chance.shape[1] == 2:
        return float(roc_auc_score(labels, chance[:, 1]))
    return float(roc_auc_score(labels, chance, multi_class="ovo"))
