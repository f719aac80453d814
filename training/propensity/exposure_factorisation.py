r"""Propensity from exposure counts: a Poisson factorisation of who was shown what, how often.

For logs that count impressions: a user's exposure is explained by a few patterns that many users share.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.decomposition import NMF

from ..data.prepared import Interactions
from .propensity_model import PropensityModel, pair_counts


class ExposureFactorisation(PropensityModel):
    r"""Probability that a pair is exposed at least once.

    .. math:: a_{ui} \sim \mathrm{Poisson}(\lambda_{ui}), \quad \lambda_{ui} = \sum_k \theta_{uk} \beta_{ik}, \quad
        p_{ui} = P(a_{ui} \ge 1) = 1 - e^{-\lambda_{ui}}

    the exposure model of Liang, Charlin and Blei, *Causal inference for recommendation*, UAI workshop on causation,
    2016, who put Gamma priors on the non-negative factors; here they are fitted by maximum likelihood, which is
    non-negative matrix factorisation under the Kullback-Leibler loss (Lee and Seung, *Learning the parts of objects
    by non-negative matrix factorization*, Nature 401, 1999). The counts stay sparse.

    A few factors are enough where policies are simple, and too many explain each event by itself: the propensity of
    what was observed becomes too high. Choose `factors` by :meth:`log_likelihood` of other events.

    Args:
        factors: patterns K, from 1 to the smaller side of the matrix.
        iterations: most updates of the factors.
        floor: smallest propensity that is given, in (0, 1); a rate can come out as 0, which only says that nothing
            like it was seen.
        seed: of the randomised decomposition from which the factors start.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(self, factors: int = 4, iterations: int = 500, floor: float = 1e-3, seed: int = 0) -> None:
        if factors < 1 or iterations < 1:
            raise ValueError(f"factors={factors}, iterations={iterations}: expected at least 1 of each.")
        if not 0 < floor < 1:
            raise ValueError(f"floor is {floor}, expected a probability in (0, 1).")
        self.factors = factors
        self.iterations = iterations
        self.floor = floor
        self.seed = seed

    def rates(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(n,) float64 λ, the expected number of exposures of each pair."""
        return np.einsum("nk,nk->n", self.user_factors[users], self.item_factors[items])

    def log_likelihood(self, interactions: Interactions) -> float:
        r"""Mean log probability of the item of an event, given its user; for events that the model was not fitted on.

        Which item, not how many: :math:`\lambda_{ui} / \sum_j \lambda_{uj}`, mixed with a thousandth of the uniform
        distribution, so that one item at rate 0 does not decide.
        """
        users = np.repeat(np.arange(interactions.num_users), interactions.lengths)
        totals = self.user_factors @ self.item_factors.sum(axis=0)
        shares = self.rates(users, interactions.items) / np.maximum(totals[users], np.finfo(float).tiny)
        return float(np.log(0.999 * shares + 0.001 / interactions.num_items).mean())

    def _fit(self, interactions: Interactions) -> None:
        shape = (interactions.num_users, interactions.num_items)
        if self.factors > min(shape):
            raise ValueError(
                f"factors is {self.factors}, expected at most {min(shape)} for {shape[0]} users and {shape[1]} items."
            )
        codes, counts = pair_counts(interactions)
        exposures = sparse.csr_array((counts.astype(np.float64), np.divmod(codes, shape[1])), shape=shape)
        model = NMF(
            n_components=self.factors,
            init="nndsvda",
            solver="mu",
            beta_loss="kullback-leibler",
            max_iter=self.iterations,
            tol=1e-4,
            random_state=self.seed,
        )
        self.user_factors = model.fit_transform(exposures)
        self.item_factors = model.components_.T

    def _predict(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray | None) -> np.ndarray:
        return np.maximum(-np.expm1(-self.rates(users, items)), self.floor)
