"""The scheduler's members: who answers, who they are, and which one a request goes to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from . import member
from .options import Options
from .refusal import RefusalError
from .tables import Role, Server, Tables

POLL = 1.0
"""Seconds between two looks at every member's health."""
LOOK = ClientTimeout(total=2)
FIRST_LOOK = ClientTimeout(total=10)
GAUGES = {"FreeKVFirst": "vllm:kv_cache_usage_perc", "BLB": "vllm:num_requests_waiting"}
"""What a routing policy wants little of."""
FAILURES = (ClientError, OSError)
"""What a member that cannot be talked to makes of a request."""


@dataclass(eq=False)
class Member:
    """One instance. ``running`` counts the requests that the scheduler has there now."""

    role: Role
    server: Server
    port: int
    up: bool = True
    running: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.server.server_ip}:{self.port}"

    def __str__(self) -> str:
        """Return it as a message names it."""
        return f"{self.role} {self.server} at {self.server.server_ip}:{self.port}"


def members(tables: Tables, node_ports: str) -> list[Member]:
    """Give each member of the table its port, in the table's order. Raises RefusalError."""
    ports = node_ports.split(",")
    if not all(port.isdecimal() and 0 < int(port) < 65536 for port in ports):
        raise RefusalError(f"NODE_PORTS is {node_ports!r}, not ports with commas between them")
    wanted = tables.members
    if len(ports) != len(wanted):
        counts = f"{len(tables.prefill)} prefill and {len(tables.decode)} decode instances"
        raise RefusalError(f"NODE_PORTS {node_ports} has {len(ports)} ports for {counts}")
    return [
        Member(role, server, int(port))
        for (role, server), port in zip(wanted, ports, strict=True)
    ]  # fmt: skip


async def meet(
    session: ClientSession, found: Sequence[Member], tables: Tables, options: Options | None
) -> list[str]:
    """Ask every member who it is; return the names of the model that all have.

    options: the scheduler's, whose model name the members must have. Raises RefusalError.
    """
    answers = await asyncio.gather(*(_identity(session, each) for each in found))
    for each, answer in zip(found, answers, strict=True):
        if isinstance(answer, str):
            text = f"{each} does not answer: {answer}"
            raise RefusalError(f"{text}. Start prefill and decode first, the scheduler after them")
        says = f"{answer['role']} {answer['server']}"
        if says != f"{each.role} {each.server}":
            ports = ",".join(str(member.port) for member in found)
            text = f"NODE_PORTS {ports} is not in the order of the global table"
            raise RefusalError(f"{text}: {each} is in truth {says}")
        if answer["global_sha256"] != tables.digest:
            raise RefusalError(f"{each} was started with another global rank table")
        models = answer["models"]
        if options and not set(options.model_names) <= set(models):
            text = f"{each} serves {', '.join(models)}, the scheduler is to serve"
            raise RefusalError(f"{text} {', '.join(options.model_names)}")
    first: dict[str, list[str]] = next(answer for answer in answers if isinstance(answer, dict))
    return first["models"]


async def _identity(session: ClientSession, each: Member) -> dict[str, Any] | str:
    """Return what a member says of itself, or why it says nothing."""
    try:
        async with session.get(f"{each.url}{member.PATH}", timeout=FIRST_LOOK) as answer:
            if answer.status != 200:
                return f"HTTP {answer.status}, it is no instance of this kind"
            document: dict[str, Any] = await answer.json()
            return document
    except (*FAILURES, ValueError) as error:
        return str(error) or type(error).__name__


class Fleet:
    """Chooses members, and knows which of them are up."""

    def __init__(self, session: ClientSession, members: Sequence[Member], policy: str) -> None:
        """policy: one of options.ROUTING."""
        self.members = members
        self._session = session
        self._policy = policy
        self._turn = 0

    def up(self, role: Role, without: Collection[Member] = ()) -> list[Member]:
        """Return the members of a role that answer, in the table's order."""
        return [m for m in self.members if m.role == role and m.up and m not in without]

    @property
    def ready(self) -> bool:
        """Tell whether a request can be served."""
        return bool(self.up("prefill") and self.up("decode"))

    async def watch(self) -> None:
        """Keep looking at every member's health."""
        while True:
            await asyncio.gather(*(self._look(each) for each in self.members))
            await asyncio.sleep(POLL)

    async def prefill(self, without: Collection[Member]) -> Member | None:
        """Choose by the policy; None when nobody is left."""
        candidates = self.up("prefill", without)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        name = GAUGES.get(self._policy)
        if name is None:
            chosen = candidates[self._turn % len(candidates)]
            self._turn += 1
            return chosen
        values = await asyncio.gather(*(self._gauge(each, name) for each in candidates))
        return _least(dict(zip(candidates, values, strict=True)))

    def decode(self, without: Collection[Member]) -> Member | None:
        """Choose the one with the fewest requests; None when nobody is left."""
        candidates = self.up("decode", without)
        return _least({each: each.running for each in candidates}) if candidates else None

    async def _look(self, each: Member) -> None:
        """Ask one member for its health."""
        try:
            async with self._session.get(f"{each.url}/health", timeout=LOOK) as answer:
                up = answer.status == 200
        except FAILURES:
            up = False
        if up != each.up:
            print(f"{each} is {'up' if up else 'down'}", flush=True)
        each.up = up

    async def _gauge(self, each: Member, name: str) -> float:
        """Return a number of a member's metrics; one that does not tell is chosen last."""
        try:
            async with self._session.get(f"{each.url}/metrics", timeout=LOOK) as answer:
                return gauge(await answer.text(), name)
        except (*FAILURES, LookupError):
            return float("inf")


def gauge(text: str, name: str) -> float:
    """Return the sum of a gauge's samples in a Prometheus text. Raises LookupError."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    if not lines:
        raise LookupError(name)
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _least(values: dict[Member, float]) -> Member:
    """Return one of those with the least, at random."""
    least = min(values.values())
    return random.choice([each for each, value in values.items() if value == least])
