"""A recipe's debiasing, applied to one training run: parts of the model, columns of the training windows, a report.

Called by `training/train.py` between building the model and cutting the windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...configuration.recipe import DebiasingRecipe
from ...modeling_llm4rec import FairnessConfig, LLM4RecForCausalLM, PopularityConfig
from ..data.prepared import Interactions, PreparedData
from ..data.splits import Split
from ..evaluation.groups import UNKNOWN, Groups
from ..propensity.diagnostics import diagnose
from ..propensity.given import GivenPropensities
from ..propensity.inverse_weights import check_propensities, inverse_propensity_weights
from ..propensity.named import make_propensity
from ..propensity.propensity_model import PropensityModel
from .item_popularity import ItemPopularity
from .propensity_features import item_features, user_features


@dataclass
class Debiasing:
    """What a run needs to correct for the biases of its log.

    Attributes:
        event_columns: (train events,) each, for the training windows.
        user_columns: (users, …) each, likewise.
        validation_weights: (validation cases,) inverse propensity weights; `None` where events are not weighted.
        report: JSON-ready facts: effective sample size of the weights, sizes of the groups.
    """

    event_columns: dict[str, np.ndarray] = field(default_factory=dict)
    user_columns: dict[str, np.ndarray] = field(default_factory=dict)
    validation_weights: np.ndarray | None = None
    report: dict[str, Any] = field(default_factory=dict)


def apply_debiasing(
    model: LLM4RecForCausalLM,
    data: PreparedData,
    split: Split,
    recipe: DebiasingRecipe,
    popularity: ItemPopularity | None = None,
    say: Callable[[str], None] = print,
) -> Debiasing:
    """Give the model its popularity prior and adversary, and compute what its events weigh.

    Args:
        popularity: known better than by counting; by default it is counted in `split.train`.
        say: told a line per correction, and warned where weights leave too few effective events.

    Raises:
        ValueError: if a sensitive attribute is unknown or has one value only, or a propensity is not in (0, 1].
    """
    debiasing = Debiasing()
    if recipe.popularity != "none":
        _add_prior(debiasing, model, split.train, recipe, popularity, say)
    if recipe.weighting != "none":
        _add_weights(debiasing, model, data, split, recipe, say)
    if recipe.fairness_strength > 0:
        _add_adversary(debiasing, model, data, recipe, say)
    return debiasing


def _add_prior(
    debiasing: Debiasing,
    model: LLM4RecForCausalLM,
    train: Interactions,
    recipe: DebiasingRecipe,
    popularity: ItemPopularity | None,
    say: Callable[[str], None],
) -> None:
    if popularity is None:
        popularity = ItemPopularity.count(train, recipe.popularity_periods, recipe.popularity_half_life)
    config = PopularityConfig(
        strength=recipe.popularity_strength,
        learn_strength=recipe.popularity == "learned",
        serving_strength=recipe.serving_popularity,
    )
    model.add_popularity_prior(config, **popularity.tensors())
    debiasing.event_columns["popularity_periods"] = popularity.periods_of(train.timestamps, len(train.items))
    periods = len(popularity.period_starts)
    debiasing.report["popularity_periods"] = periods
    say(
        f"Popularity prior over {periods} periods, γ {recipe.popularity} at {recipe.popularity_strength:g}."
        if periods
        else f"Popularity prior without times, γ {recipe.popularity} at {recipe.popularity_strength:g}."
    )


def _add_weights(
    debiasing: Debiasing,
    model: LLM4RecForCausalLM,
    data: PreparedData,
    split: Split,
    recipe: DebiasingRecipe,
    say: Callable[[str], None],
) -> None:
    train, cases = split.train, split.validation
    users = np.repeat(np.arange(train.num_users), train.lengths)
    if recipe.propensity == "given" and data.interactions.propensities is None:
        raise ValueError(
            "debiasing.propensity=given needs the column of logged propensities (`interactions.propensity` in "
            "schema.yaml), and the data has none. Prepare it again with one, or let propensities be estimated."
        )
    if recipe.propensity == "given":
        propensities = check_propensities(train.propensities, users, train.items)
        everything = data.interactions
        logged = GivenPropensities(
            np.repeat(np.arange(everything.num_users), everything.lengths), everything.items, everything.propensities
        )
        held_out = logged.fit(train).predict(cases.users, cases.targets)
    else:
        estimated = estimate_propensities(recipe.propensity, data, train)
        propensities = estimated.predict(users, train.items)
        held_out = estimated.predict(cases.users, cases.targets)
    found = diagnose(propensities, recipe.clip)
    weights = inverse_propensity_weights(propensities, recipe.clip).astype(np.float32)
    debiasing.event_columns["loss_weights"] = weights
    debiasing.validation_weights = inverse_propensity_weights(held_out, recipe.clip)
    debiasing.report["propensities"] = {"model": recipe.propensity} | found.to_dict()
    model.config.loss_weighting = recipe.weighting
    if recipe.weighting == "doubly_robust":
        model.set_imputed_targets(
            1.0 + np.bincount(train.items, weights, train.num_items)  # so that no item is impossible
        )
    say(
        f"Weights by {recipe.propensity} propensities ({recipe.weighting}): {found.effective_share:.0%} of the events "
        f"count effectively, the largest weight is {found.largest_weight:.1f}."
    )
    if found.advice is not None:
        say(f"Warning: {found.advice}")


def estimate_propensities(name: str, data: PreparedData, train: Interactions) -> PropensityModel:
    """A propensity model by its name in recipes, fitted on train events.

    Raises:
        ValueError: if nothing is known of users and items that a logistic regression could read.
    """
    arguments: dict[str, Any] = {}
    if name == "logistic":
        users, items = user_features(data), item_features(data)
        arguments = {"user_features": users, "item_features": items, "log_popularity": True}
        arguments["crosses"] = users is not None and items is not None
    return make_propensity(name, **arguments).fit(train)


def _add_adversary(
    debiasing: Debiasing,
    model: LLM4RecForCausalLM,
    data: PreparedData,
    recipe: DebiasingRecipe,
    say: Callable[[str], None],
) -> None:
    names = data.schema.users.sensitive if recipe.fairness_attributes is None else recipe.fairness_attributes
    if not names:
        raise ValueError(
            "debiasing.fairness_strength is above 0, but the data calls no user column sensitive. Name some in "
            "debiasing.fairness_attributes, or under users.sensitive of schema.yaml."
        )
    columns, sizes = [], []
    for name in names:
        if name not in data.users.columns:
            known = ", ".join(c for c in data.users.columns if c != "user_id") or "none"
            raise ValueError(f"debiasing.fairness_attributes names {name!r}; the users' columns are {known}.")
        labels, values = sensitive_labels(data, name)
        if len(values) < 2:
            raise ValueError(f"All users have the same {name!r}: there are no groups to make equal.")
        columns.append(labels)
        sizes.append(len(values))
        debiasing.report[f"groups/{name}"] = dict(zip(values, np.bincount(labels[labels >= 0]).tolist(), strict=True))
    model.add_fairness(FairnessConfig(list(names), sizes, recipe.fairness_strength, erase=recipe.fairness_erasure))
    debiasing.user_columns["sensitive_labels"] = np.stack(columns, axis=1)
    say(f"Adversary that guesses {', '.join(names)} from user states, λ = {recipe.fairness_strength:g}.")


def sensitive_labels(data: PreparedData, attribute: str) -> tuple[np.ndarray, list[str]]:
    """(users,) int64 which value of a user column each has, -1 where unknown; and the values."""
    groups = Groups.of(data.users[attribute])
    values = [name for name in groups.names if name != UNKNOWN]
    place = np.array([values.index(name) if name in values else -1 for name in groups.names], dtype=np.int64)
    return place[groups.codes], values
