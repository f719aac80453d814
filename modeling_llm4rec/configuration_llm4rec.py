"""Configuration of an LLM4Rec model: the backbone, the item modalities, the fusion head, the loss.

Read by every module of this folder; written beside the weights as `config.json`.
"""

import copy
import difflib
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

FORMAT_VERSION = 1
"""Version of the checkpoint format. Raised when an older library could not read a newer checkpoint."""


class NewerFormatError(ValueError):
    """A checkpoint was written by a later version of this library than the one that reads it."""


RETRIEVAL_SOURCES = ("transitions", "behaviour", "metadata")
"""What a memory can hold, see [`RetrievalConfig`]."""

PIPELINES = {
    "recommendation": {"impl": "recommendation_pipeline.RecommendationPipeline", "pt": ["AutoModelForCausalLM"]}
}
"""Pipelines whose code a checkpoint of a recommender carries, as transformers reads them from `config.json`."""

_SMALL_DECODER = {
    "model_type": "gpt_neox",
    "vocab_size": 260,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "hidden_dropout": 0.5,
    "attention_dropout": 0.0,
    "use_parallel_residual": False,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
}

# Keyword arguments that transformers itself passes or saves without a dataclass field of their own.
_TRANSFORMERS_KEYS = {
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "experts_implementation",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "per_layer_config",
    "quantization_config",
    "torch_dtype",
    "use_cache",
}


@strict
@dataclass
class ModalityConfig:
    """One modality of the items: what the fusion head reads and in which shape it is stored.

    Args:
        name: the modality's name, as shown in explanations; for all kinds but `id` the catalog column it comes from.
        kind: `id` (a free embedding per item), `text` (vector of a text encoder), `categorical` (set of values),
            `numerical` (one standardised number), `vector` (given embedding) or `words` (set of a text's words, each
            with an embedding that is trained).
        num_embeddings: for `id` the number of items with an embedding of their own; for `categorical` and `words` the
            number of distinct values plus one (0 stands for "no value").
        feature_size: for `text` and `vector`, the length of the stored vector.
        max_values: for `categorical` and `words`, how many values an item can hold.
    """

    name: str
    kind: Literal["id", "text", "categorical", "numerical", "vector", "words"]
    num_embeddings: int = 0
    feature_size: int = 0
    max_values: int = 0


@strict
@dataclass
class RetrievalConfig:
    """What a recommender's memory holds, and how it is searched.

    Args:
        sources: of `transitions`, `behaviour`, `metadata`.
        neighbours: items that each source finds for a user, K.
        entries: entries that a search by vector looks at before those of one item are put together.
        history: latest events of a history that are looked up.
        recency: weight of an event relative to the one after it, in (0, 1].
        window: longest distance of a transition, in events.
        temperature: of the likeness of key vectors; smaller: only the nearest count.
        time_decay: λ of the decay of entries, per day; 0: none.
        credibility_weight: exponent of an entry's credibility; 0: it does not count.
        attention_width, gate_width: inner widths of the adapter.
        gate_dropout: dropout in the adapter's gate.
        has_memory: whether a memory lies beside the weights.
    """

    sources: list = field(default_factory=lambda: list(RETRIEVAL_SOURCES))
    neighbours: int = 100
    entries: int = 200
    history: int = 20
    recency: float = 0.7
    window: int = 5
    temperature: float = 0.1
    time_decay: float = 0.0
    credibility_weight: float = 1.0
    attention_width: int = 32
    gate_width: int = 32
    gate_dropout: float = 0.3
    has_memory: bool = False

    def validate_retrieval(self) -> None:
        """Sources are known and named once, numbers lie in their ranges."""
        unknown = [name for name in self.sources if name not in RETRIEVAL_SOURCES]
        if unknown or not self.sources or len(set(self.sources)) < len(self.sources):
            raise ValueError(
                f"retrieval.sources is {self.sources}, expected some of {list(RETRIEVAL_SOURCES)}, once each."
            )
        for name in ("neighbours", "entries", "history", "window", "attention_width", "gate_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"retrieval.{name} is {getattr(self, name)}, expected at least 1.")
        for name in ("time_decay", "credibility_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"retrieval.{name} is {getattr(self, name)}, expected 0 or more.")
        if not 0 < self.recency <= 1:
            raise ValueError(f"retrieval.recency is {self.recency}, expected a number in (0, 1].")
        if self.temperature <= 0:
            raise ValueError(f"retrieval.temperature is {self.temperature}, expected more than 0.")
        if not 0 <= self.gate_dropout < 1:
            raise ValueError(f"retrieval.gate_dropout is {self.gate_dropout}, expected a number in [0, 1).")


@strict
@dataclass
class PopularityConfig:
    """The prior on popular items, see [`PopularityPrior`].

    Args:
        strength: γ, weight of log popularity in the softmax while training; its first value where it is learned.
        learn_strength: whether training moves γ.
        serving_strength: γ′, weight of log popularity in recommendations; 0 takes popularity out.
        periods: stretches of time with a popularity of their own; 0: one popularity for all times.
    """

    strength: float = 1.0
    learn_strength: bool = True
    serving_strength: float = 0.0
    periods: int = 0

    def validate_popularity(self) -> None:
        """Numbers are finite, the number of periods is not negative."""
        for name in ("strength", "serving_strength"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"popularity.{name} is {getattr(self, name)}, expected a finite number.")
        if self.periods < 0:
            raise ValueError(f"popularity.periods is {self.periods}, expected 0 or more.")


@strict
@dataclass
class FairnessConfig:
    """What keeps sensitive attributes out of user states: [`SensitiveAttributeAdversary`] and [`StateEraser`].

    Args:
        attributes: names of the sensitive attributes.
        sizes: number of values of each.
        strength: λ, weight of the adversary's reversed gradient.
        adversary_width: inner width of its classifiers.
        adversary: whether the model has an adversary; a finished one has none.
        erase: whether the model has an eraser.
    """

    attributes: list
    sizes: list
    strength: float = 1.0
    adversary_width: int = 64
    adversary: bool = True
    erase: bool = False

    def validate_fairness(self) -> None:
        """Every attribute has a size of at least 2, λ is not negative."""
        if not self.attributes or len(self.attributes) != len(self.sizes) or min(self.sizes) < 2:
            raise ValueError(
                f"fairness has attributes {self.attributes} of sizes {self.sizes}, expected a size of at least 2 each."
            )
        if self.strength < 0 or self.adversary_width < 1:
            raise ValueError(
                f"fairness.strength is {self.strength} and adversary_width {self.adversary_width}, expected at least "
                "0 and 1."
            )


@strict
@dataclass
class RelevanceConfig:
    """What [`LLM4RecForRelevance`] knows about users beside their ratings, and its capacity.

    Args:
        user_attributes: names of the attributes of users.
        user_attribute_sizes: number of values of each; value 0 of an attribute stands for "unknown" and comes on top.
        members: heads, each on its own slice of the item vectors, whose log-odds are averaged; divides their width.
        attention_heads: of the attention of a candidate to the history, in every member.
        dropout: on the taste of a user, in [0, 1).
        known_rating_weight: how far the prediction for an item that the user has rated before moves to that rating,
            in [0, 1]; 0: not at all. A log in which everything is rated once cannot tell it; the default is a choice,
            not a measurement.
    """

    user_attributes: list = field(default_factory=list)
    user_attribute_sizes: list = field(default_factory=list)
    members: int = 1
    attention_heads: int = 1
    dropout: float = 0.2
    known_rating_weight: float = 0.7

    def validate_relevance(self) -> None:
        """Every attribute has a size, numbers lie in their ranges."""
        if len(self.user_attributes) != len(self.user_attribute_sizes) or min([1, *self.user_attribute_sizes]) < 1:
            raise ValueError(
                f"relevance has user_attributes {self.user_attributes} of sizes {self.user_attribute_sizes}, expected "
                "a size of at least 1 each."
            )
        for name, least in (("members", 1), ("attention_heads", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"relevance.{name} is {getattr(self, name)}, expected at least {least}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"relevance.dropout is {self.dropout}, expected a number in [0, 1).")
        if not 0 <= self.known_rating_weight <= 1:
            raise ValueError(
                f"relevance.known_rating_weight is {self.known_rating_weight}, expected a number in [0, 1]."
            )


@strict
class LLM4RecConfig(PreTrainedConfig):
    r"""Configuration of [`LLM4RecModel`] and [`LLM4RecForCausalLM`].

    > Parameters that describe the backbone

    Args:
        text_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of any causal language model of transformers; a dict is resolved by its `model_type`.
            Defaults to a one-block GPT-NeoX decoder of width 128 that trains on a CPU in minutes.
        backbone_name_or_path (`str`, *optional*):
            Where pretrained backbone weights came from; a saved adapter is loaded on top of them.
        lm_head_bias (`bool`): whether the backbone's head over text tokens has a bias.

    > Parameters that describe the items

        modalities (`list[ModalityConfig]` or `list[dict]`, *optional*): see [`ModalityConfig`].
        num_items (`int`): size of the catalog. Token id `text_config.vocab_size + i` is item `i`.

    > Parameters that control the fusion head

        fusion_width (`int`, *optional*): width of modality tokens; defaults to the backbone's hidden size.
        fusion_heads (`int`): heads of the cross-modal attention.
        fusion_dropout (`float`): dropout on modality tokens.
        id_dropout (`float`): share of items, drawn anew each step, whose `id` modality is hidden in training, so that
            content alone must carry them.
        initializer_range (`float`): standard deviation of freshly drawn weights.

    > Parameters that describe events

        rating_levels (`list[float]`): ratings that get an embedding, ascending; empty: events have no rating.
        num_time_gaps (`int`): log2 buckets of the seconds since the previous event; 0: events have no time.
        event_dropout (`float`): dropout on event embeddings before the backbone, for backbones without their own.
        repeat_bias (`bool`): learn how much more or less likely an item is because it stands in the history.

    > Parameters that control retrieval

        retrieval (`RetrievalConfig` or `dict`, *optional*): see [`RetrievalConfig`]; `None`: no memory.

    > Parameters that control debiasing

        popularity (`PopularityConfig` or `dict`, *optional*): see [`PopularityConfig`]; `None`: no prior.
        fairness (`FairnessConfig` or `dict`, *optional*): see [`FairnessConfig`]; `None`: no adversary.
        loss_weighting (`str`): what is done with the `loss_weights` of a batch, one of `LOSS_WEIGHTINGS`.

    > Parameters that control the prediction of ratings

        relevance (`RelevanceConfig` or `dict`, *optional*): see [`RelevanceConfig`]; needed by
            [`LLM4RecForRelevance`], which also needs two or more `rating_levels`.

    > Parameters that control serving

        max_exact_items (`int`): above this catalog size `recommend` finds candidates by an approximate index, where
            faiss is installed, instead of scoring every item.
        new_item_bonus (`float`): added to the scores (log-odds) of items without an id embedding of their own, which
            are those that training saw no event of: above 0 they are recommended more, below 0 less. Where
            candidates come from the approximate index, it is added to theirs.

    > Parameters that control the loss

        num_negatives (`int`): items drawn per step for the sampled softmax; 0: softmax over the whole catalog.
        max_full_softmax_items (`int`): above this catalog size `num_negatives=0` is an error instead of a slow step.
        label_smoothing (`float`): share of the target's probability spread over the other candidates.
    """

    model_type = "llm4rec"
    sub_configs = {"text_config": AutoConfig}
    keys_to_ignore_at_inference = ["past_key_values"]

    text_config: dict | PreTrainedConfig | None = None
    backbone_name_or_path: str | None = None
    modalities: list | None = None
    num_items: int = 0
    fusion_width: int | None = None
    fusion_heads: int = 2
    fusion_dropout: float = 0.0
    id_dropout: float = 0.0
    initializer_range: float = 0.02
    rating_levels: list | None = None
    num_time_gaps: int = 0
    event_dropout: float = 0.0
    repeat_bias: bool = True
    retrieval: dict | RetrievalConfig | None = None
    popularity: dict | PopularityConfig | None = None
    fairness: dict | FairnessConfig | None = None
    loss_weighting: Literal["none", "ips", "snips", "doubly_robust"] = "none"
    relevance: dict | RelevanceConfig | None = None
    max_exact_items: int = 200_000
    new_item_bonus: float = 0.0
    num_negatives: int = 0
    max_full_softmax_items: int = 50_000
    label_smoothing: float = 0.0
    tie_word_embeddings: bool = True
    lm_head_bias: bool = False
    format_version: int = FORMAT_VERSION

    def __post_init__(self, **kwargs: Any) -> None:
        self._reject_what_is_unknown(kwargs)
        if not __name__.startswith("transformers_modules."):
            # This package brings the pipeline; transformers would ask to run the one that the checkpoint carries.
            kwargs.pop("custom_pipelines", None)
        if not isinstance(self.text_config, PreTrainedConfig):
            values = dict(_SMALL_DECODER if self.text_config is None else self.text_config)
            self.text_config = AutoConfig.for_model(values.pop("model_type", _SMALL_DECODER["model_type"]), **values)
        modalities = self.modalities if self.modalities is not None else [{"name": "id", "kind": "id"}]
        self.modalities = [
            replace(m) if isinstance(m, ModalityConfig) else _section(ModalityConfig, m, "A modality")
            for m in modalities
        ]
        for modality in self.modalities:
            if modality.kind == "id" and modality.num_embeddings == 0:
                modality.num_embeddings = self.num_items
        for name, kind in _SECTIONS.items():
            if isinstance(getattr(self, name), dict):
                setattr(self, name, _section(kind, getattr(self, name), name))
        self.rating_levels = [float(level) for level in self.rating_levels or []]
        super().__post_init__(**kwargs)
        # The text part of the head is tied exactly when the backbone's own head is.
        self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))

    def _reject_what_is_unknown(self, kwargs: dict[str, Any]) -> None:
        known = {entry.name for entry in fields(self)}
        unknown = [k for k in kwargs if k not in known and k not in _TRANSFORMERS_KEYS and not k.startswith("_")]
        if isinstance(self.format_version, int) and self.format_version > FORMAT_VERSION:
            key = f" and the key {unknown[0]!r}" if unknown else ""
            raise NewerFormatError(
                f"This checkpoint has format version {self.format_version}{key}, which this version of llm4rec "
                f"(format {FORMAT_VERSION}) does not know. Upgrade with `pip install --upgrade llm4rec`."
            )
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.0)[0]
            raise ValueError(f"LLM4RecConfig got the unknown key {unknown[0]!r}; did you mean {near!r}?")

    def validate_items(self) -> None:
        """Modalities are named once each, sizes fit their kinds, probabilities lie in [0, 1)."""
        names = [modality.name for modality in self.modalities]
        if len(names) != len(set(names)):
            raise ValueError(f"Modality names must be unique, got {names}.")
        if not names:
            raise ValueError("Items need at least one modality; add {'name': 'id', 'kind': 'id'}.")
        if "present" in names:
            raise ValueError("A modality cannot be named 'present'; rename the column.")
        for modality in self.modalities:
            needs = {"categorical": ("num_embeddings", "max_values"), "text": ("feature_size",)}
            needs |= {"vector": needs["text"], "words": needs["categorical"]}
            for size in needs.get(modality.kind, ()):
                if getattr(modality, size) < 1:
                    raise ValueError(
                        f"Modality {modality.name!r} of kind {modality.kind!r} needs {size} >= 1, "
                        f"got {getattr(modality, size)}."
                    )
        for name in ("fusion_dropout", "id_dropout", "event_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}.")
        for name in ("num_items", "num_time_gaps", "num_negatives", "max_exact_items"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}.")
        if not math.isfinite(self.new_item_bonus):
            raise ValueError(f"new_item_bonus must be a finite number, got {self.new_item_bonus}.")
        if self.loss_weighting == "doubly_robust" and self.label_smoothing:
            raise ValueError("label_smoothing and loss_weighting='doubly_robust' both fill in targets; take one.")
        if self.rating_levels != sorted(set(self.rating_levels)):
            raise ValueError(f"rating_levels must ascend without repeats, got {self.rating_levels}.")

    @property
    def text_vocab_size(self) -> int:
        """Number of text tokens V; item `i` is token `V + i`."""
        return self.text_config.vocab_size

    @property
    def item_width(self) -> int:
        """Width of modality tokens inside the fusion head."""
        return self.fusion_width or self.text_config.hidden_size

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        values = super().to_dict()
        values["modalities"] = [asdict(m) if isinstance(m, ModalityConfig) else m for m in self.modalities]
        for name, kind in _SECTIONS.items():
            if isinstance(getattr(self, name), kind):
                values[name] = asdict(getattr(self, name))
        if "AutoModelForCausalLM" in (getattr(self, "auto_map", None) or {}):
            values["custom_pipelines"] = copy.deepcopy(PIPELINES)
        return values


_SECTIONS = {
    "retrieval": RetrievalConfig,
    "popularity": PopularityConfig,
    "fairness": FairnessConfig,
    "relevance": RelevanceConfig,
}


def _section(kind: type, values: dict[str, Any], name: str) -> Any:
    """A part of the configuration from plain values; an unknown key is an error that names the nearest known one."""
    known = [entry.name for entry in fields(kind)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"{name} got the unknown key {key!r}; did you mean {near!r}?")
    return kind(**values)


# A checkpoint carries these modules, for readers who have transformers and not this package.
LLM4RecConfig.register_for_auto_class()

__all__ = [
    "FORMAT_VERSION",
    "RETRIEVAL_SOURCES",
    "FairnessConfig",
    "LLM4RecConfig",
    "ModalityConfig",
    "NewerFormatError",
    "PopularityConfig",
    "RelevanceConfig",
    "RetrievalConfig",
]
