"""Who may get requests: members that are healthy, warmed up, and that do something."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from pdinfra_router.engine import SILENT, health, model, work
from pdinfra_router.exchange import LegError
from pdinfra_router.figures import Figures
from pdinfra_router.members import Member, read
from pdinfra_router.seats import Seat
from pdinfra_router.warmup import WarmUp

SILENT_TIMES = 3
"""A busy engine may miss one look at /health, of 5 s each."""
LATE_SECONDS = 1.0
"""When this process itself is behind by so much, nobody's silence proves anything."""
STEADY_SECONDS = 300.0
"""A member that served so long is let in at once after a fault; others wait longer each time."""
PAUSE_SECONDS = 60.0
OTHER = {"prefill": "decode", "decode": "prefill"}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """``stall``: silence after which a member is taken out; ``drain``: to leave. Seconds."""

    stall: float
    drain: float


class Watch:
    """Follows the file and each member: /health, a warm-up, then signs of progress.

    A member is taken out, never ended: it comes back when it is well and warmed up again.
    """

    def __init__(
        self,
        path: Path,
        session: ClientSession,
        warm_up: WarmUp,
        figures: Figures,
        limits: Limits,
    ) -> None:
        """Do nothing before ``watch``."""
        self._path = path
        self._session = session
        self._warm_up = warm_up
        self._figures = figures
        self._limits = limits
        self._wanted: tuple[Member, ...] = ()
        self._seats: dict[Member, Seat] = {}
        self._tasks: dict[Member, asyncio.Task[None]] = {}
        self._leave_by: dict[Member, float] = {}
        self._error = ""
        self._changed = asyncio.Event()

    @property
    def seats(self) -> Sequence[Seat]:
        """All members, also those that leave."""
        return tuple(self._seats.values())

    def serving(self, *roles: str) -> list[Seat]:
        """Return the members of these roles that may get requests, in the file's order."""
        wanted = (self._seats.get(member) for member in self._wanted)
        return [seat for seat in wanted if seat and seat.serving and seat.member.role in roles]

    async def changed(self) -> None:
        """Wait until another set of members serves."""
        await self._changed.wait()

    def state(self) -> dict[str, Any]:
        """Return who serves, each one's state, and what is in the way (GET /pdinfra/members)."""
        absent = [
            f"{seat.member.id} ({seat.reason})"
            for seat in self._seats.values()
            if not seat.serving and not seat.leaving
        ]
        waits = f"no answer yet from {', '.join(absent)}" if absent else ""
        return {
            "wanted": [vars(member) for member in self._wanted],
            "active": [vars(seat.member) for seat in self.serving("prefill", "decode", "mixed")],
            "draining": any(seat.leaving for seat in self._seats.values()),
            "in_flight": sum(seat.busy for seat in self._seats.values()),
            "error": self._error or waits,
            "members": [
                {
                    "id": seat.member.id,
                    "role": seat.member.role,
                    "state": "leaving" if seat.leaving else seat.state,
                    "reason": seat.reason,
                    "busy": seat.busy,
                }
                for seat in self._seats.values()
            ],
        }

    async def watch(self, seconds: float) -> None:
        """Look every so many seconds until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._converge(tasks, seconds)
                await asyncio.sleep(seconds)

    def _converge(self, tasks: asyncio.TaskGroup, seconds: float) -> None:
        """Let members join and leave as the file says."""
        try:
            wanted = read(self._path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            fault = f"{self._path}: {error!r}; the members stay as they are"
            if fault != self._error:
                log.warning("%s", fault)
            self._error = fault
            return
        self._error = ""
        if wanted != self._wanted:
            log.info("members are to be %s", ", ".join(member.id for member in wanted))
            self._wanted = wanted
            self._tell()
        for member in wanted:
            if member not in self._seats:
                self._seats[member] = Seat(member)
                self._tasks[member] = tasks.create_task(self._follow(member, seconds))
        for member, seat in tuple(self._seats.items()):
            seat.leaving = member not in wanted
            if seat.leaving:
                self._leave(member, seat)
            else:
                self._leave_by.pop(member, None)

    def _leave(self, member: Member, seat: Seat) -> None:
        """Let a member go once its requests have ended, or after the time for that."""
        until = self._leave_by.setdefault(member, time.monotonic() + self._limits.drain)
        if seat.busy and time.monotonic() < until:
            return
        if seat.busy:
            log.warning(
                "%s: %d requests were cut after %.0f s", member.id, seat.busy, self._limits.drain
            )
        seat.become("out", "left")
        self._tasks.pop(member).cancel()
        del self._seats[member], self._leave_by[member]

    async def _follow(self, member: Member, seconds: float) -> None:
        """Let one member in when it is well, and take it out when it is not; for ever."""
        seat = self._seats[member]
        pause = seconds
        while True:
            await self._admit(seat, seconds)
            began = time.monotonic()
            fault = await self._fault(seat, seconds)
            log.warning("%s is taken out: %s", member.id, fault)
            self._figures.ejections.labels(member.id).inc()
            seat.become("out", fault)
            self._tell()
            steady = time.monotonic() - began > STEADY_SECONDS
            pause = seconds if steady else min(2 * pause, PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _admit(self, seat: Seat, seconds: float) -> None:
        """Wait until a member answers and is warmed up, then let it serve."""
        while True:
            fault = await health(self._session, seat.member)
            if not fault:
                seat.become("warming", "warming up")
                fault = await self._warmed(seat)
            if not fault:
                seat.sign()
                seat.become("serving", "")
                log.info("%s serves", seat.member.id)
                self._tell()
                return
            if fault != seat.reason:
                log.info("%s: %s", seat.member.id, fault)
            seat.become("out", fault)
            await asyncio.sleep(seconds)

    async def _warmed(self, seat: Seat) -> str:
        """Warm a member up with each partner that serves, else alone; return what is wrong.

        One good partner is enough: one that is sick itself must not keep others out. A partner that
        begins to serve meanwhile is looked for until the end, so every pair is warmed by one side.
        """
        seat.model = await model(self._session, seat.member)
        if not seat.model:
            return "does not tell its model"
        tried: dict[Member, str] = {}
        alone: str | None = None
        while True:
            partner = next((p for p in self._partners(seat) if p.member not in tried), None)
            if partner is not None:
                tried[partner.member] = await self._warm_up.pair(seat, partner)
            elif tried:
                return "" if "" in tried.values() else next(iter(tried.values()))
            elif alone is None:
                alone = await self._warm_up.alone(seat)
            else:
                return alone

    async def _fault(self, seat: Seat, seconds: float) -> str:
        """Watch a member that serves; return once it must not any more, and why."""
        stall = self._limits.stall
        silent = 0
        done: tuple[str, ...] = ()
        probe: asyncio.Task[str] | None = None
        try:
            while True:
                due = time.monotonic() + seconds
                await asyncio.sleep(seconds)
                if time.monotonic() - due > LATE_SECONDS:
                    continue
                fault = await health(self._session, seat.member)
                silent = silent + 1 if fault == SILENT else 0
                if fault and (fault != SILENT or silent >= SILENT_TIMES):
                    return fault
                idle = not seat.in_hand and time.monotonic() - seat.sign_at >= stall
                if idle or seat.silent() >= stall / 4:
                    before, done = done, await work(self._session, seat.member)
                    if done != before and before and done:
                        seat.sign()
                        continue
                if seat.silent() >= stall:
                    return f"nothing came back from it for {stall:g} s"
                if probe is not None and probe.done():
                    if fault := probe.result():
                        return fault
                    probe = None
                wanted = idle or seat.doubted or seat.silent() >= stall / 2
                if wanted and probe is None:
                    seat.doubted = False
                    probe = asyncio.create_task(self._probe(seat))
        finally:
            if probe is not None:
                probe.cancel()

    async def _probe(self, seat: Seat) -> str:
        """Ask for a sign of life; return how the member failed. That none comes is silence."""
        try:
            await self._warm_up.probe(seat, next(iter(self._partners(seat)), None))
        except LegError as error:
            return str(error) if error.seat is seat else ""
        return ""

    def _partners(self, seat: Seat) -> list[Seat]:
        """Return the members of the other role that serve."""
        return self.serving(OTHER.get(seat.member.role, ""))

    def _tell(self) -> None:
        """Wake those that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()
