"""Recipes: everything that decides a training run, as typed dataclasses that read and write YAML.

`llm4rec train DATA --recipe NAME --set training.epochs=5` starts from a file in `configuration/recipes/` (or your own)
and changes single fields; the recipe that was run is saved beside the model.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from .typed_yaml import from_values, parse_yaml, read_yaml

# Lowest value, whether it is itself allowed, and the value that all must stay below.
_RANGES: dict[str, tuple[float, bool, float | None]] = {
    "data.min_events": (3, True, None),
    "data.max_history": (1, True, None),
    "data.words_per_text": (0, True, None),
    "model.fusion_width": (1, True, None),
    "model.fusion_heads": (1, True, None),
    "model.fusion_dropout": (0, True, 1),
    "model.id_dropout": (0, True, 1),
    "model.event_dropout": (0, True, 1),
    "model.num_negatives": (0, True, None),
    "model.label_smoothing": (0, True, 1),
    "model.lora.rank": (0, True, None),
    "model.lora.alpha": (1, True, None),
    "model.lora.dropout": (0, True, 1),
    "retrieval.neighbours": (1, True, None),
    "retrieval.time_decay": (0, True, None),
    "retrieval.credibility_weight": (0, True, None),
    "retrieval.behaviour_entries": (0, True, None),
    "retrieval.fit_cases": (1, True, None),
    "retrieval.fit_epochs": (1, True, None),
    "debiasing.clip": (1, True, None),
    "debiasing.popularity_periods": (0, True, None),
    "debiasing.popularity_half_life": (0, False, None),
    "debiasing.fairness_strength": (0, True, None),
    "debiasing.fairness_warmup": (0, True, None),
    "training.epochs": (0, False, None),
    "training.batch_size": (1, True, None),
    "training.learning_rate": (0, False, None),
    "training.weight_decay": (0, True, None),
    "training.warmup_steps": (0, True, None),
    "training.max_grad_norm": (0, True, None),
    "training.patience": (0, True, None),
    "training.average_epochs": (0, True, None),
    "training.evaluate_every": (1, True, None),
    "training.max_validation_users": (1, True, None),
    "training.seed": (0, True, None),
}

RECIPE_FOLDER = Path(__file__).parent / "recipes"


@dataclass
class DataRecipe:
    """What of the prepared data the model reads."""

    split: Literal["leave_one_out", "global_time"] = field(
        default="leave_one_out", metadata={"help": "how validation and test events are held out"}
    )
    min_events: int = field(default=3, metadata={"help": "events a user needs to be evaluated (leave_one_out), >= 3"})
    modalities: list[str] | None = field(
        default=None, metadata={"help": "item columns to read; null: all of schema.yaml; []: item ids only"}
    )
    item_ids: bool = field(
        default=True, metadata={"help": "give each item an embedding of its own beside its content"}
    )
    text_encoder: str = field(
        default="hashing", metadata={"help": "'hashing' (no download), or a sentence-transformers id or folder"}
    )
    words_per_text: int = field(
        default=0, metadata={"help": "words of a text that get embeddings of their own; 0: the encoder's vector only"}
    )
    max_history: int = field(default=50, metadata={"help": "latest events of a history that the model reads, >= 1"})
    windows: Literal["all", "last"] = field(
        default="all", metadata={"help": "train on every window of max_history events, or on each user's last only"}
    )
    ratings: bool = field(default=True, metadata={"help": "feed the ratings of past events, where the data has them"})
    times: bool = field(default=True, metadata={"help": "feed the time gaps of past events, where the data has them"})


@dataclass
class LoraRecipe:
    """Low-rank adaptation of a pretrained backbone (peft)."""

    rank: int = field(default=16, metadata={"help": "rank of the update; 0: no LoRA, train all weights"})
    alpha: int = field(default=32, metadata={"help": "scale of the update: alpha / rank"})
    dropout: float = field(default=0.05, metadata={"help": "dropout on the adapter's input, in [0, 1)"})
    target_modules: list[str] | None = field(
        default=None, metadata={"help": "backbone layers that get an adapter; null: all linear layers"}
    )
    quantize_4bit: bool = field(default=False, metadata={"help": "QLoRA: backbone in 4 bit (bitsandbytes and a GPU)"})
    merge: bool = field(default=False, metadata={"help": "save the merged model instead of an adapter on its base"})


@dataclass
class ModelRecipe:
    """The backbone and the fusion head; see `LLM4RecConfig` for the fields of the same name."""

    start_from: str | None = field(
        default=None, metadata={"help": "trained recommender, folder or Hub id, to go on from; its architecture holds"}
    )
    backbone: str | None = field(
        default=None,
        metadata={"help": "pretrained causal LM by Hub id or folder; null: train text_config from scratch"},
    )
    text_config: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "architecture of a backbone trained from scratch (any transformers one)"},
    )
    dtype: str = field(default="float32", metadata={"help": "dtype of a pretrained backbone: float32, bfloat16, auto"})
    attention: str | None = field(
        default=None, metadata={"help": "attention implementation: sdpa, flash_attention_2, eager; null: the default"}
    )
    fusion_width: int | None = field(default=None, metadata={"help": "width of modality tokens; null: hidden size"})
    fusion_heads: int = field(default=2, metadata={"help": "heads of the cross-modal attention"})
    fusion_dropout: float = field(default=0.0, metadata={"help": "dropout on modality tokens, in [0, 1)"})
    id_dropout: float = field(
        default=0.1,
        metadata={"help": "share of items whose id is hidden per step, in [0, 1); 0: new items are ranked too high"},
    )
    event_dropout: float = field(default=0.0, metadata={"help": "dropout on event embeddings, in [0, 1)"})
    new_item_bonus: float = field(
        default=0.0, metadata={"help": "added to scores of items without train events; `experiment new-items-sweep`"}
    )
    repeat_bias: bool = field(default=True, metadata={"help": "learn whether people come back to items they had"})
    num_negatives: int = field(default=0, metadata={"help": "sampled softmax with this many negatives; 0: full"})
    label_smoothing: float = field(default=0.0, metadata={"help": "label smoothing of the item softmax, in [0, 1)"})
    lora: LoraRecipe = field(default_factory=LoraRecipe, metadata={"help": "only with a pretrained backbone"})


@dataclass
class RetrievalRecipe:
    """A memory beside the weights, built after training; see `RetrievalConfig` for the fields of the same name."""

    enabled: bool = field(default=False, metadata={"help": "build a memory, and learn how far to listen to it"})
    sources: list[str] | None = field(
        default=None, metadata={"help": "of transitions, behaviour, metadata; null: all"}
    )
    neighbours: int = field(default=100, metadata={"help": "items that each source finds for a user, K"})
    time_decay: float = field(default=0.0, metadata={"help": "decay of entries per day; 0: none"})
    credibility_weight: float = field(default=1.0, metadata={"help": "exponent of credibility; 0: it does not count"})
    behaviour_entries: int = field(default=200_000, metadata={"help": "latest events that behaviour keeps"})
    fit_on: Literal["validation", "train"] = field(
        default="validation",
        metadata={
            "help": "events that teach the adapter; of train, what a user added to the memory is hidden from him"
        },
    )
    fit_cases: int = field(default=50_000, metadata={"help": "events that the adapter learns from at most"})
    fit_epochs: int = field(default=12, metadata={"help": "passes over them, at least 300 steps"})


@dataclass
class DebiasingRecipe:
    """What training corrects the log for: popularity, how events came to be observed, sensitive attributes.

    With an adversary the last epoch is kept, not that of the best accuracy, and training does not stop early.
    """

    popularity: Literal["none", "fixed", "learned"] = field(
        default="none", metadata={"help": "prior on popular items in the softmax: γ·log popularity at the time"}
    )
    popularity_strength: float = field(default=1.0, metadata={"help": "γ; where it is learned, its first value"})
    serving_popularity: float = field(
        default=0.0, metadata={"help": "γ′ of recommendations unless a request says otherwise; 0: as if do(item)"}
    )
    popularity_periods: int = field(
        default=12, metadata={"help": "stretches of time with a popularity of their own; 0: one for all times"}
    )
    popularity_half_life: float | None = field(
        default=None, metadata={"help": "days after which an event counts half in popularity; null: never"}
    )
    weighting: Literal["none", "ips", "snips", "doubly_robust"] = field(
        default="none", metadata={"help": "weight events by inverse propensity"}
    )
    propensity: Literal["popularity", "logistic", "factorisation", "given"] = field(
        default="popularity", metadata={"help": "how propensities are estimated; given: the data's column"}
    )
    clip: float | None = field(
        default=10.0, metadata={"help": "largest weight, in units of the mean weight; null: no limit"}
    )
    fairness_strength: float = field(
        default=0.0, metadata={"help": "λ of the adversary that guesses sensitive attributes; 0: no adversary"}
    )
    fairness_attributes: list[str] | None = field(
        default=None,
        metadata={"help": "user columns that states shall not tell; null: all that the data calls sensitive"},
    )
    fairness_erasure: bool = field(
        default=True, metadata={"help": "with an adversary, also project away what states tell linearly"}
    )
    fairness_warmup: float = field(default=1.0, metadata={"help": "epochs in which λ grows to its value"})


@dataclass
class TrainingRecipe:
    """Optimisation; anything else that TRL's SFTConfig takes goes into `arguments`."""

    epochs: float = field(default=50.0, metadata={"help": "passes over the data at most"})
    batch_size: int = field(default=128, metadata={"help": "histories per step and device"})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate of AdamW"})
    weight_decay: float = field(default=0.1, metadata={"help": "decoupled weight decay"})
    warmup_steps: int = field(default=0, metadata={"help": "steps of linear warm-up"})
    lr_scheduler: str = field(default="constant", metadata={"help": "constant, linear, cosine, … of transformers"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "gradient clipping; 0: none"})
    patience: int = field(
        default=5, metadata={"help": "evaluations without a better NDCG@10 before stopping; 0: never"}
    )
    average_epochs: float = field(
        default=3.0, metadata={"help": "epochs that the average of the weights, which is kept, looks back on; 0: none"}
    )
    evaluate_every: int = field(default=1, metadata={"help": "epochs between validations"})
    max_validation_users: int | None = field(
        default=None, metadata={"help": "validate on this many users drawn by the seed; null: on all"}
    )
    seed: int = field(default=0, metadata={"help": "of weights, dropout, negatives and batches"})
    precision: Literal["auto", "float32", "bfloat16"] = field(
        default="auto",
        metadata={"help": "auto: bfloat16 autocast where the GPU or CPU multiplies it natively, else float32"},
    )
    gradient_checkpointing: bool = field(default=False, metadata={"help": "less memory for about a third more time"})
    report_to: list[str] = field(default_factory=list, metadata={"help": "tensorboard, wandb, trackio, …"})
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"help": "further fields of trl.SFTConfig"})


@dataclass
class Recipe:
    """A training run."""

    data: DataRecipe = field(default_factory=DataRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    retrieval: RetrievalRecipe = field(default_factory=RetrievalRecipe)
    debiasing: DebiasingRecipe = field(default_factory=DebiasingRecipe)

    @classmethod
    def load(cls, name_or_path: str | Path, overrides: list[str] | None = None) -> Recipe:
        """Read a recipe by name (of `configuration/recipes/`) or path, then apply `section.field=value` overrides.

        Raises:
            FileNotFoundError: if there is no such recipe; names those there are.
            ValueError: for an unknown key or a value of the wrong type.
        """
        path = Path(name_or_path)
        if path.suffix not in {".yaml", ".yml"}:
            path = RECIPE_FOLDER / f"{name_or_path}.yaml"
        if not path.is_file():
            raise FileNotFoundError(
                f"Recipe {str(name_or_path)!r} not found. Built in are {', '.join(recipe_names())}; or give the path "
                "of a .yaml file."
            )
        return cls.from_values(read_yaml(path) or {}, overrides, path.name)

    @classmethod
    def from_values(cls, values: dict[str, Any], overrides: list[str] | None = None, source: str = "") -> Recipe:
        """From plain values, then `section.field=value` overrides.

        Args:
            source: named in errors about the values.

        Raises:
            ValueError: for an unknown key or a value of the wrong type.
        """
        recipe = from_values(cls, values, source)
        for override in overrides or []:
            _apply(values, override)
        if overrides:
            recipe = from_values(cls, values, "")
        recipe.check()
        return recipe

    def check(self) -> None:
        """Raise `ValueError` for a number outside its range, or two fields that exclude each other."""
        for name, _, value, _ in _fields_of(self, ""):
            lowest, allowed, limit = _RANGES.get(name, (None, True, None))
            if value is None or lowest is None:
                continue
            if value < lowest or (value == lowest and not allowed) or (limit is not None and value >= limit):
                above = f"at least {lowest}" if allowed else f"more than {lowest}"
                below = "" if limit is None else f" and less than {limit}"
                raise ValueError(f"{name} is {value}, expected {above}{below}.")
        if self.debiasing.weighting == "doubly_robust" and self.model.label_smoothing:
            raise ValueError(
                "debiasing.weighting=doubly_robust and model.label_smoothing both fill in targets: take snips, or set "
                "model.label_smoothing=0."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values of all fields."""
        return asdict(self)

    def values(self) -> dict[str, Any]:
        """All fields by dotted name, as in `training.epochs`."""
        return {name: value for name, _, value, _ in _fields_of(self, "")}

    def save(self, path: str | Path) -> None:
        """Write the recipe as YAML."""
        Path(path).write_text(yaml.safe_dump(self.to_dict(), sort_keys=False), encoding="utf-8")


def recipe_names() -> list[str]:
    """Names of the built-in recipes."""
    return sorted(path.stem for path in RECIPE_FOLDER.glob("*.yaml"))


def recipe_fields() -> list[tuple[str, str, Any, str]]:
    """All fields of a recipe as (dotted name, type, default, help), for `llm4rec train --fields`."""
    return list(_fields_of(Recipe(), ""))


def _fields_of(section: Any, prefix: str) -> Any:
    for entry in fields(section):
        value, name = getattr(section, entry.name), f"{prefix}{entry.name}"
        if is_dataclass(value):
            yield from _fields_of(value, f"{name}.")
        else:
            yield name, str(entry.type), value, entry.metadata["help"]


def _apply(values: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    if not separator:
        raise ValueError(f"Override {override!r} is not of the form section.field=value, such as training.epochs=5.")
    *sections, last = name.strip().split(".")
    known = [field_name for field_name, *_ in recipe_fields()]
    free = [known_name for known_name in known if name.startswith(f"{known_name}.")]
    if name not in known and not free:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ValueError(f"Unknown recipe field {name!r}; did you mean {near!r}? `llm4rec train --fields` lists all.")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
    values[last] = parse_yaml(text, f"The value of {override!r}")
