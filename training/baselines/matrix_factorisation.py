r"""Matrix factorisation of ratings: plain, by inverse propensities, and doubly robust.

The classical models of debiased rating prediction, as rivals for relevance models (`benchmarks/coat.py`).
"""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from torch import nn
from typing_extensions import Self

from ...modeling_llm4rec.debiasing import sampled_doubly_robust_error
from ..data.prepared import Interactions
from ..propensity.inverse_weights import inverse_propensity_weights
from ..propensity.propensity_model import PropensityModel

INITIAL_SPREAD = 0.1


class Factors(nn.Module):
    r"""Predicted ratings :math:`\mu + b_u + b_i + p_u^\top q_i` (Koren, Bell and Volinsky, Computer 42(8), 2009).

    Shape:
        - users, items: (n,) indices
        - returns: (n,)
    """

    def __init__(self, num_users: int, num_items: int, width: int, mean: float):
        super().__init__()
        self.users, self.items = nn.Embedding(num_users, width), nn.Embedding(num_items, width)
        self.user_bias, self.item_bias = nn.Embedding(num_users, 1), nn.Embedding(num_items, 1)
        self.mean = nn.Parameter(torch.tensor(mean))
        for embedding in (self.users, self.items):
            nn.init.normal_(embedding.weight, std=INITIAL_SPREAD)
        for embedding in (self.user_bias, self.item_bias):
            nn.init.zeros_(embedding.weight)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Predict ratings."""
        bias = (self.user_bias(users) + self.item_bias(items)).squeeze(-1)
        return self.mean + bias + (self.users(users) * self.items(items)).sum(-1)

    def penalty(self, l2: float, l2_bias: float) -> torch.Tensor:
        """Squares of all weights, each kind times its strength."""
        factors = self.users.weight.square().sum() + self.items.weight.square().sum()
        biases = self.user_bias.weight.square().sum() + self.item_bias.weight.square().sum()
        return l2 * factors + l2_bias * biases


class MatrixFactorisation:
    r"""A rating model of users and items that training has seen, with `fit` and `predict`.

    The loss of a rating is the squared error e; that of the model, over the n ratings O,

    - `none`: :math:`\frac{1}{n} \sum_O e`;
    - `ips`: :math:`\frac{1}{n} \sum_O w e` with inverse propensities w of mean 1 (MF-IPS; Schnabel et al.,
      *Recommendations as treatments*, ICML 2016);
    - `doubly_robust`: :func:`sampled_doubly_robust_error`, with the squared distance to the ratings of a second
      factorisation as the guess ê of the error, which is trained at the same time (MF-DR, joint learning; Wang et al.,
      ICML 2019). The distance is learned with its sign, as :math:`w (r - \tilde r)^2`:
      squared, a rating and its mirror image beyond the prediction look alike, and the guesses pull the wrong way;

    plus :math:`\frac{1}{n}` times the penalty. Full-batch Adam, whose rate falls to 0.

    Args:
        weighting: how ratings are weighted.
        width: length of the factors.
        l2, l2_bias: strengths of L2 on factors and on biases, 0 or more.
        clip: as in :func:`~..propensity.inverse_weights.inverse_propensity_weights`.
        steps, learning_rate: of Adam.
        seed: of the first weights, and of the pairs that are drawn for `doubly_robust`.

    Raises:
        ValueError: from `fit`, if there are no ratings, or propensities are missing or superfluous.
    """

    def __init__(
        self,
        weighting: Literal["none", "ips", "doubly_robust"] = "none",
        width: int = 4,
        l2: float = 8.0,
        l2_bias: float = 3.0,
        clip: float | None = None,
        steps: int = 300,
        learning_rate: float = 0.02,
        seed: int = 0,
    ):
        if weighting not in ("none", "ips", "doubly_robust"):
            raise ValueError(f"weighting is {weighting!r}, expected none, ips or doubly_robust.")
        self.weighting, self.width, self.l2, self.l2_bias = weighting, width, l2, l2_bias
        self.clip, self.steps, self.learning_rate, self.seed = clip, steps, learning_rate, seed
        self.factors: Factors | None = None

    def fit(self, train: Interactions, propensity: PropensityModel | None = None) -> Self:
        """Learn from ratings; unknown ones (NaN) are left out. Returns itself."""
        if (self.weighting == "none") != (propensity is None):
            raise ValueError(
                f"weighting is {self.weighting!r} and a propensity model was "
                f"{'not ' if propensity is None else ''}given; expected one for ips and doubly_robust only."
            )
        known = np.zeros(0, bool) if train.ratings is None else ~np.isnan(train.ratings)
        if not known.any():
            raise ValueError("These interactions hold no ratings; a factorisation of ratings needs some.")
        users = np.repeat(np.arange(train.num_users), train.lengths)[known]
        items, ratings = train.items[known].astype(np.int64), train.ratings[known]
        weights = np.ones(len(users))
        if propensity is not None:
            weights = inverse_propensity_weights(propensity.predict(users, items, ratings), self.clip)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.factors = Factors(train.num_users, train.num_items, self.width, float(ratings.mean()))
            pairs = torch.from_numpy(users), torch.from_numpy(items)
            self._train(*pairs, torch.from_numpy(ratings).float(), torch.from_numpy(weights).float())
        return self

    def _train(self, users: torch.Tensor, items: torch.Tensor, ratings: torch.Tensor, weights: torch.Tensor) -> None:
        model, count = self.factors, len(users)
        models = [model, copy.deepcopy(model)] if self.weighting == "doubly_robust" else [model]
        optimizer = torch.optim.Adam([w for part in models for w in part.parameters()], self.learning_rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, self.steps)
        for _ in range(self.steps):
            predicted = model(users, items)
            if self.weighting == "doubly_robust":
                drawn = (
                    torch.randint(model.users.num_embeddings, (count,)),
                    torch.randint(model.items.num_embeddings, (count,)),
                )
                loss = self._joint_loss(*models, predicted, ratings, weights, (users, items), drawn)
            else:
                loss = (weights * (predicted - ratings).square()).mean()
            loss = loss + sum(part.penalty(self.l2, self.l2_bias) for part in models) / count
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    def _joint_loss(
        self,
        model: Factors,
        imputation: Factors,
        predicted: torch.Tensor,
        ratings: torch.Tensor,
        weights: torch.Tensor,
        observed: tuple[torch.Tensor, torch.Tensor],
        drawn: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """The loss of both models; the first takes the second as given."""
        errors = (predicted - ratings).square()
        imputed = imputation(*observed)
        guesses = (predicted - imputed.detach()).square()
        sampled = (model(*drawn) - imputation(*drawn).detach()).square()
        learned = (weights * (ratings - imputed).square()).mean()
        return sampled_doubly_robust_error(errors, guesses, weights, sampled) + learned

    def predict(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Expected ratings of pairs.

        Shape:
            - users, items: (n,) indices; returns: (n,) float32

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
        """
        if self.factors is None:
            raise NotFittedError("MatrixFactorisation has learned nothing yet. Call fit(train) before predict.")
        with torch.no_grad():
            pairs = torch.from_numpy(np.asarray(users, np.int64)), torch.from_numpy(np.asarray(items, np.int64))
            return self.factors(*pairs).numpy()
