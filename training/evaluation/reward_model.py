r"""A reward model for doubly robust estimates: what each of a few actions earns, fitted on other rounds.

:func:`~llm4rec.training.evaluation.off_policy.doubly_robust_estimate` takes what it predicts.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge


def cross_fitted_rewards(
    rewards: np.ndarray,
    actions: np.ndarray,
    target_policy: np.ndarray,
    positions: np.ndarray | None = None,
    context: np.ndarray | None = None,
    folds: int = 5,
    l2: float = 1.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Predicted rewards of the logged actions and of a new policy, each round by a model fitted on other rounds.

    .. math:: \hat r(x_t, a) = g(b + \beta_a + \gamma_{\mathrm{pos}_t} + \delta^\top x_t)

    a logistic regression (g = σ) where rewards are 0 and 1, else a linear one, with an L2 penalty on everything but b.
    Rounds are dealt into `folds` parts at random and each part is predicted by a model of the others (cross-fitting:
    Chernozhukov et al., *Double/debiased machine learning*, The Econometrics Journal 21(1), 2018). Where all rewards
    of the others are alike, the prediction is their value.

    Takes memory for rounds × actions.

    Args:
        rewards: (rounds,) finite.
        actions: (rounds,) int, from 0.
        target_policy: (actions,) or (rounds, actions) probabilities of the new policy, rows sum to 1.
        positions: (rounds,) where the action was shown, any labels.
        context: (rounds, d) features, known before the action.
        folds: parts, from 2 to the number of rounds.
        l2: weight of the penalty, above 0.
        seed: of the deal.

    Shape:
        - returns: (rounds,) float64 predicted reward of the logged action; (rounds,) mean predicted reward under the
          new policy

    Raises:
        ValueError: if shapes do not match or an argument is outside its range.
    """
    rewards, actions = np.asarray(rewards, dtype=np.float64), np.asarray(actions)
    rounds, policy = len(rewards), np.atleast_2d(np.asarray(target_policy, dtype=np.float64))
    num_actions = policy.shape[1]
    if actions.shape != (rounds,) or policy.shape[0] not in (1, rounds) or not 2 <= folds <= rounds or not l2 > 0:
        raise ValueError(
            f"rewards {rewards.shape}, actions {actions.shape}, target_policy {np.shape(target_policy)}, "
            f"folds={folds}, l2={l2}: expected (rounds,), (rounds,), (actions,) or (rounds, actions), 2 to {rounds} "
            "folds and l2 above 0."
        )
    if actions.min() < 0 or actions.max() >= num_actions:
        raise ValueError(
            f"actions run from {actions.min()} to {actions.max()}, expected 0 to {num_actions - 1}, the columns of "
            "target_policy."
        )
    sums = policy.sum(axis=1)
    if (policy < 0).any() or np.abs(sums - 1).max() > 1e-6:
        worst = int(np.argmax(np.abs(sums - 1)))
        raise ValueError(
            f"target_policy is not a distribution over actions: row {worst} sums to {sums[worst]:g}, its smallest "
            f"entry is {policy.min():g}; expected rows that sum to 1 and nothing below 0."
        )
    beside = _beside_the_action(rounds, positions, context)
    features = sparse.hstack([_one_hot(actions, num_actions), beside], format="csr")
    binary = bool(np.isin(rewards, (0, 1)).all())
    parts = np.random.default_rng(seed).permutation(rounds) % folds
    predicted, expected = np.empty(rounds), np.empty(rounds)
    for part in range(folds):
        here = np.flatnonzero(parts == part)
        elsewhere = parts != part
        known = rewards[elsewhere]
        if (known == known[0]).all():
            predicted[here] = expected[here] = known[0]
            continue
        model = LogisticRegression(C=1 / l2, max_iter=1_000) if binary else Ridge(alpha=l2)
        model.fit(features[elsewhere], known)
        weights = np.ravel(model.coef_)
        rest = beside[here] @ weights[num_actions:] + float(np.ravel(model.intercept_)[0])
        scores = rest[:, None] + weights[:num_actions]
        guesses = expit(scores) if binary else scores
        predicted[here] = guesses[np.arange(len(here)), actions[here]]
        expected[here] = (guesses * (policy if len(policy) == 1 else policy[here])).sum(axis=1)
    return predicted, expected


def _beside_the_action(rounds: int, positions: np.ndarray | None, context: np.ndarray | None) -> sparse.csr_array:
    """(rounds, features) of what does not depend on the action: position, then context."""
    parts = [sparse.csr_array((rounds, 0))]
    if positions is not None:
        labels, place = np.unique(positions, return_inverse=True)
        parts.append(_one_hot(place, len(labels)))
    if context is not None:
        context = np.asarray(context, dtype=np.float64)
        if context.ndim != 2 or not np.isfinite(context).all():
            raise ValueError(f"context of shape {context.shape}: expected finite numbers of shape ({rounds}, d).")
        parts.append(sparse.csr_array(context))
    if any(part.shape[0] != rounds for part in parts):
        raise ValueError(
            f"positions and context have {', '.join(str(part.shape[0]) for part in parts[1:])} rows, expected one for "
            f"each of {rounds} rounds."
        )
    return sparse.hstack(parts, format="csr")


def _one_hot(indices: np.ndarray, width: int) -> sparse.csr_array:
    rows = np.arange(len(indices))
    return sparse.csr_array((np.ones(len(rows)), (rows, indices)), shape=(len(rows), width))
