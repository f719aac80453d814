"""Length-bucketed batches: a history of seven events shares its batch with others of about seven, not with fifty.

Used by the trainer in place of a random sampler.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class LengthBucketSampler(Sampler[int]):
    """Indices in an order whose consecutive batches hold sequences of similar length, in random order.

    Sequences are shuffled, cut into chunks of many batches, sorted by length inside a chunk, and the batches shuffled.
    The order depends on the seed and the epoch alone, so a resumed run sees the batches it would have seen.

    Args:
        lengths: length of each sequence.
        batch_size: sequences per batch (per step, over all devices and accumulation steps).
        seed: of the order.
        chunk_batches: batches per chunk; larger chunks pad less and mix less.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int = 0, chunk_batches: int = 50):
        self.lengths = np.asarray(lengths)
        self.batch_size, self.seed, self.chunk_batches = batch_size, seed, chunk_batches
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.lengths))
        full, rest = [], []
        for start in range(0, len(order), self.batch_size * self.chunk_batches):
            chunk = order[start : start + self.batch_size * self.chunk_batches]
            chunk = chunk[np.argsort(self.lengths[chunk], kind="stable")]
            for first in range(0, len(chunk), self.batch_size):
                batch = chunk[first : first + self.batch_size]
                (full if len(batch) == self.batch_size else rest).append(batch)
        # The one short batch comes last, or every batch after it would straddle two buckets.
        batches = [full[index] for index in generator.permutation(len(full))] + rest
        return iter(np.concatenate(batches).tolist() if batches else [])
