"""When a vllm-router is renewed; the routers are the fake one's processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import ClientSession

from pdinfra_router.handover import Handover, Pace
from pdinfra_router.members import Member
from pdinfra_router.routers import Slot, Slots
from tests.router.running import FAKE, free_ports

P0 = Member("p0", "prefill", "http://127.0.0.1:1", "http://127.0.0.1:8998")
D0 = Member("d0", "decode", "http://127.0.0.1:2")
D1 = Member("d1", "decode", "http://127.0.0.1:3")


class Health:
    """Says what a test says."""

    def __init__(self, *members: Member) -> None:
        self.all = self.now = members
        self.looks = 0

    def wanted(self) -> tuple[Member, ...]:
        return self.all

    def well(self) -> tuple[Member, ...]:
        self.looks += 1
        return self.now


@asynccontextmanager
async def handing_over(health: Health, protocol: str, sick: float) -> AsyncIterator[Slots]:
    ports = iter(free_ports(4))
    slots = Slots([Slot(next(ports), next(ports)) for _ in range(2)])
    command = (sys.executable, str(FAKE))
    async with ClientSession() as session:
        handover = Handover(command, protocol, slots, health, session, Pace(drain=1, sick=sick))
        watching = asyncio.create_task(handover.watch(0.05))
        try:
            await until(lambda: slots.active is not None)
            yield slots
        finally:
            watching.cancel()
            slots.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


def test_a_lone_prefill_that_was_away_renews_a_router_that_remembers_its_engine() -> None:
    async def go() -> None:
        health = Health(P0, D0)
        async with handing_over(health, "mooncake", 0) as slots:
            before, looks = slots.active, health.looks
            health.now = (D0,)
            await until(lambda: health.looks > looks + 1)
            assert slots.active is before
            health.now = (P0, D0)
            await until(lambda: slots.active is not before)
            assert slots.active is not None
            assert slots.active.members == (P0, D0)

    asyncio.run(go())


def test_a_member_that_wavers_costs_one_handover_in_so_many_seconds() -> None:
    async def go() -> None:
        health = Health(P0, D0, D1)
        async with handing_over(health, "nixl", 60) as slots:
            health.now = (P0, D0)
            await until(lambda: slots.active is not None and slots.active.members == (P0, D0))
            without = slots.active
            health.now = (P0, D0, D1)
            looks = health.looks
            await until(lambda: health.looks > looks + 5)
            assert slots.active is without
            # What the inventory changes does not wait, and takes along what is well by then.
            new = Member("d2", "decode", "http://127.0.0.1:4")
            health.all = health.now = (P0, D0, D1, new)
            await until(lambda: slots.active is not None and new in slots.active.members)
            assert slots.active is not None
            assert D1 in slots.active.members

    asyncio.run(go())
