"""Transition memory: which items soon followed which, in everybody's histories.

A source of `memory.py`; its entries are found by the items of the user's history, not by a vector.
"""

from __future__ import annotations

from typing import Any

import torch

from .retrieved_context import strongest, time_decay

MAX_FOLLOWERS = 200
"""Followers of an item that one search looks at, the best supported ones."""

MAX_RECENT = 4096
"""Transitions added since the last merge; above, they are merged into the sorted table."""


class TransitionMemory:
    r"""Entries (anchor, item) with the support that the histories gave them.

    A pair that stands d events apart, d up to the window, adds 1/d to the support. The similarity of item i to a
    history whose latest event is of age 0 is

    .. math:: \sum_j \rho^{a_j} \frac{\mathrm{support}(j, i)}{\sqrt{n_j n_i}}

    with n the number of events of an item: the row `transitions` of the benchmarks as a memory (Kamehkhosh, Jannach
    and Ludewig, *A comparison of frequent pattern techniques and a deep learning method for session-based
    recommendation*, RecSys 2017 workshop, for the distance weights).

    Args:
        num_items: size of the catalog.
        window: longest distance of a transition, in events.
    """

    def __init__(self, num_items: int, window: int = 5):
        self.window = window
        self.counts = torch.zeros(num_items)
        self._pairs = _empty_pairs()
        self._offsets = torch.zeros(num_items + 1, dtype=torch.long)
        self._recent: list[dict[str, torch.Tensor]] = []

    def __len__(self) -> int:
        """Number of entries; those added lately count one by one."""
        return len(self._pairs["anchor"]) + sum(len(part["anchor"]) for part in self._recent)

    @property
    def num_items(self) -> int:
        """Size of the catalog."""
        return len(self.counts)

    def grow(self, num_items: int) -> None:
        """Make room for items that were appended to the catalog."""
        more = num_items - self.num_items
        if more > 0:
            self.counts = torch.cat([self.counts, torch.zeros(more)])
            self._offsets = torch.cat([self._offsets, self._offsets[-1:].expand(more)])

    def learn(
        self,
        items: torch.Tensor,
        lengths: torch.Tensor,
        times: torch.Tensor | None = None,
        credibility: torch.Tensor | None = None,
    ) -> None:
        """Take in whole histories, one after the other.

        Shape:
            - items: (events,) long; lengths: (histories,) long, events of each
            - times: (events,) long unix seconds, -1 for unknown; credibility: (events,) float in (0, 1]
        """
        parts = []
        owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        for distance in range(1, min(self.window, max(0, len(items) - 1)) + 1):
            together = owner[:-distance] == owner[distance:]
            later = torch.nonzero(together).flatten() + distance
            parts.append(_pairs_of(items[later - distance], items[later], 1 / distance, later, times, credibility))
        self.counts.index_add_(0, items, torch.ones(len(items)))
        if parts:
            self._merge([{name: torch.cat([part[name] for part in parts]) for name in parts[0]}])

    def add(
        self,
        history: torch.Tensor,
        item: int,
        time: int = -1,
        credibility: float = 1.0,
        sign: float = 1.0,
    ) -> None:
        """One event: `item` after the items of `history` (n,) long, the latest last. `sign=-1` takes it out again."""
        latest = history[history >= 0][-self.window :].flip(0)
        distance = torch.arange(1, len(latest) + 1)
        self._recent.append(
            {
                "anchor": latest.long(),
                "item": torch.full_like(latest, item, dtype=torch.long),
                "support": sign / distance,
                "time": torch.full_like(latest, time, dtype=torch.long),
                "credibility": torch.full((len(latest),), credibility),
            }
        )
        self.counts[item] = (self.counts[item] + sign).clamp(min=0)
        if sum(len(part["anchor"]) for part in self._recent) > MAX_RECENT:
            self._merge(self._recent)
            self._recent = []

    def _merge(self, parts: list[dict[str, torch.Tensor]]) -> None:
        """Sum the support of equal pairs and sort: by anchor, the best supported first."""
        pairs = {name: torch.cat([values, *(part[name] for part in parts)]) for name, values in self._pairs.items()}
        key = pairs["anchor"] * self.num_items + pairs["item"]
        key, group = key.unique(return_inverse=True)
        support = torch.zeros(len(key)).index_add_(0, group, pairs["support"])
        trusted = torch.zeros(len(key)).index_add_(0, group, pairs["support"] * pairs["credibility"])
        latest = torch.full((len(key),), -1, dtype=torch.long).scatter_reduce_(
            0, group, pairs["time"], reduce="amax", include_self=True
        )
        kept = support > 1e-6
        anchor, item, support, latest = (
            key[kept] // self.num_items,
            key[kept] % self.num_items,
            support[kept],
            latest[kept],
        )
        trusted = (trusted[kept] / support).clamp(0, 1)
        order = (anchor.double() * 2 - support.double() / (support.max() + 1) if len(support) else anchor).argsort()
        self._pairs = {
            "anchor": anchor[order],
            "item": item[order],
            "support": support[order],
            "time": latest[order],
            "credibility": trusted[order],
        }
        self._offsets = torch.zeros(self.num_items + 1, dtype=torch.long)
        self._offsets[1:] = torch.bincount(anchor, minlength=self.num_items).cumsum(0)

    def search(
        self,
        history: torch.Tensor,
        k: int,
        recency: float = 0.7,
        *,
        now: torch.Tensor | None = None,
        decay_rate: float = 0.0,
        credibility_weight: float = 1.0,
        before: torch.Tensor | None = None,
        own_events: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Items that followed those of the histories.

        Args:
            history: (batch, n) item indices, latest first, -1 for none.
            k: items to find.
            recency: weight of an event relative to the one after it, ρ.
            now: (batch,) unix seconds of the request.
            decay_rate: λ, per day.
            credibility_weight: exponent of the credibility.
            before: (batch,) unix seconds; entries whose latest support is not older are left out, unknown times too.
            own_events: (batch, m) all events of the user that the memory has learned, in their order, -1 for none:
                what they added to the support is taken out.

        Returns:
            items, similarity, decay, credibility, each (batch, k).
        """
        weights = recency ** torch.arange(history.shape[1], dtype=torch.float32)
        parts = [self._from_table(history, weights, before)]
        parts += [self._from_recent(history, weights, before)] if self._recent else []
        if own_events is not None:
            parts.append(self._own(history, weights, own_events))
        items, similarity, times, credibility = (torch.cat(columns, dim=1) for columns in zip(*parts, strict=True))
        decay = time_decay(times, now, decay_rate)
        return strongest(items, similarity, decay, credibility**credibility_weight, k)

    def _scaled(self, anchors: torch.Tensor, items: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
        """Support over the root of both items' events."""
        both = self.counts[anchors.clamp(min=0)].clamp(min=1) * self.counts[items.clamp(min=0)].clamp(min=1)
        return support / both.sqrt()

    def _from_table(
        self, history: torch.Tensor, weights: torch.Tensor, before: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        anchors = history.clamp(min=0)
        first, last = self._offsets[anchors], self._offsets[anchors + 1]
        longest = int((last - first).max()) if history.numel() else 0
        place = first.unsqueeze(-1) + torch.arange(min(longest, MAX_FOLLOWERS))
        there = (place < last.unsqueeze(-1)) & (history >= 0).unsqueeze(-1)
        place = place.masked_fill(~there, 0)
        if not len(self._pairs["item"]):
            place = place[..., :0]
            there = there[..., :0]
        items, times = self._pairs["item"][place], self._pairs["time"][place]
        if before is not None:
            there = there & (times >= 0) & (times < before.view(-1, 1, 1))
        similarity = self._scaled(anchors.unsqueeze(-1), items, self._pairs["support"][place]) * weights.view(1, -1, 1)
        credibility = self._pairs["credibility"][place]
        items = items.masked_fill(~there, -1)
        return tuple(part.flatten(1) for part in (items, similarity, times, credibility))

    def _from_recent(
        self, history: torch.Tensor, weights: torch.Tensor, before: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        recent = {name: torch.cat([part[name] for part in self._recent]) for name in self._pairs}
        return self._matching(history, weights, before, **{name: values[None] for name, values in recent.items()})

    def _own(self, history: torch.Tensor, weights: torch.Tensor, events: torch.Tensor) -> tuple[torch.Tensor, ...]:
        anchors, items, support = [], [], []
        for distance in range(1, min(self.window, events.shape[1] - 1) + 1):
            anchors.append(events[:, :-distance])
            items.append(events[:, distance:].masked_fill(events[:, :-distance] < 0, -1))
            support.append(torch.full(items[-1].shape, -1.0 / distance))
        if not anchors:
            anchors, items, support = [events[:, :0]], [events[:, :0]], [torch.zeros(events[:, :0].shape)]
        anchor, item = torch.cat(anchors, 1), torch.cat(items, 1)
        unknown = torch.full(item.shape, -1, dtype=torch.long)
        credibility = torch.ones(item.shape)
        return self._matching(history, weights, None, anchor, item, torch.cat(support, 1), unknown, credibility)

    def _matching(
        self,
        history: torch.Tensor,
        weights: torch.Tensor,
        before: torch.Tensor | None,
        anchor: torch.Tensor,
        item: torch.Tensor,
        support: torch.Tensor,
        time: torch.Tensor,
        credibility: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Pairs (1 or batch, pairs) whose anchor stands in the history, weighted by the anchor's age."""
        same = (history.unsqueeze(-1) == anchor.unsqueeze(1)) & (history >= 0).unsqueeze(-1)
        weight = (same * weights.view(1, -1, 1)).sum(1)
        shape = weight.shape
        item, time, credibility = item.expand(shape), time.expand(shape), credibility.expand(shape)
        there = (weight > 0) & (item >= 0)
        if before is not None:
            there = there & (time >= 0) & (time < before.view(-1, 1))
        similarity = self._scaled(anchor.expand(shape), item, support.expand(shape)) * weight
        return item.masked_fill(~there, -1), similarity, time, credibility

    def forget_items(self, items: torch.Tensor) -> None:
        """Delete every entry of these items, as anchors too."""
        self._merge(self._recent)
        self._recent = []
        drop = torch.isin(self._pairs["anchor"], items) | torch.isin(self._pairs["item"], items)
        self._pairs = {name: values[~drop] for name, values in self._pairs.items()}
        self.counts[items] = 0
        self._merge([])

    def columns(self) -> dict[str, Any]:
        """All entries, merged: `anchor item support time credibility`."""
        if self._recent:
            self._merge(self._recent)
            self._recent = []
        return dict(self._pairs)

    @classmethod
    def from_columns(cls, columns: dict[str, torch.Tensor], counts: torch.Tensor, window: int) -> TransitionMemory:
        """What `columns` gave and `counts` held."""
        memory = cls(len(counts), window)
        memory.counts = counts
        memory._pairs = columns
        memory._offsets[1:] = torch.bincount(columns["anchor"], minlength=len(counts)).cumsum(0)
        return memory


def _empty_pairs() -> dict[str, torch.Tensor]:
    whole, real = torch.zeros(0, dtype=torch.long), torch.zeros(0)
    return {"anchor": whole, "item": whole, "support": real, "time": whole, "credibility": real}


def _pairs_of(
    anchor: torch.Tensor,
    item: torch.Tensor,
    support: float,
    event: torch.Tensor,
    times: torch.Tensor | None,
    credibility: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    return {
        "anchor": anchor,
        "item": item,
        "support": torch.full((len(item),), support),
        "time": torch.full_like(item, -1) if times is None else times[event],
        "credibility": torch.ones(len(item)) if credibility is None else credibility[event],
    }


__all__ = ["TransitionMemory"]
