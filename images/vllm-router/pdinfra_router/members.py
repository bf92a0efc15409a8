"""Members of the service: the file that names them, and whether they answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

HEALTH_TIMEOUT = ClientTimeout(total=2)


@dataclass(frozen=True)
class Member:
    """One engine; ``role`` is prefill, decode or mixed.

    ``kv`` is where its connector is asked for KV, if a request must name it: ``address:port`` of
    P2pNcclConnector, the URL of MooncakeConnector's bootstrap server on prefill; else empty.
    """

    id: str
    role: str
    url: str
    kv: str = ""


def read(path: Path) -> tuple[Member, ...]:
    """Return the members that the file names. Raises OSError, ValueError, KeyError, TypeError."""
    document: Any = json.loads(path.read_text(encoding="utf-8"))
    return tuple(Member(m["id"], m["role"], m["url"], m.get("kv", "")) for m in document["members"])


def serves(members: Iterable[Member]) -> bool:
    """Tell whether requests can be answered: a prefill and a decode, or a mixed one."""
    roles = {member.role for member in members}
    return "mixed" in roles or {"prefill", "decode"} <= roles


def arguments(members: Sequence[Member]) -> list[str]:
    """Return the members as vllm-router 0.1.17 takes them."""
    mixed = [member.url for member in members if member.role == "mixed"]
    if mixed:
        return ["--worker-urls", *mixed]
    words = ["--vllm-pd-disaggregation"]
    for member in members:
        words += [f"--{member.role}", member.url]
    return words


async def answering(session: ClientSession, members: Sequence[Member]) -> set[Member]:
    """Return the members whose /health is 200 now; all are asked at once."""
    answers = await asyncio.gather(*(_healthy(session, member) for member in members))
    return {member for member, well in zip(members, answers, strict=True) if well}


async def _healthy(session: ClientSession, member: Member) -> bool:
    """Ask one member."""
    try:
        async with session.get(f"{member.url}/health", timeout=HEALTH_TIMEOUT) as answer:
            return answer.status == 200
    except (ClientError, TimeoutError, OSError):
        return False
