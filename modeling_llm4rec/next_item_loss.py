"""The training loss of a recommender: which embeddings a step needs, and what its predictions cost.

`LLM4RecForCausalLM` inherits :class:`NextItemLossMixin`; the softmax itself is in `item_loss.py`, what corrects for
the biases of a log in `debiasing.py`, `popularity_prior.py` and `adversary.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .adversary import history_weights
from .configuration_llm4rec import LLM4RecConfig
from .debiasing import Background, target_weights
from .item_loss import LogitBias, full_softmax_loss, sampled_softmax_loss
from .repeat_bias import seen_pairs


@dataclass
class ItemRows:
    """Embeddings of the items that a step needs, looked up by item index.

    Attributes:
        vectors: (n, hidden).
        items: (n,) ascending item indices of the rows; `None` if the rows are the whole catalog.
    """

    vectors: torch.Tensor
    items: torch.Tensor | None = None

    def __getitem__(self, items: torch.Tensor) -> torch.Tensor:
        """Vectors of `items`, any shape (...) to (..., hidden)."""
        return self.vectors[self.index(items)]

    def index(self, items: torch.Tensor) -> torch.Tensor:
        """Rows at which `items` stand."""
        return items if self.items is None else torch.searchsorted(self.items, items)


@dataclass
class BiasFacts:
    """What is known of a batch's biases, all optional.

    Attributes:
        loss_weights: (batch, length) float, of the event at each place.
        popularity_periods: (batch, length) long, row of the popularity prior at the time of each event.
        sensitive_labels: (batch, attributes) long, -1 where unknown. They are guessed, never read.
    """

    loss_weights: torch.Tensor | None = None
    popularity_periods: torch.Tensor | None = None
    sensitive_labels: torch.Tensor | None = None


class NextItemLossMixin:
    """The loss of the next item and of text, corrected for the biases of the log."""

    config: LLM4RecConfig
    imputed_targets: torch.Tensor | None = None

    def set_imputed_targets(self, distribution: torch.Tensor) -> None:
        """Give `loss_weighting="doubly_robust"` the distribution of targets that it imputes.

        Args:
            distribution: (items,) 0 or more; scaled to sum 1.

        Raises:
            ValueError: if it has another length, or holds what is no probability.
        """
        distribution = torch.as_tensor(distribution, dtype=torch.float32, device=self.device)
        if distribution.shape != (self.num_items,):
            raise ValueError(f"imputed targets have shape {tuple(distribution.shape)}, expected ({self.num_items},).")
        if not torch.isfinite(distribution).all() or (distribution < 0).any() or not distribution.sum() > 0:
            raise ValueError("imputed targets hold negative numbers, NaN or nothing but 0, expected probabilities.")
        self.imputed_targets = distribution / distribution.sum()

    def _rows_for_loss(
        self, input_ids: torch.Tensor | None, labels: torch.Tensor
    ) -> tuple[ItemRows, torch.Tensor | None]:
        """Embeddings of the items that one loss needs, and the sampled negatives.

        The items are the whole catalog, or those of the batch and the negatives. Items that no training event could
        have chosen do not compete: a softmax would only ever push them, and the content they share, away.
        """
        vocabulary, count = self.config.text_vocab_size, self.config.num_negatives
        if not count or count >= self.num_items:
            if self.num_items > self.config.max_full_softmax_items:
                raise ValueError(
                    f"A softmax over {self.num_items} items at every position is past max_full_softmax_items="
                    f"{self.config.max_full_softmax_items}. Set num_negatives (1024 is a good start), or raise "
                    "the limit."
                )
            negatives = None
            candidates = self.model.item_embedding.trained_items()
            if candidates is None:
                return ItemRows(self.model.item_table()), None
        else:
            trained = self.model.item_embedding.trained_items()
            drawn = torch.randint(self.num_items if trained is None else len(trained), (count,), device=labels.device)
            candidates = negatives = (drawn if trained is None else trained[drawn]).unique()
        tokens = labels.flatten() if input_ids is None else torch.cat([input_ids.flatten(), labels.flatten()])
        needed = torch.cat([tokens[tokens >= vocabulary] - vocabulary, candidates]).unique()
        return ItemRows(self.model.item_embedding(needed), needed), negatives

    def _loss(
        self,
        states: torch.Tensor,
        input_ids: torch.Tensor | None,
        labels: torch.Tensor,
        rows: ItemRows,
        negatives: torch.Tensor | None,
        num_items_in_batch: torch.Tensor | int | None,
        facts: BiasFacts,
    ) -> torch.Tensor:
        """Split softmax: over items where an item comes next, over text tokens where text comes next.

        Shape:
            - states: (batch, length - 1, hidden); labels and the facts about events: of the places they predict
        """
        vocabulary = self.config.text_vocab_size
        is_item, is_text = labels >= vocabulary, (labels >= 0) & (labels < vocabulary)
        total = states.new_zeros((), dtype=torch.float32)
        if is_item.any():
            bias = None if input_ids is None else self._repeat_bias(input_ids[:, :-1], is_item)
            total = total + self._item_loss(states[is_item], labels, is_item, rows, negatives, bias, facts)
        if is_text.any():
            logits = self.lm_head(states[is_text]).float()
            total = total + F.cross_entropy(logits, labels[is_text], reduction="sum")
        count = (labels >= 0).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        loss = total / count
        if self.model.adversary is not None and facts.sensitive_labels is not None:
            late = self._late(labels)
            said = facts.sensitive_labels.unsqueeze(1).expand(-1, states.shape[1], -1)[late]
            # A mean over this batch's places, as the loss above: with several batches a step, its share of them.
            share = 1.0 if num_items_in_batch is None else (labels >= 0).sum() / num_items_in_batch
            loss = loss + share * self.model.adversary(states[late], said, history_weights(late))
        return loss

    def _state_labels(self, labels: torch.Tensor, sensitive_labels: torch.Tensor | None) -> torch.Tensor | None:
        """What an eraser shall take out of each state (batch, length, attributes): -1 where a state is not late."""
        if self.model.state_eraser is None or sensitive_labels is None:
            return None
        said = sensitive_labels.unsqueeze(1).repeat(1, labels.shape[1], 1)
        said[:, -1] = -1
        said[:, :-1][~self._late(labels[:, 1:])] = -1
        return said

    def _late(self, labels: torch.Tensor) -> torch.Tensor:
        """Which states (batch, length) predict an item in the later half of their window: those that know most."""
        is_item = labels >= self.config.text_vocab_size
        before = is_item.cumsum(dim=1)
        return is_item & (2 * before > before[:, -1:])

    def _item_loss(
        self,
        states: torch.Tensor,
        labels: torch.Tensor,
        is_item: torch.Tensor,
        rows: ItemRows,
        negatives: torch.Tensor | None,
        bias: LogitBias | None,
        facts: BiasFacts,
    ) -> torch.Tensor:
        """Summed loss of states (n, hidden), those of `labels[is_item]`."""
        targets = labels[is_item] - self.config.text_vocab_size
        prior, offsets = self.model.popularity_prior, None
        if prior is not None:
            periods = facts.popularity_periods
            offsets = prior.offsets(torch.zeros_like(targets) if periods is None else periods[is_item])
        weights, background = None, None
        if facts.loss_weights is not None:
            weights, background = target_weights(
                facts.loss_weights[is_item], self.config.loss_weighting, self.imputed_targets
            )
        smoothing = self.config.label_smoothing
        if negatives is None:
            if bias is not None:
                bias.items = rows.index(bias.items)
            if smoothing:
                weights, background = _smoothed(states, weights, smoothing, len(rows.vectors))
            elif background is not None and rows.items is not None:
                background.distribution = _renormalised(background.distribution[rows.items])
            if offsets is not None and rows.items is not None:
                offsets.values = offsets.values[:, rows.items]
            return full_softmax_loss(states, rows.vectors, rows.index(targets), bias, weights, background, offsets)
        if smoothing:
            weights, background = _smoothed(states, weights, smoothing, len(negatives))
        elif background is not None:
            background.distribution = _renormalised(background.distribution[negatives])
        trained = self.model.item_embedding.trained_items()
        competing = self.num_items if trained is None else len(trained)
        return sampled_softmax_loss(
            states, rows[targets], rows[negatives], targets, negatives, competing, bias, weights, background, offsets
        )

    def _repeat_bias(self, input_ids: torch.Tensor, predicts: torch.Tensor) -> LogitBias | None:
        """Bias of each prediction's seen items; `predicts` (batch, length) marks the states that predict."""
        if self.model.repeat_bias is None:
            return None
        pairs = seen_pairs(input_ids - self.config.text_vocab_size, predicts)
        return LogitBias(pairs.rows, pairs.items, self.model.repeat_bias(pairs.ages))


def _smoothed(
    states: torch.Tensor, weights: torch.Tensor | None, smoothing: float, count: int
) -> tuple[torch.Tensor, Background]:
    """Weights of the targets and a uniform background, for label smoothing over `count` items."""
    if weights is None:
        weights = states.new_ones(len(states), dtype=torch.float32)
    uniform = states.new_full((count,), 1 / count, dtype=torch.float32)
    return (1 - smoothing) * weights, Background(smoothing * weights, uniform)


def _renormalised(distribution: torch.Tensor) -> torch.Tensor:
    return distribution / distribution.sum().clamp(min=1e-12)


__all__ = ["BiasFacts", "ItemRows", "NextItemLossMixin"]
