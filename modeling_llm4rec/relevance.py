r"""Relevance of given pairs of user and item, predicted from what the user rated before.

Where `recommend` ranks a catalog by what comes next, here the question is how a user would rate an item that somebody
else chose to show. Items are read by the item embedding of the recommender, so any catalog works; the histories are
sets of ratings, and the decoder, which reads sequences, takes no part: its weights are frozen and never run.
`training/relevance/` trains this model, with or without inverse propensities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput

from .configuration_llm4rec import LLM4RecConfig
from .modeling_llm4rec import LLM4RecModel, LLM4RecPreTrainedModel

TASTE_SCALE = 2.0
"""Factor of the product of taste and item vector; with strong decay of both it sets how much they may say."""

HISTORY_SCALE = 3.0
"""Factor of what the history adds to the taste."""

HISTORY_PRIOR = 4.0
"""Events that count as already there when the history's vectors are averaged."""

LARGEST_LIKENESS = 6.0
"""Limit of the exponent of an attention weight."""


@dataclass
class RelevanceOutput(ModelOutput):
    """What [`LLM4RecForRelevance`] computes for a batch of users, each with its own candidates.

    Attributes:
        loss: scalar, where labels were given.
        logits: (batch, candidates, levels - 1) log-odds that the rating is above each level but the highest.
        member_logits: (members, batch, candidates, levels - 1), whose mean `logits` is.
        losses: (batch, candidates) loss of every pair, 0 where it has no label; mean over members.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    member_logits: torch.Tensor | None = None
    losses: torch.Tensor | None = None


@dataclass
class RelevancePrediction:
    """Predictions for pairs of user and item.

    Attributes:
        probability: (batch, candidates) that the rating is above the threshold.
        expected_rating: (batch, candidates), in units of the ratings.
    """

    probability: torch.Tensor
    expected_rating: torch.Tensor


class RelevanceHead(nn.Module):
    r"""How a user rates a candidate, as the log-odds of exceeding each rating level.

    An item's bias b is the first entry of its vector, v the others. With the history H and the residual
    :math:`r_j = x_{s_j} - b_j` of a rating :math:`s_j`, where the values x of the levels are learned (0 where the
    rating is unknown), the score is

    .. math:: z_c = b_c + b_u + a \frac{\sum_j r_j}{|H| + \lambda} + 2\, p_u^\top v_c
              + h \frac{\sum_j w_{cj} r_j}{\sum_j w_{cj} + \nu} + d \log \frac{\sum_j w_{cj} + 1/2}{|H| + 1/2},
              \quad w_{cj} = e^{v_j^\top W_q v_c}

    and :math:`\log \frac{P(s > k)}{P(s \le k)} = z_c - \theta_k` with ascending thresholds (cumulative logits,
    McCullagh, *Regression models for ordinal data*, 1980). The taste

    .. math:: p_u = \sum_m e_{m, u_m} + \frac{3}{|H| + 4} \Bigl( W_r \sum_j r_j v_j + W_i \sum_j v_j \Bigr)

    reads user attributes, the ratings, and, as in SVD++ (Koren, KDD 2008), which items were rated at all. The
    attention (one term for each of its heads) asks how the user rated what is like the candidate; d says what it means
    that much or little of its kind was chosen. Sums over the history do not know its order.

    An item that the user has rated before is predicted between the model's score and that rating's place among the
    thresholds, see `known_rating_weight` of [`RelevanceConfig`].

    Args:
        config: with a section `relevance` and two or more `rating_levels`.
        width: 1 + d, of the item vectors that it reads; at least 2.

    Shape:
        - candidate_vectors: (batch, candidates, 1 + d); history_vectors: (batch, length, 1 + d)
        - ratings: (batch, length) rating ids, 0 where unknown; present: (batch, length) bool, false at padding
        - user_attributes: (batch, attributes) value ids, 0 where unknown
        - same: (batch, candidates, length) bool, where candidate and history name one item
        - returns: (batch, candidates, levels - 1)
    """

    def __init__(self, config: LLM4RecConfig, width: int):
        super().__init__()
        width = width - 1
        settings, levels, heads = config.relevance, len(config.rating_levels), config.relevance.attention_heads
        self.dropout = settings.dropout
        self.known_rating_weight = settings.known_rating_weight
        sizes = settings.user_attribute_sizes
        self.user_taste = nn.ModuleList(nn.Embedding(size + 1, width, padding_idx=0) for size in sizes)
        self.user_bias = nn.ModuleList(nn.Embedding(size + 1, 1, padding_idx=0) for size in sizes)
        self.rated_projection = nn.Linear(width, width, bias=False)
        self.chosen_projection = nn.Linear(width, width, bias=False)
        self.level_values = nn.Parameter(torch.empty(levels))
        self.first_threshold = nn.Parameter(torch.empty(1))
        self.threshold_steps = nn.Parameter(torch.empty(levels - 2))
        self.tendency = nn.Parameter(torch.empty(1))
        self.tendency_prior = nn.Parameter(torch.empty(1))
        self.attention_query = nn.Parameter(torch.empty(heads, width, width))
        self.attention_weight = nn.Parameter(torch.empty(heads))
        self.attention_prior = nn.Parameter(torch.empty(heads))
        self.density_weight = nn.Parameter(torch.empty(heads))

    @torch.no_grad()
    def reset_parameters(self, std: float) -> None:
        """Draw weights so that at first the history speaks through the tendency and the attention."""
        width, levels = self.rated_projection.in_features, len(self.level_values)
        for embedding in self.user_taste:
            init.normal_(embedding.weight, std=std)
            init.zeros_(embedding.weight[0])
        for embedding in self.user_bias:
            init.zeros_(embedding.weight)
        init.copy_(self.rated_projection.weight, 0.3 * torch.eye(width))
        init.normal_(self.chosen_projection.weight, std=std)
        init.copy_(self.level_values, torch.linspace(-1.5, 2.0, levels))
        init.copy_(self.attention_query, 2 * torch.eye(width).expand_as(self.attention_query))
        for weight, value in (
            (self.first_threshold, -2.0),
            (self.threshold_steps, softplus_inverse(4.0 / max(1, levels - 2))),
            (self.tendency, 0.8),
            (self.tendency_prior, 3.0),
            (self.attention_weight, 0.5),
            (self.attention_prior, 3.0),
            (self.density_weight, 0.0),
        ):
            init.constant_(weight, value)

    @property
    def thresholds(self) -> torch.Tensor:
        """(levels - 1,) ascending θ."""
        return torch.cumsum(torch.cat([self.first_threshold, F.softplus(self.threshold_steps)]), 0)

    def forward(
        self,
        candidate_vectors: torch.Tensor,
        history_vectors: torch.Tensor,
        ratings: torch.Tensor,
        present: torch.Tensor,
        user_attributes: torch.Tensor,
        same: torch.Tensor,
    ) -> torch.Tensor:
        """Log-odds of exceeding each level but the highest."""
        there, rated = present.to(history_vectors.dtype), (ratings > 0) & present
        length = there.sum(-1)
        history_bias, history_vectors = history_vectors[..., 0], history_vectors[..., 1:]
        candidate_bias, candidate_vectors = candidate_vectors[..., 0], candidate_vectors[..., 1:]
        residuals = (self.level_values[(ratings - 1).clamp(min=0)] - history_bias) * rated
        bias = sum(embedding(ids) for embedding, ids in zip(self.user_bias, user_attributes.unbind(-1), strict=True))
        tendency = self.tendency * residuals.sum(-1) / (length + F.softplus(self.tendency_prior))
        taste = F.dropout(self._taste(history_vectors, residuals, there, user_attributes), self.dropout, self.training)
        score = candidate_bias + bias + tendency[:, None]
        score = score + TASTE_SCALE * torch.einsum("bcd,bd->bc", candidate_vectors, taste)
        for head in range(len(self.attention_weight)):
            query = candidate_vectors @ self.attention_query[head]
            likeness = (query @ history_vectors.mT).clamp(-LARGEST_LIKENESS, LARGEST_LIKENESS)
            weights = likeness.exp() * there[:, None]
            total = weights.sum(-1)
            read = torch.einsum("bcl,bl->bc", weights, residuals) / (total + F.softplus(self.attention_prior[head]))
            density = ((total + 0.5) / (length + 0.5)[:, None]).log()
            score = score + self.attention_weight[head] * read + self.density_weight[head] * density
        return self._toward_known_ratings(score, ratings, same & rated[:, None])[..., None] - self.thresholds

    def _taste(
        self, vectors: torch.Tensor, residuals: torch.Tensor, there: torch.Tensor, user_attributes: torch.Tensor
    ) -> torch.Tensor:
        """(batch, d) p of the users."""
        share = HISTORY_SCALE / (there.sum(-1, keepdim=True) + HISTORY_PRIOR)
        rated = self.rated_projection(torch.einsum("bl,bld->bd", residuals, vectors) * share)
        chosen = self.chosen_projection(torch.einsum("bl,bld->bd", there, vectors) * share)
        attributes = zip(self.user_taste, user_attributes.unbind(-1), strict=True)
        return rated + chosen + sum(embedding(ids) for embedding, ids in attributes)

    def _toward_known_ratings(self, score: torch.Tensor, ratings: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        """Move the score of an item that was rated before to the middle of that rating's range, partly."""
        if self.known_rating_weight == 0 or not same.any():
            return score
        edges = self.thresholds
        middles = torch.cat([edges[:1] - 1, (edges[1:] + edges[:-1]) / 2, edges[-1:] + 1])
        known = torch.where(same, middles[(ratings - 1).clamp(min=0)][:, None], 0).sum(-1) / same.sum(-1).clamp(min=1)
        return torch.where(same.any(-1), torch.lerp(score, known, self.known_rating_weight), score)


def softplus_inverse(value: float) -> float:
    """x with log(1 + e^x) = value."""
    return float(torch.tensor(value).expm1().log())


def cumulative_logit_losses(logits: torch.Tensor, ratings: torch.Tensor) -> torch.Tensor:
    r"""Loss of predicted ratings: mean over levels of the cross-entropy of "the rating is above this level".

    Shape:
        - logits: (..., levels - 1); ratings: (...) rating ids 1 … levels
        - returns: (...)
    """
    levels = torch.arange(1, logits.shape[-1] + 1, device=logits.device)
    above = (ratings[..., None] > levels).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, above.expand_as(logits), reduction="none").mean(-1)


class LLM4RecForRelevance(LLM4RecPreTrainedModel):
    """Predicts how users would rate given items, from their ratings, item features and user attributes.

    Example:

    ```python
    model = LLM4RecForRelevance.from_pretrained(folder)
    found = model.predict_relevance(candidates, history_items, history_ratings, user_attributes, threshold=3)
    found.probability, found.expected_rating
    ```

    Args:
        config: with a section `relevance` and two or more `rating_levels`; the items are described as for the
            recommender.
    """

    def __init__(self, config: LLM4RecConfig):
        super().__init__(config)
        if config.relevance is None or len(config.rating_levels) < 2:
            raise ValueError(
                f"LLM4RecForRelevance got relevance={config.relevance} and rating_levels={config.rating_levels}, "
                "expected a relevance section (an empty dict will do) and at least two levels."
            )
        width, members = config.text_config.hidden_size, config.relevance.members
        if width % members or width < 2 * members:
            raise ValueError(
                f"relevance.members is {members}, expected a divisor of the hidden size {width}, at most half of it."
            )
        self.model = LLM4RecModel(config)
        self.heads = nn.ModuleList(RelevanceHead(config, width // members) for _ in range(members))
        self.post_init()
        self.model.language_model.requires_grad_(False)
        self.model.event_embedding.requires_grad_(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RelevanceHead):
            module.reset_parameters(self.config.initializer_range)

    @property
    def num_items(self) -> int:
        """Size of the catalog."""
        return self.model.item_embedding.num_items

    def set_items(self, features: dict[str, torch.Tensor]) -> None:
        """Replace the features of the whole catalog, for as many items as `config.num_items`.

        Raises:
            ValueError: if the number of items differs, or a feature is missing or of another shape.
        """
        if len(features["present"]) != self.config.num_items:
            raise ValueError(
                f"set_items got features of {len(features['present'])} items, but the model was configured for "
                f"{self.config.num_items}."
            )
        self.model.item_embedding.set_features(features)

    def forward(
        self,
        candidates: torch.Tensor,
        history_items: torch.Tensor,
        history_ratings: torch.Tensor,
        user_attributes: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        loss_weights: torch.Tensor | None = None,
        **kwargs: object,
    ) -> RelevanceOutput:
        r"""Log-odds of the ratings of candidates.

        The loss is that of :func:`cumulative_logit_losses`, averaged over the pairs that have a label. With
        `loss_weights` w it is :math:`\frac{1}{n} \sum w \ell` for `config.loss_weighting` `none` and `ips`, and
        :math:`\sum w \ell / \sum w` for `snips`; for `doubly_robust` see `training/relevance/joint_learning.py`.

        Args:
            candidates: (batch, candidates) item indices.
            history_items: (batch, length) item indices in any order, -1 at padding.
            history_ratings: (batch, length) rating ids of `rating_ids`, 0 where unknown.
            user_attributes: (batch, attributes) value ids, 0 where unknown; may be left out if there are none, and
                where all are unknown.
            labels: (batch, candidates) rating ids, 0 where the rating is unknown.
            loss_weights: (batch, candidates) of the labels.

        Raises:
            ValueError: if shapes do not fit, or an index is out of its range.
        """
        user_attributes = self._checked(candidates, history_items, history_ratings, user_attributes)
        present = history_items >= 0
        named = torch.cat([candidates, history_items.clamp(min=0)], dim=1)
        unique, place = named.unique(return_inverse=True)
        vectors = F.embedding(place, self.model.item_embedding(unique))
        count, slices = candidates.shape[1], vectors.chunk(len(self.heads), dim=-1)
        same = candidates[:, :, None] == history_items[:, None, :]
        facts = (history_ratings, present, user_attributes, same)
        members = torch.stack(
            [head(part[:, :count], part[:, count:], *facts) for head, part in zip(self.heads, slices, strict=True)]
        )
        output = RelevanceOutput(logits=members.mean(0), member_logits=members)
        if labels is not None:
            labelled = labels > 0
            output.losses = cumulative_logit_losses(members, labels[None]).mean(0) * labelled
            output.loss = self._weighted_mean(output.losses, labelled, loss_weights)
        return output

    def _weighted_mean(
        self, losses: torch.Tensor, labelled: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        weights = labelled.to(losses.dtype) if weights is None else weights * labelled
        total = weights if self.config.loss_weighting == "snips" else labelled
        return (losses * weights).sum() / total.sum().clamp(min=1e-12)

    def _checked(
        self,
        candidates: torch.Tensor,
        history_items: torch.Tensor,
        history_ratings: torch.Tensor,
        user_attributes: torch.Tensor | None,
    ) -> torch.Tensor:
        """User attributes of the right shape; raises a `ValueError` for inputs that do not fit."""
        sizes = self.config.relevance.user_attribute_sizes
        if user_attributes is None:
            user_attributes = candidates.new_zeros(len(candidates), len(sizes))
        if history_items.shape != history_ratings.shape or len(history_items) != len(candidates):
            raise ValueError(
                f"candidates of shape {tuple(candidates.shape)}, history_items {tuple(history_items.shape)}, "
                f"history_ratings {tuple(history_ratings.shape)}: expected one history for each row of candidates, "
                "and a rating for each of its items."
            )
        if user_attributes.shape != (len(candidates), len(sizes)):
            raise ValueError(
                f"user_attributes of shape {tuple(user_attributes.shape)}, expected {(len(candidates), len(sizes))}: "
                f"one id for each of {self.config.relevance.user_attributes}."
            )
        ranges = [("candidates", candidates, 0, self.num_items - 1)]
        ranges += [("history_items", history_items, -1, self.num_items - 1)]
        ranges += [("history_ratings", history_ratings, 0, len(self.config.rating_levels))]
        names = self.config.relevance.user_attributes
        ranges += [
            (f"user attribute {name!r}", ids, 0, size)
            for name, ids, size in zip(names, user_attributes.unbind(-1), sizes, strict=True)
        ]
        for name, values, least, most in ranges:
            if values.numel() and not (least <= int(values.min()) and int(values.max()) <= most):
                raise ValueError(
                    f"{name} hold values from {int(values.min())} to {int(values.max())}, expected {least} to {most}."
                )
        return user_attributes

    @torch.no_grad()
    def predict_relevance(
        self,
        candidates: torch.Tensor,
        history_items: torch.Tensor,
        history_ratings: torch.Tensor,
        user_attributes: torch.Tensor | None = None,
        *,
        threshold: float,
    ) -> RelevancePrediction:
        r"""Probability that a rating exceeds a threshold, and the expected rating.

        .. math:: \mathrm{E}[s] = s_1 + \sum_{k} (s_{k+1} - s_k)\, P(s > s_k)

        Put the model into evaluation mode first.

        Args:
            candidates, history_items, history_ratings, user_attributes: as in `forward`.
            threshold: in units of the ratings, from the lowest level to below the highest.

        Raises:
            ValueError: as in `forward`, or if no rating or every rating exceeds the threshold.
        """
        levels = self.config.rating_levels
        if not levels[0] <= threshold < levels[-1]:
            raise ValueError(
                f"threshold is {threshold}, expected from {levels[0]} to below {levels[-1]}: the ratings are {levels}."
            )
        logits = self(candidates, history_items, history_ratings, user_attributes).logits
        above = logits.sigmoid()
        index = sum(level <= threshold for level in levels) - 1
        steps = torch.tensor(levels, device=above.device, dtype=above.dtype).diff()
        return RelevancePrediction(above[..., index], levels[0] + (above * steps).sum(-1))


LLM4RecForRelevance.register_for_auto_class("AutoModelForSequenceClassification")

__all__ = [
    "LLM4RecForRelevance",
    "RelevanceHead",
    "RelevanceOutput",
    "RelevancePrediction",
    "cumulative_logit_losses",
]
