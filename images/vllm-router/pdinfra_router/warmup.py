"""Tiny completions of the router's own, before a member gets traffic and while it has none."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import ClientSession
from multidict import CIMultiDict

from pdinfra_router.exchange import LegError, Whole, exchange, read
from pdinfra_router.protocols import REQUEST_ID, Message, Order, Protocol
from pdinfra_router.seats import Seat

PATH = "/v1/completions"
TOKEN_BYTES = 64
"""No text of so many bytes is a single token of a vocabulary in use."""
ANSWER_SECONDS = 40.0
"""A pair's first request waits up to 30 s: NIXL's lease after a crash, UCX's first transfer."""
QUICK_SECONDS = 5.0
"""A pair that is warm answers a tiny prompt within 1 s on two cores (measured)."""
TRIES = 3


class WarmUp:
    """Asks members for one token, with a prompt that nobody has in a cache."""

    def __init__(self, session: ClientSession, protocol: Protocol, min_prompt_tokens: int) -> None:
        """Keep every prompt longer than so many tokens."""
        self._session = session
        self._protocol = protocol
        self._words = "a tiny prompt of the router " * (2 + max(0, min_prompt_tokens) * 3)

    async def pair(self, one: Seat, other: Seat) -> str:
        """Hand a completion through a pair until that is quick; return what went wrong."""
        return await _until_quick(lambda: self._through(*_in_order(one, other)))

    async def alone(self, seat: Seat) -> str:
        """Ask one member, if its connector allows that; return what went wrong."""
        if not self._protocol.alone and seat.member.role != "mixed":
            return ""
        return await _until_quick(lambda: self._direct(seat))

    async def probe(self, seat: Seat, partner: Seat | None) -> None:
        """Ask for one token: an engine that is alive gives a sign. Raises LegError."""
        if self._protocol.alone or seat.member.role == "mixed":
            await self._direct(seat)
        elif partner is not None:
            await self._through(*_in_order(seat, partner))

    async def _direct(self, seat: Seat) -> Whole:
        """Ask one member."""
        order = self._order(seat)
        message = Message(CIMultiDict({REQUEST_ID: order.request_id, **order.headers}), order.body)
        return await read(self._session, seat, "POST", order.path, message)

    async def _through(self, prefill: Seat, decode: Seat) -> Whole:
        """Ask a pair."""
        order = self._order(decode)
        async with exchange(self._session, self._protocol, order, prefill, decode) as answer:
            body = b"".join([chunk async for chunk in answer.chunks])
            return Whole(answer.status, answer.headers, body)

    def _order(self, seat: Seat) -> Order:
        """Return a completion of one token."""
        name = uuid.uuid4().hex
        document = {
            "model": seat.model,
            "prompt": f"{name} {self._words}",
            "max_tokens": 1,
            "temperature": 0,
        }
        headers = CIMultiDict({"Content-Type": "application/json"})
        return Order(PATH, headers, json.dumps(document).encode(), document, f"pdinfra-{name}")


def _in_order(one: Seat, other: Seat) -> tuple[Seat, Seat]:
    """Return prefill and decode."""
    return (one, other) if one.member.role == "prefill" else (other, one)


async def _until_quick(attempt: Callable[[], Awaitable[Whole]]) -> str:
    """Try until an answer comes quickly; slow ones are enough at last, a loaded engine is slow."""
    fault = ""
    for _ in range(TRIES):
        started = time.monotonic()
        fault = await _fault(attempt)
        if not fault and time.monotonic() - started < QUICK_SECONDS:
            break
    return fault


async def _fault(attempt: Callable[[], Awaitable[Whole]]) -> str:
    """Try once; return what went wrong."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await attempt()
    except LegError as error:
        return f"warm-up: {error}"
    except TimeoutError:
        return f"warm-up: no answer within {ANSWER_SECONDS:.0f} s"
    return "" if answer.status == 200 else f"warm-up: answered {answer.status}"
