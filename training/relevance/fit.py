"""Fit a relevance model to a log of ratings; the way from interactions to a model that can be saved."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch

from ...modeling_llm4rec.relevance import LLM4RecForRelevance, RelevancePrediction
from ..data.prepared import Interactions
from ..propensity.inverse_weights import inverse_propensity_weights
from ..propensity.propensity_model import PropensityModel
from .joint_learning import JointLearning
from .rated_users import RandomSplits, RatedUsers
from .trainer import RelevanceTrainer, RelevanceTrainingArguments

USERS_AT_ONCE = 512
"""Users of a batch, in training and in prediction."""

DECAY = 0.6
"""Last share of the steps in which the learning rate falls, to 2 %."""

DEFAULTS = {
    "max_steps": 200,
    "learning_rate": 0.01,
    "lr_scheduler_type": "warmup_stable_decay",
    "warmup_steps": 20,
    "adam_beta2": 0.98,
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
    "per_device_train_batch_size": USERS_AT_ONCE,
}
"""Arguments that differ from those of transformers."""


def fit_relevance(
    model: LLM4RecForRelevance,
    train: Interactions,
    user_attributes: np.ndarray | None = None,
    *,
    propensity: PropensityModel | None = None,
    clip: float | None = None,
    sampled: int = 24,
    train_fusion: bool = False,
    seed: int = 0,
    **arguments: Any,
) -> LLM4RecForRelevance:
    """Train a model in place; returns it, in evaluation mode.

    What is done about how ratings came to be observed is `model.config.loss_weighting`: `none`, `ips`, `snips`, or
    `doubly_robust`, which is joint learning (:class:`~.joint_learning.JointLearning`).

    Args:
        model: with the features of its items set; its weights are where training starts.
        train: ratings.
        user_attributes: (users, attributes) value ids, 0 where unknown.
        propensity: fitted model of what is observed; needed unless `loss_weighting` is `none`.
        clip: as in :func:`~..propensity.inverse_weights.inverse_propensity_weights`.
        sampled: items drawn for every user at every step, for `doubly_robust`.
        train_fusion: whether the attention between modalities and their weights are trained too; without, the vector
            of an item stays the sum of its parts, which few ratings tell more about.
        seed: of the splits, the dropout and the order of users.
        arguments: of [`RelevanceTrainingArguments`].

    Raises:
        ValueError: if propensities are missing, or given where they would not be used.
    """
    weighting = model.config.loss_weighting
    if (weighting == "none") != (propensity is None):
        raise ValueError(
            f"loss_weighting is {weighting!r} and a propensity model was {'not ' if propensity is None else ''}given; "
            "expected one for ips, snips and doubly_robust, and none for 'none'."
        )
    weights = None
    if propensity is not None:
        users = np.repeat(np.arange(train.num_users), train.lengths)
        weights = inverse_propensity_weights(propensity.predict(users, train.items, train.ratings), clip)
    rated = RatedUsers(train, model.config.rating_levels, user_attributes, weights)
    joint = weighting == "doubly_robust"
    items = model.model.item_embedding
    fusion = [part for part in (items.cross_attention, items.fusion) if part is not None and not train_fusion]
    for part in fusion:
        part.requires_grad_(False)
    learner = JointLearning(model) if joint else model
    steps = arguments.get("max_steps", DEFAULTS["max_steps"])
    with tempfile.TemporaryDirectory() as folder:
        values = {
            **DEFAULTS,
            "lr_scheduler_kwargs": {"num_decay_steps": int(DECAY * steps), "min_lr_ratio": 0.02},
            "output_dir": folder,
            "seed": seed,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": torch.cuda.is_available(),
            **arguments,
        }
        trainer = RelevanceTrainer(
            model=learner,
            args=RelevanceTrainingArguments(**values),
            train_dataset=range(len(rated)),
            data_collator=RandomSplits(rated, sampled if joint else 0),
            num_ratings=int((rated.ratings > 0).sum()),
        )
        trainer.train()
    for part in fusion:
        part.requires_grad_(True)
    return model.eval()


def predict_ratings(
    model: LLM4RecForRelevance,
    known: Interactions,
    users: np.ndarray,
    items: np.ndarray,
    user_attributes: np.ndarray | None = None,
    *,
    threshold: float,
) -> RelevancePrediction:
    """Predictions for pairs, from everything that is known about their users.

    Args:
        known: the ratings that serve as history.
        users, items: (pairs,) indices.
        user_attributes, threshold: as in `fit_relevance` and `predict_relevance`.

    Shape:
        - returns: both attributes (pairs,) float32
    """
    rated = RatedUsers(known, model.config.rating_levels, user_attributes)
    users, items = np.asarray(users), np.asarray(items)
    probability, expected = torch.zeros(len(users)), torch.zeros(len(users))
    distinct, place = np.unique(users, return_inverse=True)
    # A row a user, its pairs side by side.
    order = np.argsort(place, kind="stable")
    counts = np.bincount(place, minlength=len(distinct))
    column = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    candidates = np.zeros((len(distinct), counts.max(initial=0)), dtype=np.int64)
    candidates[place[order], column] = items[order]
    for start in range(0, len(distinct), USERS_AT_ONCE):
        rows = slice(start, start + USERS_AT_ONCE)
        found = model.predict_relevance(
            torch.from_numpy(candidates[rows]), **rated.known(torch.from_numpy(distinct[rows])), threshold=threshold
        )
        inside = (place[order] >= start) & (place[order] < start + USERS_AT_ONCE)
        where, row, at = order[inside], place[order][inside] - start, column[inside]
        probability[where], expected[where] = found.probability[row, at], found.expected_rating[row, at]
    return RelevancePrediction(probability, expected)
