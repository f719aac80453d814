"""LLM4Rec: a causal language model whose vocabulary ends in real items.

Token ids `[0, V)` are the text tokenizer's, id `V + i` is item `i`; an item's input embedding and its output row are
both computed from the item's features (`item_embedding.py`). The processor makes the inputs, `recommend()` ranks.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, LogitsProcessorList, PreTrainedModel
from transformers import initialization as init
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .adapter_checkpoint import is_adapter, load_adapter
from .adversary import SensitiveAttributeAdversary
from .configuration_llm4rec import FairnessConfig, LLM4RecConfig, PopularityConfig
from .event_embedding import EventEmbedding
from .explanation import ExplanationMixin
from .fusion import AdaptiveFusion, CrossModalAttention
from .item_embedding import FusionReport, ItemEmbedding
from .item_index import ItemIndex
from .next_item_loss import BiasFacts, ItemRows, NextItemLossMixin
from .popularity_prior import STEP_SCALE, PopularityPrior
from .ranking import RankingMixin
from .recommendation import ItemsOnlyLogitsProcessor, candidate_mask
from .recommendation_pipeline import RecommendationPipeline
from .repeat_bias import RepeatBias
from .retrieval import RetrievalMixin
from .retrieval_adapter import INITIAL_SHARPNESS, RetrievalAdapter
from .state_eraser import StateEraser

if TYPE_CHECKING:
    from .processing_llm4rec import LLM4RecProcessor


class _OptimizerSteps:
    """Counts the steps of all optimizers of this process."""

    count = 0

    @classmethod
    def add(cls, *args: Any) -> None:
        cls.count += 1


register_optimizer_step_post_hook(_OptimizerSteps.add)


class LLM4RecHead(nn.Module):
    """Output head over text tokens and items: rows `[text rows; item table]`.

    A view made on request, so that it always speaks of the current weights. Libraries that read `.weight` and `.bias`
    of a language-model head (TRL's fused loss, for one) work with it unchanged.
    """

    def __init__(self, text: nn.Linear, table: torch.Tensor):
        super().__init__()
        self.weight = torch.cat([text.weight, table.to(text.weight.dtype)])
        self.bias = None if text.bias is None else F.pad(text.bias, (0, len(table)))
        self.in_features, self.out_features = text.in_features, len(self.weight)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (..., V + items) of states (..., hidden)."""
        return F.linear(states, self.weight, self.bias)


class LLM4RecPreTrainedModel(PreTrainedModel):
    """Weight initialisation and what both models share."""

    config: LLM4RecConfig
    config_class = LLM4RecConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, CrossModalAttention):
            init.normal_(module.input_projection, std=self.config.initializer_range)
            init.zeros_(module.output_projection)
        elif isinstance(module, AdaptiveFusion):
            init.normal_(module.modality_bias, std=self.config.initializer_range)
            init.zeros_(module.score.weight)
        elif isinstance(module, RepeatBias):
            init.zeros_(module.bias)
        elif isinstance(module, PopularityPrior):
            init.constant_(module.weight, self.config.popularity.strength / STEP_SCALE)
        elif isinstance(module, StateEraser):
            for values in module.buffers():  # a checkpoint of a finished model lacks the moments
                init.zeros_(values)
        elif isinstance(module, RetrievalAdapter):
            for closed in (module.attention_gate, module.source_weight, module.temperature, module.gate[-1].weight):
                init.zeros_(closed)
            init.constant_(module.sharpness, INITIAL_SHARPNESS)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike | None, *args: Any, config: Any = None, **kwargs: Any
    ) -> Any:
        """Load a checkpoint; one that holds an adapter is rebuilt on the backbone that its configuration names.

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            kwargs: as of `PreTrainedModel.from_pretrained`; for an adapter also `is_trainable`, and
                `backbone_name_or_path` where the backbone has moved; `retrieval=False` leaves the memory of the
                checkpoint where it is.

        Raises:
            OSError: if there is no checkpoint, or the backbone of an adapter cannot be loaded.
            ValueError: naming the file of the memory that is missing or damaged.
        """
        name, with_memory = pretrained_model_name_or_path, kwargs.pop("retrieval", True)
        if with_memory not in (True, False):
            raise ValueError(f"from_pretrained got retrieval={with_memory!r}, expected True or False.")
        hub = dict(kwargs)
        if is_adapter(name, kwargs):
            loaded = load_adapter(LLM4RecForCausalLM, name, config, kwargs)
        else:
            loaded = super().from_pretrained(name, *args, config=config, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        settings = model.config.retrieval
        if settings is not None and isinstance(model, LLM4RecForCausalLM):
            if with_memory and settings.has_memory:
                model._load_memory(name, hub)
            settings.has_memory = model.memory is not None
        if isinstance(model, LLM4RecForCausalLM) and not issubclass(cls, LLM4RecForCausalLM):
            return model.model
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, **kwargs: Any) -> None:
        """Save a checkpoint; of a model with an adapter, the adapter and the configuration to rebuild it.

        The modules of this folder are written beside it, so that it loads where this package is not installed:
        `AutoModelForCausalLM.from_pretrained(…, trust_remote_code=True)`.
        """
        if is_main_process:
            self.save_code(save_directory)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if getattr(self, "_hf_peft_config_loaded", False) and is_main_process:
            self.config.save_pretrained(save_directory)
        memory = getattr(self, "memory", None)
        if memory is not None and is_main_process:
            memory.save(save_directory)

    def save_code(self, save_directory: str | os.PathLike) -> None:
        """Write the modules that a checkpoint needs where this package is not installed, and name them in `config`."""
        os.makedirs(save_directory, exist_ok=True)
        named = getattr(self.config, "auto_map", None) or {}
        self.config.auto_map = {"AutoModel": f"{__name__.rsplit('.', 1)[-1]}.{LLM4RecModel.__name__}", **named}
        custom_object_save(self, save_directory, config=self.config)
        if isinstance(self, LLM4RecForCausalLM):
            custom_object_save(RecommendationPipeline, save_directory)


class LLM4RecModel(LLM4RecPreTrainedModel):
    """The backbone on item and text tokens, without a head.

    Args:
        config: its `text_config` names the backbone's architecture; weights are drawn anew.
        language_model: a backbone to use as it is, pretrained or quantised, instead of a new one.
    """

    def __init__(self, config: LLM4RecConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config)
        self.language_model = AutoModel.from_config(config.text_config) if language_model is None else language_model
        # Items are trained in full even where the backbone is not, and half precision swallows small updates: these
        # parts keep single precision whatever the dtype of the checkpoint.
        self.item_embedding = ItemEmbedding(config).float()
        self.event_embedding = EventEmbedding(config).float()
        self.repeat_bias = RepeatBias().float() if config.repeat_bias else None
        self.retrieval_adapter = None
        if config.retrieval is not None:
            self.retrieval_adapter = RetrievalAdapter(config.retrieval, config.text_config.hidden_size).float()
        self.popularity_prior = PopularityPrior(config).float() if config.popularity is not None else None
        self.adversary = self.state_eraser = None
        if config.fairness is not None:
            self._add_fairness(config.fairness)
        self.event_dropout = nn.Dropout(config.event_dropout)
        self._table: torch.Tensor | None = None
        self._table_key: tuple | None = None
        self._index: ItemIndex | None = None
        self._index_key: tuple | None = None
        self.post_init()

    def _add_fairness(self, fairness: FairnessConfig) -> None:
        hidden = self.config.text_config.hidden_size
        if fairness.adversary:
            self.adversary = SensitiveAttributeAdversary(fairness, hidden).float()
        if fairness.erase:
            self.state_eraser = StateEraser(hidden, fairness.sizes).float()
            self.state_eraser.keep_moments(fairness.adversary)

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's text embeddings; item tokens have no row there."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the backbone's text embeddings."""
        self.language_model.set_input_embeddings(value)

    def train(self, mode: bool = True) -> LLM4RecModel:
        """Switch between training and evaluation; training drops the cached item table."""
        if mode:
            self._table = None
        return super().train(mode)

    def item_table(self) -> torch.Tensor:
        """(items, hidden) embeddings of the whole catalog.

        Without gradients the table is cached, in the precision of the backbone, until a weight or the catalog changes;
        with gradients it is computed anew.
        """
        if torch.is_grad_enabled() or self.training:
            return self.item_embedding.table()
        key = self._current_table_key()
        if self._table is None or key != self._table_key:
            dtype = self.get_input_embeddings().weight.dtype
            self._table, self._table_key = self.item_embedding.table().to(dtype), key
        return self._table

    @torch.no_grad()
    def item_index(self) -> ItemIndex:
        """Approximate index of the item table, built anew when a weight or the catalog has changed.

        Building takes about a minute a million items on two cores; call it before the first request.

        Raises:
            ImportError: without faiss.
        """
        key = self._current_table_key()
        if self._index is None or self._index_key != key:
            self._index, self._index_key = ItemIndex(self.item_table()), key
        return self._index

    @torch.no_grad()
    def append_items(self, features: dict[str, torch.Tensor]) -> None:
        """Append items to the catalog; an index that is up to date stays so."""
        indexed = self._index is not None and self._index_key == self._current_table_key()
        self.item_embedding.append(features)
        if indexed:
            self._index.add(self.item_table()[len(self._index) :])
            self._index_key = self._current_table_key()

    @property
    def optimizer_steps(self) -> int:
        """Steps of all optimizers of this process: fused ones change weights in a way that a tensor does not tell."""
        return _OptimizerSteps.count

    def _current_table_key(self) -> tuple:
        # In-place updates raise a tensor's version, replacements change its address; fused optimizers do neither.
        # Read at every request, so without the names that `parameters()` and `buffers()` put together first.
        held = (values for m in self.item_embedding.modules() for values in (m._parameters, m._buffers))
        tensors = (tensor for values in held for tensor in values.values() if tensor is not None)
        return self.optimizer_steps, *((tensor.data_ptr(), tensor._version) for tensor in tensors)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Any | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        rating_ids: torch.LongTensor | None = None,
        time_gap_ids: torch.LongTensor | None = None,
        item_rows: ItemRows | None = None,
        state_labels: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of a sequence of text and item tokens.

        Args:
            input_ids: (batch, length) token ids below V + items; padding may stand left or right.
            attention_mask: (batch, length), 0 at padding.
            rating_ids, time_gap_ids: (batch, length) event ids from the processor, 0 where unknown.
            item_rows: item embeddings that are computed already.
            state_labels: (batch, length, attributes) what an eraser in training shall take out of each state, -1 for
                states that it shall not learn from.

        Raises:
            ValueError: if not exactly one of `input_ids` and `inputs_embeds` is given, or a token id is out of range.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.event_dropout(self.embed_events(input_ids, rating_ids, time_gap_ids, item_rows))
        if position_ids is None and attention_mask is not None and attention_mask.dim() == 2:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -inputs_embeds.shape[1] :]
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )
        if self.state_eraser is not None:
            outputs.last_hidden_state = self.state_eraser(outputs.last_hidden_state, state_labels)
        return outputs

    def embed_events(
        self,
        input_ids: torch.Tensor,
        rating_ids: torch.Tensor | None = None,
        time_gap_ids: torch.Tensor | None = None,
        item_rows: ItemRows | None = None,
    ) -> torch.Tensor:
        """(batch, length, hidden) what the backbone reads: tokens, and what else is known of each event."""
        embeds = self._embed_tokens(input_ids, item_rows)
        events = self.event_embedding(rating_ids, time_gap_ids)
        return embeds if events is None else embeds + events.to(embeds.dtype)

    def _embed_tokens(self, input_ids: torch.Tensor, item_rows: ItemRows | None) -> torch.Tensor:
        items = input_ids - self.config.text_vocab_size
        is_item = items >= 0
        if (items >= self.item_embedding.num_items).any():
            raise ValueError(
                f"input_ids holds token {int(input_ids.max())}, but the vocabulary ends at "
                f"{self.config.text_vocab_size + self.item_embedding.num_items}: {self.config.text_vocab_size} text "
                f"tokens and {self.item_embedding.num_items} items. Use the processor saved with this model."
            )
        embeds = self.get_input_embeddings()(input_ids.masked_fill(is_item, 0))
        wanted = items[is_item]
        if not len(wanted):
            return embeds
        rows = item_rows if item_rows is not None else self._rows_of(wanted)
        return embeds.masked_scatter(is_item.unsqueeze(-1), rows[wanted].to(embeds.dtype))

    def _rows_of(self, items: torch.Tensor) -> ItemRows:
        if not self.training and not torch.is_grad_enabled():
            # The head needs the table anyway, and scores do not depend on what was computed before.
            return ItemRows(self.item_table())
        unique = items.unique()
        return ItemRows(self.item_embedding(unique), unique)


class LLM4RecForCausalLM(
    LLM4RecPreTrainedModel, NextItemLossMixin, RetrievalMixin, RankingMixin, ExplanationMixin, GenerationMixin
):
    """The recommender: backbone, item embedding and a head over text tokens and items.

    Example:

    ```python
    model = LLM4RecForCausalLM.from_pretrained(folder)
    processor = LLM4RecProcessor.from_pretrained(folder)
    batch = processor(histories=[["item-3", "item-7"]], return_tensors="pt")
    processor.decode_items(model.recommend(**batch, k=10).items)
    ```
    """

    def __init__(self, config: LLM4RecConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config)
        self.model = LLM4RecModel(config, language_model)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_vocab_size, bias=config.lm_head_bias)
        if config.tie_word_embeddings:
            embeddings = self.model.get_input_embeddings()
            name = next(name for name, module in self.model.named_modules() if module is embeddings)
            self._tied_weights_keys = {"lm_head.weight": f"model.{name}.weight"}
        self.post_init()

    @classmethod
    def from_backbone(
        cls,
        backbone: str | os.PathLike | PreTrainedModel,
        *,
        catalog: LLM4RecProcessor | None = None,
        config: LLM4RecConfig | None = None,
        backbone_kwargs: dict[str, Any] | None = None,
        **config_kwargs: Any,
    ) -> LLM4RecForCausalLM:
        """A recommender on the pretrained weights of a causal language model.

        Args:
            backbone: Hub id, folder, or a causal language model in memory.
            catalog: the processor of the catalog; its modalities and item features become the model's.
            config: everything but `text_config`, which comes from the backbone; made from `catalog` by default.
            backbone_kwargs: passed to `AutoModelForCausalLM.from_pretrained`: `dtype`, `quantization_config`,
                `device_map`, `attn_implementation`, `revision`, …
            config_kwargs: fields of [`LLM4RecConfig`] that differ from `config`.

        Raises:
            ValueError: if neither `catalog` nor `config` is given, the catalog's processor was made for another
                vocabulary, or a configuration key is unknown.
        """
        if catalog is None and config is None:
            raise ValueError("from_backbone got neither `catalog` nor `config`; pass the processor of your catalog.")
        name = getattr(backbone, "name_or_path", None) or None
        if not isinstance(backbone, PreTrainedModel):
            name = str(backbone)
            backbone = AutoModelForCausalLM.from_pretrained(name, **(backbone_kwargs or {}))
        vocabulary = backbone.config.vocab_size
        if catalog is not None and catalog.text_vocab_size != vocabulary:
            raise ValueError(
                f"The processor has text_vocab_size {catalog.text_vocab_size}, but the backbone embeds {vocabulary} "
                "text tokens. Make the processor with the backbone's tokenizer: `LLM4RecProcessor.from_catalog(…, "
                f"tokenizer=AutoTokenizer.from_pretrained(…), text_vocab_size={vocabulary})`."
            )
        embeddings, head = backbone.get_input_embeddings(), backbone.get_output_embeddings()
        values = config.to_diff_dict() if config is not None else catalog.model_config()
        for key in ("model_type", "transformers_version", "architectures", "dtype"):
            values.pop(key, None)
        values |= {
            "text_config": backbone.config,
            # Unset, a configuration unsets it in its parts too, and the backbone would lose its causal mask.
            "attn_implementation": backbone.config._attn_implementation,
            "dtype": backbone.dtype,
            "backbone_name_or_path": name,
            "lm_head_bias": getattr(head, "bias", None) is not None,
            # Item vectors start at the scale of the text embeddings they stand beside.
            "initializer_range": round(embeddings.weight.detach().float().std().item(), 5),
            **config_kwargs,
        }
        with init.no_init_weights():
            model = cls(LLM4RecConfig(**values), backbone.base_model)
        for part in (model.model.item_embedding, model.model.event_embedding):
            part.apply(model._init_weights)
            part.to(device=embeddings.weight.device)
        model.lm_head = head
        model.tie_weights()
        model.name_or_path = name or ""
        if backbone.generation_config is not None:
            model.generation_config = backbone.generation_config
        if catalog is not None:
            model.set_items(catalog.item_features())
        return model

    @property
    def num_items(self) -> int:
        """Size of the catalog."""
        return self.model.item_embedding.num_items

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's text embeddings."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the backbone's text embeddings."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> LLM4RecHead:
        """The head over text tokens and items, of the current weights."""
        return LLM4RecHead(self.lm_head, self.model.item_table())

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Refused: item tokens follow the text tokens, so a longer text vocabulary would renumber every item."""
        raise NotImplementedError(
            "resize_token_embeddings would renumber the item tokens. Extend the backbone's vocabulary before "
            "`from_backbone`, and add items with `add_items`."
        )

    def set_items(self, features: dict[str, torch.Tensor]) -> None:
        """Replace the features of the whole catalog, for as many items as `config.num_items`."""
        if len(features["present"]) != self.config.num_items:
            raise ValueError(
                f"set_items got features of {len(features['present'])} items, but the model was configured for "
                f"{self.config.num_items}. Append new items with `add_items`."
            )
        self.model.item_embedding.set_features(features)

    def add_items(self, features: dict[str, torch.Tensor]) -> None:
        """Append items to the catalog; they can be recommended at once, without training.

        Args:
            features: from `processor.item_features(table)`; a new item is known by its content alone.

        Raises:
            ValueError: if a feature is missing, has the wrong shape, or an item has no modality at all.
        """
        first = self.num_items
        self.model.append_items(features)
        self.config.num_items = self.num_items
        if self.model.popularity_prior is not None:
            self.model.popularity_prior.append(self.num_items - first)
        self.imputed_targets = None  # of the catalog as it was
        if self.memory is not None:
            content = self.content_vectors(first)
            self.memory.transitions.grow(self.num_items)
            if content is not None and self.memory.metadata.width:
                self.memory.add_content(content)

    def add_popularity_prior(
        self,
        config: PopularityConfig,
        log_popularity: torch.Tensor,
        unseen: torch.Tensor,
        period_starts: torch.Tensor | None = None,
    ) -> None:
        """Give the model a prior on popular items, see [`PopularityPrior`].

        Args:
            config: γ and γ′; its `periods` are set from `period_starts`.
            log_popularity: (1 + periods, items), unseen: (1 + periods,), period_starts: (periods,), as of the prior;
                `training.debiasing.item_popularity.ItemPopularity` counts them.

        Raises:
            ValueError: if a shape is wrong or a number is not finite; the model then has no prior.
        """
        starts = torch.zeros(0, dtype=torch.long) if period_starts is None else period_starts
        before = self.config.popularity
        self.config.popularity = replace(config, periods=len(starts))
        try:
            prior = PopularityPrior(self.config)
            prior.set_popularity(log_popularity, unseen, starts)
        except ValueError:
            self.config.popularity = before
            raise
        self.model.popularity_prior = prior.to(self.device)

    def add_fairness(self, config: FairnessConfig) -> None:
        """Give the model, for its training, what keeps sensitive attributes out of user states."""
        self.config.fairness = config
        self.model._add_fairness(config)
        self.model.to(self.device)

    def remove_adversary(self) -> None:
        """Leave the adversary behind: a recommender that is handed on cannot guess its users' attributes."""
        self.model.adversary = None
        if self.config.fairness is not None:
            erases = self.config.fairness.erase
            self.config.fairness = replace(self.config.fairness, adversary=False) if erases else None
        for module in self.model.modules():  # peft keeps copies of the modules that it trains
            if isinstance(module, StateEraser):
                module.keep_moments(False)

    def fusion_report(self) -> FusionReport:
        """How much each modality weighs across the catalog, and whether one took over."""
        return self.model.item_embedding.report()

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Any | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        rating_ids: torch.LongTensor | None = None,
        time_gap_ids: torch.LongTensor | None = None,
        history_ids: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        loss_weights: torch.Tensor | None = None,
        popularity_periods: torch.LongTensor | None = None,
        sensitive_labels: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Next-token logits, or the loss if `labels` are given.

        Args:
            history_ids: (batch, whole length) the sequence that `input_ids` ends, where a cache holds its beginning;
                `generate` passes it.
            labels: (batch, length) token ids, -100 where nothing is predicted; shifted inside. With labels the output
                holds the loss and no logits, which would be (batch, length, V + items).
            num_items_in_batch: what the summed loss is divided by; by default the number of predicted tokens.
            loss_weights: (batch, length) weight of the event at each place, for `config.loss_weighting`.
            popularity_periods: (batch, length) row of the popularity prior at the time of each event; 0 by default.
            sensitive_labels: (batch, attributes) what the adversary is to guess, -1 where unknown.

        Returns:
            `logits` (batch, length or `logits_to_keep`, V + items) without labels, `loss` with them. At positions that
            predict an item the softmax runs over items only, at text positions over text only.
        """
        rows = negatives = None
        if labels is not None:
            rows, negatives = self._rows_for_loss(input_ids, labels)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            rating_ids=rating_ids,
            time_gap_ids=time_gap_ids,
            item_rows=rows,
            state_labels=None if labels is None else self._state_labels(labels, sensitive_labels),
            **kwargs,
        )
        states = outputs.last_hidden_state
        loss = logits = None
        if labels is not None:
            facts = BiasFacts(
                None if loss_weights is None else loss_weights[:, 1:],
                None if popularity_periods is None else popularity_periods[:, 1:],
                sensitive_labels,
            )
            loss = self._loss(states[:, :-1], input_ids, labels[:, 1:], rows, negatives, num_items_in_batch, facts)
        else:
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            kept = states[:, keep, :]
            items = kept @ self.model.item_table().to(kept.dtype).T
            history = input_ids if history_ids is None else history_ids
            if history is not None:
                predicts = torch.zeros_like(history, dtype=torch.bool)
                predicts[:, history.shape[1] - states.shape[1] :][:, keep] = True
                items = self._with_repeat_bias(items.flatten(0, 1), history, predicts).view_as(items)
                items = self._with_popularity(items, None)
                if self.memory is not None and kept.shape[1] == 1:  # the next item is asked for, as by `generate`
                    items = self._with_memory(items, kept, history)
                items = self._with_new_item_bonus(items)
            logits = torch.cat([self.lm_head(kept), items], dim=-1)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _with_memory(self, items: torch.Tensor, states: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        """Item logits (batch, 1, items) of states (batch, 1, hidden), conditioned on the memory."""
        table, own = self.model.item_table(), states[:, 0]
        read = self.condition(own, table, self.retrieve(own, history))
        shift = (read.states - own) @ table.to(own.dtype).T
        return read.add_to(items[:, 0] + shift).unsqueeze(1)

    def generate(
        self,
        *args: Any,
        items_only: bool = False,
        allow: torch.Tensor | None = None,
        no_repeats: bool = True,
        **kwargs: Any,
    ) -> Any:
        """`GenerationMixin.generate`, optionally inside the catalog.

        Args:
            items_only: every generated token is an item: slates, continuations of a history.
            allow: with `items_only`, (items,) bool of the items that may be generated.
            no_repeats: with `items_only`, no item twice and none of the prompt's or of `seen_items`.

        Raises:
            ValueError: if fewer items are left than were asked for.
        """
        seen = kwargs.pop("seen_items", None)
        if items_only:
            allow = candidate_mask(allow, -1, self.num_items, "allow")
            inside = ItemsOnlyLogitsProcessor(self.config.text_vocab_size, allow, no_repeats, seen)
            kwargs["logits_processor"] = LogitsProcessorList([*(kwargs.get("logits_processor") or []), inside])
        elif allow is not None:
            raise ValueError("generate got `allow` without `items_only=True`; the mask speaks of items.")
        out = super().generate(*args, **kwargs)
        if items_only:
            prompt = next(
                (ids for ids in (*args[:1], kwargs.get("inputs"), kwargs.get("input_ids")) if ids is not None), None
            )
            new = getattr(out, "sequences", out)[:, 0 if prompt is None else prompt.shape[1] :]
            if (new < self.config.text_vocab_size).any():
                # Beams without a candidate come back as padding.
                raise ValueError(
                    "generate found fewer sequences of distinct items than were asked for. Ask for fewer "
                    "(num_return_sequences, num_beams), allow more items, or pass no_repeats=False."
                )
        return out

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Event ids belong to the prompt, generated tokens have none yet; the repeat bias needs the whole sequence."""
        inputs = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)
        if self.model.repeat_bias is not None:
            inputs["history_ids"] = input_ids
        length = inputs["input_ids"].shape[1] if inputs.get("input_ids") is not None else input_ids.shape[1]
        for name in ("rating_ids", "time_gap_ids"):
            if inputs.get(name) is not None:
                padded = F.pad(inputs[name], (0, max(0, input_ids.shape[1] - inputs[name].shape[1])))
                inputs[name] = padded[:, -length:]
        return inputs


LLM4RecModel.register_for_auto_class("AutoModel")
LLM4RecForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = ["LLM4RecForCausalLM", "LLM4RecModel", "LLM4RecPreTrainedModel"]
