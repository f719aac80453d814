"""Limits: how often and how much a visitor may ask, so that one cannot spend what is everybody's."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

LONGEST_QUERY = 100
LONGEST_TITLE = 120
LONGEST_VALUE = 60
MOST_RECOMMENDED = 20

PER_VISITOR = (4.0, 30)
PER_ADDRESS = (60.0, 600)
"""Requests a second in the long run, and at once."""


class TooManyRequestsError(ValueError):
    """A visitor asked more often than is allowed."""


class RateLimit:
    """A bucket of requests for each key, filled at a steady rate (token bucket).

    Args:
        per_second: rate.
        at_once: size of the bucket.
        most_keys: keys that are remembered; the longest idle ones are forgotten.
        clock: gives seconds.
    """

    def __init__(
        self, per_second: float, at_once: int, most_keys: int = 10_000, clock: Callable[[], float] = time.monotonic
    ):
        self.per_second, self.at_once, self.most_keys, self.clock = per_second, at_once, most_keys, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> None:
        """Count a request.

        Raises:
            TooManyRequestsError: if the bucket is empty, saying when to come back.
        """
        now = self.clock()
        with self._lock:
            left, then = self._left.pop(key, (float(self.at_once), now))
            left = min(float(self.at_once), left + (now - then) * self.per_second)
            enough = left >= 1
            self._left[key] = (left - 1 if enough else left, now)
            while len(self._left) > self.most_keys:
                self._left.popitem(last=False)
        if not enough:
            raise TooManyRequestsError(
                f"Too many requests: {self.per_second:g} a second are allowed, {self.at_once} at once. Wait "
                f"{(1 - left) / self.per_second:.1f} seconds and try again."
            )
