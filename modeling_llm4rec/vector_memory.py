"""Vector memory: entries found by the likeness of their key to a query vector.

A source of `memory.py`: *behaviour* keeps the state that a user was in before an event, *metadata* what is written
about an item.
"""

from __future__ import annotations

from pathlib import Path

import torch

from .retrieved_context import strongest, time_decay
from .vector_index import VectorIndex, unit_rows

LARGEST_GROWTH = 0.25
"""Entries that may be added to an index, as a share of it, before it is built anew."""


class VectorMemory:
    r"""Entries with a key vector, an item, a time, a credibility and an owner.

    The similarity of an entry is :math:`e^{(\cos - 1) / \tau}` of the angle between its key and the query, so that
    entries of one item add up (the kernel of kNN-LM, Khandelwal et al., arXiv 1911.00172, on unit vectors).

    Args:
        width: of the key vectors.
        temperature: τ.
    """

    def __init__(self, width: int, temperature: float = 0.1):
        self.temperature = temperature
        self.keys = torch.zeros(0, width, dtype=torch.float16)
        self.items = torch.zeros(0, dtype=torch.long)
        self.times = torch.zeros(0, dtype=torch.long)
        self.credibility = torch.zeros(0)
        self.owners = torch.zeros(0, dtype=torch.long)
        self._stores: dict[str, torch.Tensor] = {}
        self.index: VectorIndex | None = None
        self._indexed = 0
        self._built = 0

    def __len__(self) -> int:
        """Number of entries that were not deleted."""
        return int((self.items >= 0).sum())

    @property
    def width(self) -> int:
        """Width of the key vectors."""
        return self.keys.shape[1]

    def add(
        self,
        keys: torch.Tensor,
        items: torch.Tensor,
        times: torch.Tensor | None = None,
        credibility: torch.Tensor | None = None,
        owners: torch.Tensor | None = None,
    ) -> None:
        """Append entries; they are found at once.

        Shape:
            - keys: (n, width) float; the others (n,): items, unix seconds (-1: unknown), credibility in (0, 1], user
              indices (-1: nobody's)

        Raises:
            ValueError: if shapes do not fit, or a key is not finite.
        """
        if keys.dim() != 2 or keys.shape[1] != self.width or len(keys) != len(items):
            raise ValueError(
                f"Keys have shape {tuple(keys.shape)} for {len(items)} items, expected ({len(items)}, {self.width})."
            )
        if not torch.isfinite(keys).all():
            bad = int((~torch.isfinite(keys).all(1)).nonzero()[0])
            raise ValueError(f"The key of entry {bad} is not finite; entries with such keys could never be found.")
        count = len(items)
        unknown = torch.full((count,), -1, dtype=torch.long)
        self._append(
            keys=unit_rows(keys.detach().cpu()).half(),
            items=items.detach().cpu().long(),
            times=unknown if times is None else times.cpu().long(),
            owners=unknown if owners is None else owners.cpu().long(),
            credibility=torch.ones(count) if credibility is None else credibility.cpu().float(),
        )

    def _append(self, **columns: torch.Tensor) -> None:
        """Rows at the end of every column; room for a quarter more is made at a time, so that one event is cheap."""
        for name, new in columns.items():
            old = getattr(self, name)
            used, needed = len(old), len(old) + len(new)
            store = self._stores.get(name)
            if store is None or len(store) < needed or store.data_ptr() != old.data_ptr():
                store = old.new_empty((needed + needed // 4 + 16, *old.shape[1:]))
                store[:used] = old
                self._stores[name] = store
            store[used:needed] = new
            setattr(self, name, store[:needed])

    def forget(self, entries: torch.Tensor) -> None:
        """Delete entries (n,) by number; numbers of others stay."""
        self.items[entries] = -1

    def _up_to_date(self) -> VectorIndex:
        count = len(self.keys)
        kind = VectorIndex.kind_for(count)
        if self.index is None or self.index.kind != kind or count - self._built > LARGEST_GROWTH * self._built + 1000:
            self.index, self._built = VectorIndex(kind, self.keys), count
        elif self._indexed < count:
            self.index.add(self.keys[self._indexed :])
        self._indexed = count
        return self.index

    def save_index(self, path: str | Path) -> str:
        """Write the index, and say its kind; an exact one needs no file."""
        try:
            self._up_to_date().save(path)
        except FileNotFoundError:  # it was mapped from a file that is gone
            self.index = None
            self._up_to_date().save(path)
        return self.index.kind

    def search(
        self,
        queries: torch.Tensor,
        k: int,
        entries: int,
        *,
        now: torch.Tensor | None = None,
        decay_rate: float = 0.0,
        credibility_weight: float = 1.0,
        before: torch.Tensor | None = None,
        without_owners: torch.Tensor | None = None,
        without_items: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Items of the entries whose keys are most like the queries.

        Args:
            queries: (batch, width); a row of zeros finds nothing.
            k: items to find.
            entries: entries that are looked at for each user.
            now, decay_rate, credibility_weight: as of `TransitionMemory.search`.
            before: (batch,) unix seconds; later entries are left out, and those of unknown time.
            without_owners: (batch,) user indices whose entries are left out.
            without_items: (batch, n) items that are left out, -1 for padding.

        Returns:
            items, similarity, decay, credibility, each (batch, k).
        """
        queries = unit_rows(queries.detach().cpu())
        if not len(self.keys):
            nothing = torch.zeros(len(queries), 0)
            return strongest(nothing.long(), nothing, nothing, nothing, k)
        restricted = before is not None or without_owners is not None
        cosine, rows = self._up_to_date().search(queries, entries * (4 if restricted else 1))
        found = rows.clamp(min=0)
        items, times = self.items[found], self.times[found]
        there = (rows >= 0) & (items >= 0) & (queries.abs().sum(1, keepdim=True) > 0)
        if before is not None:
            there &= (times >= 0) & (times < before.view(-1, 1))
        if without_owners is not None:
            there &= self.owners[found] != without_owners.view(-1, 1)
        if without_items is not None:
            there &= ~(items.unsqueeze(-1) == without_items.unsqueeze(1)).any(-1)
        there &= there.long().cumsum(1) <= entries
        similarity = torch.exp((cosine - 1) / self.temperature) * there
        decay = time_decay(times, now, decay_rate)
        credibility = self.credibility[found] ** credibility_weight
        return strongest(items.masked_fill(~there, -1), similarity, decay, credibility, k)


__all__ = ["VectorMemory"]
