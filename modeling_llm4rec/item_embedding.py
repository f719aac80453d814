"""Item embedding: everything known about an item, computed into one vector.

The same vector is the input embedding of the item's token and its row in the output head (`modeling_llm4rec.py`).
Item features live here as buffers, so a checkpoint holds the whole catalog in the form the model reads.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_llm4rec import LLM4RecConfig, ModalityConfig
from .fusion import AdaptiveFusion, CrossModalAttention
from .modality_encoders import ENCODERS


@dataclass
class FusionReport:
    """How much each modality weighs across the catalog.

    Attributes:
        alpha: mean weight α of each modality, over items with at least two modalities; sums to 1.
        entropy: mean entropy of α per item in nats, divided by its maximum: 1 is even, 0 is one modality alone.
        collapsed: name of the modality that took over (mean α above 0.99), else `None`.
    """

    alpha: dict[str, float]
    entropy: float
    collapsed: str | None


class ItemEmbedding(nn.Module):
    """Embeddings of items from their features: encoders, cross-modal attention, adaptive fusion.

    Buffers: `features.<modality>` with one row per item, and `present` (items, modalities) bool. Any modality of any
    item may be missing; it is masked, never read as zero.

    Shape:
        - items: (n,) item indices
        - returns: (n, hidden_size of the backbone)
    """

    def __init__(self, config: LLM4RecConfig):
        super().__init__()
        self.modalities: list[ModalityConfig] = config.modalities
        self.id_dropout = config.id_dropout
        self.dropout = config.fusion_dropout
        width, hidden = config.item_width, config.text_config.hidden_size
        self.encoders = nn.ModuleDict(
            {_key(index): ENCODERS[m.kind](m, width) for index, m in enumerate(self.modalities)}
        )
        many = len(self.modalities) > 1
        self.cross_attention = (
            CrossModalAttention(len(self.modalities), width, config.fusion_heads, config.fusion_dropout)
            if many
            else None
        )
        self.fusion = AdaptiveFusion(len(self.modalities), width) if many else None
        self.projection = nn.Linear(width, hidden, bias=False) if width != hidden else None
        self.features = nn.Module()
        for index, modality in enumerate(self.modalities):
            if (empty := empty_feature(modality, config.num_items)) is not None:
                self.features.register_buffer(_key(index), empty)
        is_id = torch.tensor([m.kind == "id" for m in self.modalities])
        self.register_buffer("present", is_id.repeat(config.num_items, 1))

    @property
    def num_items(self) -> int:
        """Size of the catalog."""
        return self.present.shape[0]

    def trained_items(self) -> torch.Tensor | None:
        """(n,) ascending items with an id embedding of their own; `None` if all have one, or no item can."""
        new = self.new_items()
        return None if new is None else (~new).nonzero().squeeze(1)

    def new_items(self) -> torch.Tensor | None:
        """(items,) bool, items known by content alone; `None` if all have an id embedding, or none can have one."""
        ids = [index for index, modality in enumerate(self.modalities) if modality.kind == "id"]
        if not ids or self.present[:, ids[0]].all():
            return None
        return ~self.present[:, ids[0]]

    def stored_feature(self, index: int) -> torch.Tensor:
        """(items, …) feature of the modality at `index`, which is not an `id`, as the checkpoint holds it."""
        return getattr(self.features, _key(index))

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Embeddings of `items`."""
        return self.embed(items)[0]

    def embed(self, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (n, hidden) and modality weights α (n, modalities) of `items`."""
        present = self.present[items]
        if self.training and self.id_dropout > 0:
            present = self._hide_ids(present)
        return self._fused([self._token(index, items) for index in range(len(self.modalities))], present)

    def embed_without(
        self, items: torch.Tensor, modalities: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What would be the embeddings of `items` if less were known of them.

        Args:
            items: (n,) item indices.
            modalities: (n,) index of the modality that is hidden from each; -1: none.
            values: (n,) the one value of a categorical modality that is hidden; 0: the modality as a whole.

        Returns:
            embeddings (n, hidden), and (n, modalities) bool what is left. Where nothing is left the embedding says
            nothing.
        """
        present = self.present[items].clone()
        rows, whole = torch.arange(len(items), device=items.device), values == 0
        hidden = whole & (modalities >= 0)
        present[rows[hidden], modalities[hidden]] = False
        tokens = []
        for index, modality in enumerate(self.modalities):
            if modality.kind not in {"categorical", "words"}:
                tokens.append(self._token(index, items))
                continue
            known = self.stored_feature(index)[items]
            out = (modalities == index) & ~whole
            known = known.masked_fill(out.unsqueeze(1) & (known == values.unsqueeze(1)), 0)
            present[:, index] &= (known > 0).any(-1)
            tokens.append(self.encoders[_key(index)](known))
        return self._fused(tokens, present)[0], present

    def _fused(self, tokens: list[torch.Tensor], present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (n, hidden) and α (n, modalities) of modality tokens."""
        tokens = [F.dropout(token, self.dropout, self.training) for token in tokens]
        if self.fusion is None:
            embedding, alpha = tokens[0] * present, present.to(tokens[0].dtype)
        else:
            read = self.cross_attention(tokens, present.T)
            embedding, alpha = self.fusion(tokens, present.T, read, self.cross_attention.output_projection)
            alpha = alpha.T
        return (embedding if self.projection is None else self.projection(embedding)), alpha

    def _token(self, index: int, items: torch.Tensor) -> torch.Tensor:
        encoder = self.encoders[_key(index)]
        if self.modalities[index].kind == "id":
            return encoder(items)
        return encoder(self.stored_feature(index)[items])

    def _hide_ids(self, present: torch.Tensor) -> torch.Tensor:
        """Hide the `id` modality of a random share of the items that have another one."""
        ids = torch.tensor([m.kind == "id" for m in self.modalities], device=present.device)
        hidden = (torch.rand(len(present), device=present.device) < self.id_dropout) & (present & ~ids).any(-1)
        return present & ~(hidden[:, None] & ids)

    def set_features(self, features: dict[str, torch.Tensor]) -> None:
        """Replace the features of the whole catalog; see `append` for the form of `features`."""
        device = self.present.device
        checked = self._checked(features)
        for index, modality in enumerate(self.modalities):
            if modality.kind != "id":
                setattr(self.features, _key(index), checked[modality.name].to(device))
        self.present = checked["present"].to(device)

    def append(self, features: dict[str, torch.Tensor]) -> None:
        """Add items at the end of the catalog.

        Args:
            features: one tensor per modality but `id`, named as the modality, with a row per new item, and `present`
                (items, modalities) bool. Made by `LLM4RecProcessor.item_features`.

        Raises:
            ValueError: if a modality is missing or has another shape than the catalog's, or an item has no modality;
                the catalog is then as it was.
        """
        checked = self._checked(features)
        # A new item has no embedding of its own until the model is trained on it.
        present = checked["present"] & torch.tensor([m.kind != "id" for m in self.modalities])
        if not present.any(-1).all():
            first = int((~present.any(-1)).nonzero()[0])
            raise ValueError(
                f"New item {first} of {len(present)} has no modality that the model can read. Give it at least one of "
                f"{', '.join(m.name for m in self.modalities if m.kind != 'id') or '(this model reads ids only)'}."
            )
        for index, modality in enumerate(self.modalities):
            if modality.kind != "id":
                old = getattr(self.features, _key(index))
                setattr(self.features, _key(index), torch.cat([old, checked[modality.name].to(old)]))
        self.present = torch.cat([self.present, present.to(self.present.device)])

    def _checked(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        expected = ["present", *(m.name for m in self.modalities if m.kind != "id")]
        missing = [name for name in expected if name not in features]
        if missing:
            raise ValueError(f"Item features lack {missing}; expected {expected}. Make them with the processor.")
        count = len(features["present"])
        for index, modality in enumerate(self.modalities):
            if modality.kind == "id":
                continue
            want = (count, *getattr(self.features, _key(index)).shape[1:])
            got = tuple(features[modality.name].shape)
            if got != want:
                raise ValueError(f"Feature {modality.name!r} has shape {got}, expected {want}.")
        if features["present"].shape[1] != len(self.modalities):
            raise ValueError(
                f"`present` has shape {tuple(features['present'].shape)}, expected one column a modality."
            )
        return {name: features[name].clone() for name in expected}

    @torch.no_grad()
    def report(self, block: int = 65_536) -> FusionReport:
        """Modality weights across the catalog; see [`FusionReport`]."""
        training = self.training
        self.eval()
        alpha = torch.cat([self.embed(items)[1].float() for items in self._blocks(block)])
        self.train(training)
        several = self.present.sum(-1) > 1
        alpha, present = alpha[several], self.present[several]
        if not len(alpha):
            return FusionReport({m.name: 1.0 / len(self.modalities) for m in self.modalities}, 1.0, None)
        mean = alpha.mean(0)
        entropy = torch.special.entr(alpha).sum(-1) / present.sum(-1).log()
        names = [m.name for m in self.modalities]
        collapsed = names[int(mean.argmax())] if mean.max() > 0.99 else None
        return FusionReport(dict(zip(names, mean.tolist(), strict=True)), entropy.mean().item(), collapsed)

    def _blocks(self, size: int) -> tuple[torch.Tensor, ...]:
        return torch.arange(self.num_items, device=self.present.device).split(size)

    def table(self, block: int = 65_536) -> torch.Tensor:
        """(items, hidden) embeddings of the whole catalog, computed in blocks of bounded memory."""
        if not self.num_items:
            raise ValueError("The catalog is empty: load a checkpoint, or set item features first.")
        blocks = self._blocks(block)
        return torch.cat([self(items) for items in blocks]) if len(blocks) > 1 else self(blocks[0])


def empty_feature(modality: ModalityConfig, num_items: int) -> torch.Tensor | None:
    """An all-missing feature tensor of the modality's shape and type; `None` for `id`, which stores nothing."""
    if modality.kind == "id":
        return None
    if modality.kind in {"categorical", "words"}:
        return torch.zeros(num_items, modality.max_values, dtype=torch.int32)
    if modality.kind == "numerical":
        return torch.zeros(num_items)
    return torch.zeros(num_items, modality.feature_size)


def _key(index: int) -> str:
    # Modality names are the user's and may hold characters that a module name cannot.
    return f"modality_{index}"
