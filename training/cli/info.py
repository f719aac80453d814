"""`llm4rec info`: what a model folder or a prepared data set holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Console, JsonOption, quiet_libraries

NAME = "info"


def command(
    path: Annotated[str, typer.Argument(help="Model folder, Hub id, or prepared data set.")],
    as_json: JsonOption = False,
) -> None:
    """Say what a model or a prepared data set holds."""
    console = Console(as_json)
    facts = _data_facts(Path(path)) if (Path(path) / "stats.json").is_file() else _model_facts(path)
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        console.say(f"{name.ljust(width)}  {_words(value)}")
    console.result(facts)


def _data_facts(folder: Path) -> dict[str, Any]:
    from ...configuration.schema import DataSchema

    schema = DataSchema.load(folder / "schema.yaml")
    stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
    return {
        "kind": "prepared data set",
        "item modalities": {name: m.kind for name, m in schema.items.modalities.items()},
        "user attributes": schema.users.attributes,
        "sensitive attributes": schema.users.sensitive,
        **stats,
    }


def _model_facts(name: str) -> dict[str, Any]:
    quiet_libraries()
    from ..evaluate import load_recommender

    model, processor = load_recommender(name)
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
        "format version": model.config.format_version,
    }
    training = Path(name) / "training.json"
    if training.is_file():
        saved = json.loads(training.read_text(encoding="utf-8"))
        facts |= {f"trained {key}": saved[key] for key in ("data", "epochs", "seconds")}
        facts["validation"] = {
            key: round(value, 4) for key, value in saved["validation"].items() if key.endswith("@10")
        }
    return facts


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_words(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value is None else str(value)
