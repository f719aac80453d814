"""The model card of a trained recommender, from the template `model_card.md`.

Written into the model folder as `README.md` by `training/train.py`, which the Hub shows. Results of `llm4rec evaluate`
take the place of those on validation (`training/card_results.py`).
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..configuration.recipe import Recipe
from ..modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor
from ..modeling_llm4rec.text_encoding import HASHING
from .card_results import BEGIN, END
from .data.terms import terms_of
from .energy import EnergyEstimate, energy_here
from .evaluation.report import machine_description

TEMPLATE = Path(__file__).parent.parent / "model_card.md"
SHOWN = ("hr@10", "ndcg@10", "mrr@10", "coverage@10")


def write_model_card(
    folder: Path,
    model: LLM4RecForCausalLM,
    processor: LLM4RecProcessor,
    recipe: Recipe,
    training: dict[str, Any],
) -> None:
    """Write `README.md` into a model folder.

    Args:
        training: what `training.json` holds: `data epochs seconds trained_parameters validation`.
    """
    validation = training["validation"]
    results = [
        {"name": name.upper(), **{p: f"{validation[f'{p}/{name}']:.4f}" for p in ("filtered", "unfiltered")}}
        for name in SHOWN
        if f"filtered/{name}" in validation
    ]
    text_config = model.config.text_config
    found = training.get("retrieval")
    kinds = ", ".join(f"`{m.name}` ({m.kind})" if m.name != m.kind else f"`{m.name}`" for m in model.config.modalities)
    energy = energy_here(training["seconds"])
    machine = machine_description()
    terms = terms_of(training["data"])
    metadata = {} if energy is None else {"co2_eq_emissions": _emissions(energy, machine, recipe)}
    card = ModelCard.from_template(
        ModelCardData(
            library_name="llm4rec",
            tags=["llm4rec", "recommendation", "sequential-recommendation"],
            base_model=_hub_id(model.config.backbone_name_or_path),
            **metadata,
        ),
        template_path=str(TEMPLATE),
        name=folder.name,
        items=f"{model.num_items:,}",
        backbone=f"{text_config.model_type}, {text_config.num_hidden_layers}-layer,",
        example_history=", ".join(_python_string(item_id) for item_id in processor.catalog.item_ids[:2]),
        example_option=shlex.quote(",".join(processor.catalog.item_ids[:2])).replace("`", ""),
        modalities=kinds,
        text_encoder=_text_encoder(processor.items["text_encoder"]),
        max_history=processor.max_history,
        memory=None if found is None else ", ".join(f"{count:,} {name}" for name, count in found["entries"].items()),
        with_memory=None if found is None else _with_memory(found["metrics"]),
        corrections=_corrections(model, training.get("debiasing", {})),
        new_item_bonus=f"{model.config.new_item_bonus:+g}" if model.config.new_item_bonus else None,
        ratings=bool(processor.rating_levels),
        times=processor.num_time_gaps > 0,
        parameters=f"{training['trained_parameters']:,}",
        epochs=f"{training['epochs']:.0f}",
        seconds=f"{training['seconds']:,.0f}",
        machine=machine,
        energy=None if energy is None else f"{energy.kwh:.2g} kWh, {energy.grams:.2g} g of CO₂",
        assumptions=None if energy is None else energy.assumptions,
        terms=None if terms is None else terms.sentence,
        first_title=_python_string(processor.catalog.title(0)),
        begin=BEGIN,
        end=END,
        dataset=training["data"] or "own data",
        split=recipe.data.split,
        seed=recipe.training.seed,
        results=results,
    )
    card.save(folder / "README.md")


def _emissions(energy: EnergyEstimate, machine: str, recipe: Recipe) -> dict[str, Any]:
    """What the Hub shows of a model's carbon."""
    return {
        "emissions": round(energy.grams, 3),
        "source": f"estimated: {energy.assumptions}",
        "training_type": "fine-tuning" if recipe.model.backbone else "pre-training",
        "hardware_used": machine,
    }


def _python_string(text: str) -> str:
    """Text that anybody may have written, as it stands in Python code inside Markdown."""
    return ascii(text[:60]).replace("`", "\\x60").replace("<", "\\x3c")


def _corrections(model: LLM4RecForCausalLM, report: dict[str, Any]) -> list[str]:
    """What training corrected its log for, a sentence or two each."""
    found, prior, eraser = [], model.model.popularity_prior, model.config.fairness
    if prior is not None:
        found.append(
            f"Popularity was in the softmax of training with weight γ = {float(prior.strength.detach()):.2f}; in "
            f"recommendations its weight γ′ is {model.config.popularity.serving_strength:g} unless a request says "
            "otherwise (`recommend(…, popularity=…)`)."
        )
    weights = report.get("propensities")
    if weights is not None:
        found.append(
            f"Events were weighted by inverse propensity ({weights['model']}), which left "
            f"{weights['effective_share']:.0%} of them effective. Nobody can verify propensities that were not logged."
        )
    if eraser is not None:
        found.append(
            f"User states were trained not to tell {', '.join(eraser.attributes)}. Measure what is left with "
            "`llm4rec experiment fairness-sweep`."
        )
    return found


def _with_memory(metrics: dict[str, float]) -> dict[str, str]:
    """NDCG@10 of held-out events, as the card shows it."""
    shown = {"filtered": "filtered/ndcg@10", "unfiltered": "unfiltered/ndcg@10", "off": "off/filtered/ndcg@10"}
    return {name: f"{metrics[metric]:.4f}" for name, metric in shown.items()}


def _text_encoder(name: str | None) -> str | None:
    if name == HASHING:
        return "hashed words and an SVD fitted on the catalog"
    # A local folder means nothing to a reader elsewhere, and says more of the author's disk than it should.
    return name if name is None or not Path(name).exists() else Path(name).name


def _hub_id(name: str | None) -> str | None:
    return None if name is None or Path(name).exists() else name
