"""From item scores to ranked real items: candidate masks, top-k, and the logits processor that keeps generation inside
the catalog.

Called by `ranking.py`, `explanation.py` and `LLM4RecForCausalLM.generate`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import LogitsProcessor

from .evidence import Explanation
from .retrieved_context import RetrievedContext

MAX_SCORES_AT_ONCE = 2**26
"""Users times items whose scores are held at once (256 MB in float32); larger batches go in parts."""


@dataclass
class RecommendOutput:
    """Ranked items for a batch of users.

    Attributes:
        items: (batch, k) long item indices, best first; -1 where fewer than k candidates were left. The tensor carries
            its scores as `items.scores`, so that `processor.decode_items(out.items)` can show them.
        scores: (batch, k) float log-odds scores (unnormalised logits); -inf where `items` is -1.
        retrieved: what the memory found for the users, with its scores in parts; `None` without a memory.
        explanations: per user the [`Explanation`] of each item, best first, if they were asked for.
    """

    items: torch.Tensor
    scores: torch.Tensor
    retrieved: RetrievedContext | None = None
    explanations: list[list[Explanation]] | None = None

    def __post_init__(self) -> None:
        self.items.scores = self.scores


def candidate_mask(mask: torch.Tensor | None, batch: int, num_items: int, name: str) -> torch.Tensor | None:
    """Check an allow or deny mask and bring it to a shape that broadcasts over (batch, items).

    Raises:
        ValueError: if the mask is not boolean or has another shape than (items,) or (batch, items).
    """
    if mask is None:
        return None
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool or tuple(mask.shape) not in {(num_items,), (batch, num_items)}:
        raise ValueError(
            f"`{name}` has dtype {mask.dtype} and shape {tuple(mask.shape)}, expected bool of shape ({num_items},) or "
            f"({batch}, {num_items}). Make one from ids with `processor.item_mask([...])`."
        )
    return mask


def mask_rows(mask: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor | None:
    """A mask (items,) or (batch, items) for some of the users."""
    return mask if mask is None or mask.dim() == 1 else mask[rows]


def exclude(scores: torch.Tensor, allow: torch.Tensor | None, deny: torch.Tensor | None) -> torch.Tensor:
    """Scores with -inf at items that are not allowed or are denied."""
    if allow is not None:
        scores = scores.masked_fill(~allow.to(scores.device), float("-inf"))
    if deny is not None:
        scores = scores.masked_fill(deny.to(scores.device), float("-inf"))
    return scores


def exclude_seen(scores: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Scores with -inf at each user's seen items.

    Shape:
        - scores: (batch, items); seen: (batch, n) item indices, -1 for padding
    """
    padded = torch.cat([scores, scores.new_zeros(len(scores), 1)], dim=1)
    padded.scatter_(1, seen.masked_fill(seen < 0, scores.shape[1]), float("-inf"))
    return padded[:, :-1]


def top_k(scores: torch.Tensor, k: int) -> RecommendOutput:
    """The k best items of each row; rows with fewer finite scores end in -1."""
    best = scores.topk(min(k, scores.shape[1]), dim=1)
    values = F.pad(best.values, (0, k - best.values.shape[1]), value=float("-inf"))
    items = F.pad(best.indices, (0, k - best.indices.shape[1])).masked_fill(values.isneginf(), -1)
    return RecommendOutput(items=items, scores=values)


class ItemsOnlyLogitsProcessor(LogitsProcessor):
    """Keeps generation inside the catalog: text tokens, denied items and (optionally) repeated items get -inf.

    Args:
        text_vocab_size: V; token `V + i` is item `i`.
        allow: (items,) bool of items that may be generated; `None`: all.
        no_repeats: forbid items that already stand in the sequence, prompt included.
        seen: (users, n) item indices, -1 for padding, that `no_repeats` forbids too.
    """

    def __init__(
        self,
        text_vocab_size: int,
        allow: torch.Tensor | None = None,
        no_repeats: bool = False,
        seen: torch.Tensor | None = None,
    ):
        self.text_vocab_size = text_vocab_size
        self.allow = allow
        self.no_repeats = no_repeats
        self.seen = seen

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Mask the scores (batch, V + items) of the next token.

        Raises:
            ValueError: if no item is left for a sequence.
        """
        items = exclude(scores[:, self.text_vocab_size :], self.allow, None)
        if self.no_repeats:
            items = exclude_seen(items, (input_ids - self.text_vocab_size).clamp(min=-1))
            if self.seen is not None:
                # Beams and samples of a user stand next to each other.
                seen = self.seen.to(items.device).repeat_interleave(len(items) // len(self.seen), dim=0)
                items = exclude_seen(items, seen)
        spent = items.isneginf().all(-1)
        if spent.any():
            raise ValueError(
                f"generate has no item left for sequence {int(spent.nonzero()[0])} of {len(items)}: all that are "
                "allowed stand in it already. Ask for fewer (max_new_tokens), allow more, or pass no_repeats=False."
            )
        return torch.cat([torch.full_like(scores[:, : self.text_vocab_size], float("-inf")), items], dim=1)
