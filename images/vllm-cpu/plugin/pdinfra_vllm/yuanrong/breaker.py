"""A circuit breaker: after a fault, no further try for a while."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Breaker:
    """Open after a fault, for a pause that doubles with each fault in a row."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start closed. ``clock`` returns seconds that never go back."""
        self._clock = clock
        self._open_until = 0.0
        self._faults = 0

    @property
    def is_open(self) -> bool:
        """Whether nothing should be tried now."""
        return self._faults > 0 and self._clock() < self._open_until

    @property
    def faults(self) -> int:
        """How many faults there were since the last success."""
        return self._faults

    def fault(self) -> float:
        """Open for the next pause and return its length in seconds."""
        pause = min(math.ldexp(FIRST_PAUSE_S, self._faults), LONGEST_PAUSE_S)
        self._faults = min(self._faults + 1, 16)
        self._open_until = self._clock() + pause
        return pause

    def success(self) -> bool:
        """Close, and return whether there had been faults."""
        had_faults = self._faults > 0
        self._faults = 0
        return had_faults
