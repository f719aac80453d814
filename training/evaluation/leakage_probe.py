"""Leakage probe: how well can a sensitive attribute still be told from user states that were made not to tell it?

The states are frozen and the probes are fresh, so an adversary that training merely outwitted does not count.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass

import numpy as np

LEAST_OF_A_GROUP = 10
"""Users that the smallest group needs, for five folds with two of it in each."""


@dataclass(frozen=True)
class LeakageReport:
    """What probes read off the states.

    Attributes:
        auc: the higher of the two below; 0.5: nothing.
        linear_auc: of a logistic regression.
        mlp_auc: of a network with one hidden layer.
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


def leakage(states: np.ndarray, labels: np.ndarray, seed: int = 0) -> LeakageReport:
    """Area under the ROC curve of probes on held-out users, by five-fold cross-validation.

    For more than two values it is the mean over pairs of values (Hand and Till, *Machine Learning* 45, 2001).

    Args:
        seed: of the folds and of the network.

    Shape:
        - states: (users, width) float; labels: (users,) int, -1 where unknown

    Raises:
        ValueError: if there are fewer than two groups, or one is too small for five folds.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    states, labels = np.asarray(states, dtype=np.float64), np.asarray(labels)
    states, labels = states[labels >= 0], labels[labels >= 0]
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 2 or counts.min() < LEAST_OF_A_GROUP:
        raise ValueError(
            f"A probe needs two groups of at least {LEAST_OF_A_GROUP} users; there are "
            f"{dict(zip(values.tolist(), counts.tolist(), strict=True))}."
        )
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    probes = {
        "linear_auc": LogisticRegression(C=0.1, max_iter=1000),
        "mlp_auc": MLPClassifier((64,), alpha=1e-2, early_stopping=True, random_state=seed, max_iter=200),
    }
    found = {}
    for name, probe in probes.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            chance = cross_val_predict(
                make_pipeline(StandardScaler(), probe), states, labels, cv=folds, method="predict_proba"
            )
        found[name] = _auc(labels, chance)
    return LeakageReport(
        max(found.values()), **found, users=len(labels), largest_group=float(counts.max() / counts.sum())
    )


def _auc(labels: np.ndarray, chance: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    if chance.shape[1] == 2:
        return float(roc_auc_score(labels, chance[:, 1]))
    return float(roc_auc_score(labels, chance, multi_class="ovo"))
