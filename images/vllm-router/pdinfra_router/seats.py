"""A member as the router sees it: its state, what it has in hand, and when it last did anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from pdinfra_router.members import Member


class TakenOutError(Exception):
    """The member was taken out while a request waited for its first byte; the text says why."""


class Leg:
    """One request at one engine; ``cut`` ends it when the member is taken out."""

    def __init__(self, cut: Callable[[], None]) -> None:
        """Say how to end it."""
        self.cut = cut


class Seat:
    """A member's place. Times are of ``time.monotonic``, in seconds."""

    def __init__(self, member: Member) -> None:
        """Begin without traffic."""
        self.member = member
        self.state = "starting"
        self.reason = "not asked yet"
        self.model = ""
        self.leaving = False
        self.doubted = False
        self.busy = 0
        self.sign_at = time.monotonic()
        self._legs: set[Leg] = set()
        self._in_hand_at = 0.0

    @property
    def serving(self) -> bool:
        """Tell whether new requests may go to it."""
        return self.state == "serving" and not self.leaving

    @property
    def in_hand(self) -> int:
        """How many requests, also the watch's own, are at the engine now."""
        return len(self._legs)

    def sign(self) -> None:
        """Note that the engine did something."""
        self.sign_at = time.monotonic()

    def silent(self) -> float:
        """Return for how long it has had something in hand and done nothing; 0 where idle."""
        if not self._legs:
            return 0.0
        return time.monotonic() - max(self.sign_at, self._in_hand_at)

    def become(self, state: str, reason: str) -> None:
        """Change the state; a member that stops to serve loses what it has in hand."""
        before, self.state, self.reason = self.state, state, reason
        if before == "serving" != state:
            self.cut()

    def cut(self) -> None:
        """End every request at the engine: what waits is tried elsewhere, a stream breaks off."""
        for leg in tuple(self._legs):
            leg.cut()

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Count a request that this member is chosen for, from the choice to its end."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    @contextmanager
    def leg(self) -> Iterator[Leg]:
        """Have a request in hand."""
        if not self._legs:
            self._in_hand_at = time.monotonic()
        leg = Leg(lambda: None)
        self._legs.add(leg)
        try:
            yield leg
        finally:
            self._legs.discard(leg)

    @asynccontextmanager
    async def waiting(self, leg: Leg) -> AsyncIterator[None]:
        """Wait for the engine in here. Raises TakenOutError once the member is taken out."""
        loop = asyncio.get_running_loop()
        scope = asyncio.timeout(None)
        try:
            async with scope:
                leg.cut = lambda: scope.reschedule(loop.time())
                yield
        except TimeoutError:
            if scope.expired():
                raise TakenOutError(self.reason) from None
            raise
        finally:
            leg.cut = lambda: None
