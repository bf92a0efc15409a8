"""Keep the serving vllm-router's members equal to the file, without losing a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from pdinfra_router.members import Member, answering, read, serves
from pdinfra_router.routers import Slot, Slots

READY_SECONDS = 60.0
"""A vllm-router whose members all answer is ready within 2 s (measured)."""
log = logging.getLogger(__name__)


class RouterDiedError(Exception):
    """The serving vllm-router ended by itself: Docker is to start the container anew."""


class Handover:
    """Watches the file and the members; starts, switches and drains routers."""

    def __init__(
        self,
        path: Path,
        command: Sequence[str],
        slots: Slots,
        session: ClientSession,
        drain_seconds: float,
    ) -> None:
        """Do nothing before ``watch``."""
        self.slots = slots
        self._path = path
        self._command = tuple(command)
        self._session = session
        self._drain_seconds = drain_seconds
        self._wanted: tuple[Member, ...] = ()
        self._draining = False
        self._error = ""

    def state(self) -> dict[str, Any]:
        """Return what a change of members waits for (GET /pdinfra/members)."""
        active = self.slots.active
        return {
            "wanted": [vars(member) for member in self._wanted],
            "active": [vars(member) for member in active.members] if active else [],
            "draining": self._draining,
            "in_flight": sum(slot.in_flight for slot in self.slots.all),
            "error": self._error,
        }

    async def watch(self, seconds: float) -> None:
        """Converge every so many seconds until cancelled. Raises RouterDiedError."""
        while True:
            await self._look()
            await asyncio.sleep(seconds)

    async def finish(self, seconds: float) -> None:
        """Wait for the requests that are being answered, at most so long."""
        async with asyncio.TaskGroup() as tasks:
            for slot in self.slots.all:
                tasks.create_task(slot.drained(seconds))

    async def _look(self) -> None:
        """Compare once, and hand over where something changed."""
        active = self.slots.active
        if active is not None and (code := active.ended()) is not None:
            raise RouterDiedError(f"vllm-router ended by itself with {code}")
        try:
            self._wanted = read(self._path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._say(f"{self._path}: {error!r}; the members stay as they are")
            return
        now = active.members if active else ()
        target = await self._target(now)
        missing = [member.id for member in self._wanted if member not in target]
        self._say(f"no answer yet from {', '.join(missing)}" if missing else "")
        if target != now and serves(target):
            await self._hand_over(target)

    async def _target(self, now: tuple[Member, ...]) -> tuple[Member, ...]:
        """Return the wanted members that serve already or answer: a sick one keeps nobody out.

        A member that serves stays while it is wanted: vllm-router itself passes over the sick.
        """
        absent = [member for member in self._wanted if member not in now]
        well = await answering(self._session, absent) if absent else set()
        return tuple(member for member in self._wanted if member in now or member in well)

    async def _hand_over(self, target: tuple[Member, ...]) -> None:
        """Start a router with these members, switch to it when ready, drain the one before."""
        before, after = self.slots.active, self.slots.idle
        log.info("members become %s", ", ".join(member.id for member in target))
        after.start(self._command, target)
        if not await self._ready(after):
            self._say("a vllm-router with the new members did not become ready; the old one serves")
            after.stop()
            return
        self.slots.active = after
        if before is None:
            return
        self._draining = True
        if not await before.drained(self._drain_seconds):
            log.warning(
                "%d requests of members that left were cut after %.0f s",
                before.in_flight,
                self._drain_seconds,
            )
        before.stop()
        self._draining = False

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
        if error and error != self._error:
            log.warning("%s", error)
        self._error = error
