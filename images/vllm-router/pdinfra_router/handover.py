"""Keep the serving vllm-router's members equal to those that are well, without losing a request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import ClientError, ClientSession, ClientTimeout

from pdinfra_router.members import Member, serves
from pdinfra_router.routers import Slot, Slots

READY_SECONDS = 60.0
"""A vllm-router whose members all answer is ready within 2 s (measured)."""
REMEMBERS = {"mooncake"}
"""vllm-router asks a bootstrap server for its engine's id once; one that was away has another."""
log = logging.getLogger(__name__)


class RouterDiedError(Exception):
    """The serving vllm-router ended by itself: Docker is to start the container anew."""


class Wellness(Protocol):
    """Who is wanted, and who of them is healthy, warmed up with a partner, and not stalled."""

    def wanted(self) -> tuple[Member, ...]:
        """Return the members of the file."""
        ...

    def well(self) -> tuple[Member, ...]:
        """Return those that may get requests, in the file's order."""
        ...


@dataclass(frozen=True)
class Pace:
    """``drain``: for requests of the router before; ``sick``: least seconds between two handovers

    for a member that fell sick or came back, so that one that wavers costs no more than that.
    """

    drain: float
    sick: float


class Handover:
    """Follows the members; starts, switches and drains routers."""

    def __init__(
        self,
        command: Sequence[str],
        protocol: str,
        slots: Slots,
        wellness: Wellness,
        session: ClientSession,
        pace: Pace,
    ) -> None:
        """Do nothing before ``watch``."""
        self.slots = slots
        self.draining = False
        self.error = ""
        self._command = tuple(command)
        self._protocol = protocol
        self._wellness = wellness
        self._session = session
        self._pace = pace
        self._sick: set[Member] = set()
        self._stale: set[Member] = set()
        self._sick_at = float("-inf")

    async def watch(self, seconds: float) -> None:
        """Converge every so many seconds until cancelled. Raises RouterDiedError."""
        while True:
            await self._look()
            await asyncio.sleep(seconds)

    async def _look(self) -> None:
        """Compare once, and hand over where something changed."""
        active = self.slots.active
        if active is not None and (code := active.ended()) is not None:
            raise RouterDiedError(f"vllm-router ended by itself with {code}")
        now = active.members if active else ()
        wanted, well = self._wellness.wanted(), self._wellness.well()
        self._sick &= set(wanted)
        fell = {member for member in now if member in wanted and member not in well}
        self._stale |= fell if self._protocol in REMEMBERS else set()
        if (well == now and not self._stale) or not serves(well):
            # The last of a role stays: vllm-router answers as soon as it does.
            return
        joined = {member for member in well if member not in now}
        left = {member for member in now if member not in wanted}
        for_health = not left and joined <= self._sick
        if for_health and time.monotonic() - self._sick_at < self._pace.sick:
            return
        if await self._hand_over(well):
            self._sick = (self._sick | fell) - set(well)
            self._stale.clear()
            self._sick_at = time.monotonic() if for_health else self._sick_at

    async def _hand_over(self, target: tuple[Member, ...]) -> bool:
        """Start a router with these members, switch to it when ready, drain the one before."""
        before, after = self.slots.active, self.slots.idle
        log.info("members become %s", ", ".join(member.id for member in target))
        try:
            after.start(self._command, target, self._protocol)
        except ValueError as error:
            self._say(str(error))
            return False
        if not await self._ready(after):
            self._say("a vllm-router with the new members did not become ready; the old one serves")
            after.stop()
            return False
        self._say("")
        self.slots.active = after
        if before is not None:
            await self._drain(before)
        return True

    async def _drain(self, before: Slot) -> None:
        """End a router once its requests are answered."""
        self.draining = True
        if not await before.drained(self._pace.drain):
            log.warning(
                "%d requests of members that left were cut after %.0f s",
                before.in_flight,
                self._pace.drain,
            )
        before.stop()
        self.draining = False

    async def _ready(self, slot: Slot) -> bool:
        """Wait until a router that was just started answers."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while slot.ended() is None:
                    if await self._answers(slot):
                        return True
                    await asyncio.sleep(0.2)
        except TimeoutError:
            return False
        return False

    async def _answers(self, slot: Slot) -> bool:
        """Ask one router whether it is up."""
        try:
            url = f"{slot.url}/liveness"
            async with self._session.get(url, timeout=ClientTimeout(total=2)) as answer:
                return answer.status == 200
        except (ClientError, TimeoutError, OSError):
            return False

    def _say(self, error: str) -> None:
        """Keep what is in the way, and log it once."""
        if error and error != self.error:
            log.warning("%s", error)
        self.error = error
