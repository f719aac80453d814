"""`llm4rec info`: what a model folder or a prepared data set holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Console, JsonOption, plain, quiet_libraries
from .histories import RevisionOption

NAME = "info"


def command(
    path: Annotated[str, typer.Argument(help="Model folder, Hub id, or prepared data set.")],
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a model or a prepared data set holds."""
    console = Console(as_json)
    facts = _data_facts(Path(path)) if (Path(path) / "stats.json").is_file() else _model_facts(path, revision)
    shown = {name.replace("_", " "): words for name, value in facts.items() if (words := _words(name, value))}
    width = max(map(len, shown))
    for name, words in shown.items():
        console.say(f"{name.ljust(width)}  {words}")
    console.result(facts)


def _data_facts(folder: Path) -> dict[str, Any]:
    from ...configuration.schema import DataSchema
    from ..data.prepared import read_stats

    stats, schema = read_stats(folder), DataSchema.load(folder / "schema.yaml")
    return {
        "kind": "prepared data set",
        "item modalities": {name: m.kind for name, m in schema.items.modalities.items()},
        "user attributes": schema.users.attributes,
        "sensitive attributes": schema.users.sensitive,
        **stats,
    }


def _model_facts(name: str, revision: str | None) -> dict[str, Any]:
    quiet_libraries()
    from ..load import load_recommender

    model, processor = load_recommender(name, revision=revision)
    report = model.fusion_report()
    facts: dict[str, Any] = {
        "kind": "model",
        "backbone": f"{model.config.text_config.model_type}, width {model.config.text_config.hidden_size}, "
        f"{model.config.text_config.num_hidden_layers} layers",
        "pretrained backbone": model.config.backbone_name_or_path,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "items": model.num_items,
        "modalities": {m.name: m.kind for m in model.config.modalities},
        "mean weight of modalities": {modality: round(alpha, 3) for modality, alpha in report.alpha.items()},
        "text encoder": processor.items["text_encoder"],
        "events read": processor.max_history,
        "rating levels": processor.rating_levels,
        "reads times": processor.num_time_gaps > 0,
        "memory": None
        if model.memory is None
        else {name: f"{n:,} entries" for name, n in model.memory.sizes().items()},
        "popularity": None
        if model.model.popularity_prior is None
        else {
            "γ of training": round(float(model.model.popularity_prior.strength.detach()), 3),
            "γ′ of serving": model.config.popularity.serving_strength,
        },
        "bonus of new items": model.config.new_item_bonus,
        "states do not tell": [] if model.config.fairness is None else model.config.fairness.attributes,
        "format version": model.config.format_version,
    }
    training = Path(name) / "training.json"
    if training.is_file():
        facts |= _training_facts(training)
    return facts


def _training_facts(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {
            **{f"trained {key}": saved[key] for key in ("data", "epochs", "seconds")},
            "validation": {key: round(v, 4) for key, v in saved["validation"].items() if key.endswith("@10")},
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not the report of a training run ({type(error).__name__}: {error}). Remove it: the model does "
            "without."
        ) from error


def _words(name: str, value: Any) -> str:
    """A value for people to read; empty for counts of what did not happen, which only `--json` shows."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if not value:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{plain(key)}: {_words('', entry) or entry}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(_words("", entry) or str(entry) for entry in value)
    if name in ("min_time", "max_time"):
        return _date(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else plain(value)


def _date(seconds: float) -> str:
    from datetime import datetime, timedelta, timezone

    try:
        return f"{datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds):%Y-%m-%d %H:%M} UTC"
    except OverflowError:
        return f"{seconds:,} (unix seconds)"
