"""The backend that is vllm-router: a process for a set of members, another for the next set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from pdinfra_router.backend import Answer, Call, UnavailableError
from pdinfra_router.handover import Handover, Pace
from pdinfra_router.headers import kept
from pdinfra_router.members import Member
from pdinfra_router.routers import Slots
from pdinfra_router.watch import Watch

SPOKEN = ("nixl", "mooncake")
"""Of this project's protocols; vllm-router 0.1.17 takes --kv-connector nixl, mooncake, moriio."""
METRICS_TIMEOUT = ClientTimeout(total=5)


class VllmRouter:
    """Answers by way of the vllm-router that serves now."""

    def __init__(
        self,
        command: Sequence[str],
        protocol: str,
        slots: Slots,
        watch: Watch,
        session: ClientSession,
        pace: Pace,
    ) -> None:
        """Start nothing before ``watch``."""
        self._slots = slots
        self._watch = watch
        self._session = session
        self._handover = Handover(command, protocol, slots, self, session, pace)

    def wanted(self) -> tuple[Member, ...]:
        """Return the members of the file."""
        return tuple(seat.member for seat in self._watch.seats if not seat.leaving)

    def well(self) -> tuple[Member, ...]:
        """Return those that are healthy, warmed up and not stalled."""
        return tuple(seat.member for seat in self._watch.serving("prefill", "decode", "mixed"))

    def open(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """Return the answer as it comes. Raises UnavailableError before its first byte."""
        return self._open(call)

    async def watch(self, seconds: float) -> None:
        """Follow the members until cancelled. Raises RouterDiedError in a group."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.watch(seconds))
            tasks.create_task(self._handover.watch(seconds))

    async def finish(self, seconds: float) -> None:
        """Wait for the requests that are being answered, at most so long."""
        async with asyncio.TaskGroup() as tasks:
            for slot in self._slots.all:
                tasks.create_task(slot.drained(seconds))

    def state(self) -> dict[str, Any]:
        """Return who serves and what a change of members waits for."""
        found = self._watch.state()
        active = self._slots.active
        return {
            **found,
            "active": [vars(member) for member in active.members] if active else [],
            "draining": self._handover.draining,
            "in_flight": sum(slot.in_flight for slot in self._slots.all),
            "error": self._handover.error or found["error"],
        }

    async def metrics(self) -> bytes:
        """Return the metrics of the vllm-router that serves, empty if none does."""
        slot = self._slots.active
        if slot is None:
            return b""
        try:
            async with self._session.get(slot.metrics_url, timeout=METRICS_TIMEOUT) as answer:
                return await answer.read() if answer.status == 200 else b""
        except (ClientError, TimeoutError):
            return b""

    def stop(self) -> None:
        """End all processes."""
        self._slots.stop()

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Answer]:
        """Send a request to one router; it stays there until its answer ended."""
        slot = self._slots.active
        if slot is None:
            raise UnavailableError("no prefill and decode pair answers yet")
        slot.in_flight += 1
        try:
            async with AsyncExitStack() as stack:
                request = self._session.request(
                    call.method,
                    URL(f"{slot.url}{call.path}", encoded=True),
                    headers=call.headers,
                    data=call.body or None,
                    allow_redirects=False,
                )
                try:
                    answer = await stack.enter_async_context(request)
                except ClientError:
                    raise UnavailableError("the router did not answer") from None
                yield Answer(answer.status, kept(answer.headers), answer.content.iter_any())
        finally:
            slot.in_flight -= 1
