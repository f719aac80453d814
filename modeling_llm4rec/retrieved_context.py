"""Retrieved context: items that a memory found for a user, each with the parts of its relevance.

Made by the memory's sources, read by the retrieval adapter, and returned to the caller as evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

SECONDS_A_DAY = 86_400.0


@dataclass
class RetrievedContext:
    r"""The best items of every source of a memory for a batch of users.

    .. math:: \text{relevance} \propto \text{similarity} \times e^{-\lambda \Delta t} \times \text{credibility}

    normalised over a user's items of one source. Where several entries speak for one item, `similarity` is their sum,
    `decay` and `credibility` are means weighted by it.

    Attributes:
        sources: names of the sources, in the order of the second axis.
        items: (batch, sources, k) long, best first; -1 where fewer were found.
        similarity, decay, credibility, relevance: (batch, sources, k) float, 0 where there is no item.
    """

    sources: tuple[str, ...]
    items: torch.Tensor
    similarity: torch.Tensor
    decay: torch.Tensor
    credibility: torch.Tensor
    relevance: torch.Tensor

    @property
    def strength(self) -> torch.Tensor:
        """Similarity × decay × credibility, before it is normalised; (batch, sources, k)."""
        return self.similarity * self.decay * self.credibility

    def to(self, device: torch.device | str) -> RetrievedContext:
        """The same on another device."""
        values = {name: getattr(self, name).to(device) for name in _PARTS}
        return RetrievedContext(sources=self.sources, **values)

    def rows(self, index: torch.Tensor) -> RetrievedContext:
        """Some of the users."""
        values = {name: getattr(self, name)[index] for name in _PARTS}
        return RetrievedContext(sources=self.sources, **values)

    def shortened(self, k: int) -> RetrievedContext:
        """The k best items of every source; relevance is normalised over them."""
        parts = (self.items, self.similarity, self.decay, self.credibility)
        best = {source: tuple(part[:, place, :k] for part in parts) for place, source in enumerate(self.sources)}
        return RetrievedContext.of(best)

    @classmethod
    def of(cls, parts: dict[str, tuple[torch.Tensor, ...]]) -> RetrievedContext:
        """From (items, similarity, decay, credibility) of each source, each (batch, k)."""
        items, similarity, decay, credibility = (
            torch.stack([part[index] for part in parts.values()], dim=1) for index in range(4)
        )
        strength = similarity * decay * credibility
        total = strength.sum(-1, keepdim=True)
        relevance = torch.where(total > 0, strength / total.clamp(min=torch.finfo(strength.dtype).tiny), 0.0)
        return cls(tuple(parts), items, similarity, decay, credibility, relevance)

    @classmethod
    def concatenate(cls, parts: list[RetrievedContext]) -> RetrievedContext:
        """The users of several batches, one after the other."""
        values = {name: torch.cat([getattr(part, name) for part in parts]) for name in _PARTS}
        return cls(sources=parts[0].sources, **values)


_PARTS = ("items", "similarity", "decay", "credibility", "relevance")


def strongest(
    items: torch.Tensor, similarity: torch.Tensor, decay: torch.Tensor, credibility: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Put entries that speak for one item together, and keep the k items of the highest strength.

    Shape:
        - items: (batch, entries) long, -1 for none; the others (batch, entries) float
        - returns: items, similarity, decay, credibility, each (batch, k)
    """
    items, order = items.sort(dim=1)
    weight = similarity.gather(1, order).masked_fill(items < 0, 0.0)
    decayed = weight * decay.gather(1, order)
    strength = decayed * credibility.gather(1, order)
    starts = torch.ones_like(items, dtype=torch.bool)
    starts[:, 1:] = items[:, 1:] != items[:, :-1]
    group = starts.long().cumsum(1) - 1
    sums = [torch.zeros_like(weight).scatter_add_(1, group, part) for part in (weight, decayed, strength)]
    grouped = torch.full_like(items, -1).scatter_(1, group, items)
    # Rounding must not leave a trace of entries that were taken out again.
    enough = (grouped >= 0) & (sums[2] > 1e-7)
    ranked = sums[2].masked_fill(~enough, -torch.inf)
    best = ranked.topk(min(k, ranked.shape[1]), dim=1)
    found = best.values > -torch.inf
    weight, decayed, strength = (part.gather(1, best.indices).masked_fill(~found, 0.0) for part in sums)
    columns = (
        grouped.gather(1, best.indices).masked_fill(~found, -1),
        weight,
        torch.where(found, decayed / weight.clamp(min=1e-30), 0.0),
        torch.where(found, strength / decayed.clamp(min=1e-30), 0.0),
    )
    missing = (0, k - found.shape[1])
    return tuple(
        torch.nn.functional.pad(column, missing, value=-1 if index == 0 else 0.0)
        for index, column in enumerate(columns)
    )


def time_decay(times: torch.Tensor, now: torch.Tensor | None, rate: float) -> torch.Tensor:
    r""":math:`e^{-\lambda \Delta t}` with Δt in days; 1 where a time is unknown (negative) or `rate` is 0.

    Shape:
        - times: (batch, …) long unix seconds; now: (batch,) long
    """
    if now is None or not rate:
        return torch.ones(times.shape, device=times.device)
    now = now.view(-1, *[1] * (times.dim() - 1))
    age = (now - times).clamp(min=0) / SECONDS_A_DAY
    return torch.where((times < 0) | (now < 0), 1.0, torch.exp(-rate * age))


__all__ = ["RetrievedContext", "strongest", "time_decay"]
