"""The models of a sweep: one training run per variant of a recipe, kept, so that an interrupted sweep goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from ...configuration.recipe import Recipe
from ...modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ..data.prepared import PreparedData
from ..data.splits import Split
from ..load import RECIPE_FILE, load_recommender
from ..run_folder import check_same_recipe, last_checkpoint
from ..train import CHECKPOINTS, REPORT_FILE, train, with_absolute_paths

MODELS = "models"
"""Folder, inside that of the sweep, where its models are kept."""


def trained_variant(
    data: PreparedData,
    recipe: Recipe,
    overrides: dict[str, object],
    folder: Path,
    say: Callable[[str], None] = print,
    progress: bool = True,
    split: Split | None = None,
) -> tuple[LLM4RecForCausalLM, LLM4RecProcessor]:
    """A model of the recipe with some fields changed: trained now, from its last checkpoint, or earlier.

    Args:
        overrides: `section.field` to value.
        folder: of this model.
        split: learn from this split of the data in place of the recipe's.

    Raises:
        ValueError: if `folder` holds a model of another recipe.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint saved.
    """
    variant = with_absolute_paths(changed(recipe, overrides))
    if (folder / REPORT_FILE).is_file():
        check_same_recipe(Recipe.load(folder / RECIPE_FILE), variant)
        say(f"{folder.name}: trained earlier.")
    else:
        resume = last_checkpoint(folder / CHECKPOINTS) is not None
        report = train(data, variant, folder, resume=resume, split=split, say=say, progress=progress)
        if report.interrupted:
            raise KeyboardInterrupt
    return load_recommender(folder)


def read_report(folder: Path) -> dict[str, Any]:
    """What the training run of a model reported."""
    return json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))


def changed(recipe: Recipe, overrides: dict[str, object]) -> Recipe:
    """A copy of the recipe with `section.field` set to values.

    Raises:
        ValueError: for a value of the wrong type or outside its range.
    """
    recipe = deepcopy(recipe)
    for name, value in overrides.items():
        section, _, entry = name.partition(".")
        setattr(getattr(recipe, section), entry, value)
    return Recipe.from_values(recipe.to_dict())
