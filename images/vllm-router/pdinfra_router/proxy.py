"""pdinfra's own proxy, for connectors that vllm-router does not speak."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import ClientError, ClientSession
from multidict import CIMultiDict

from pdinfra_router.backend import Answer, Call, UnavailableError
from pdinfra_router.exchange import LegError, ask, exchange
from pdinfra_router.figures import Figures
from pdinfra_router.policy import Policy
from pdinfra_router.protocols import REQUEST_ID, Message, Order, Protocol
from pdinfra_router.seats import Seat
from pdinfra_router.shortest import refusal
from pdinfra_router.watch import Watch

TRIES = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rules:
    """``policy`` makes one for each role; prompts of fewer tokens than the least are refused."""

    policy: Callable[[], Policy]
    min_prompt_tokens: int


class Proxy:
    """Answers by way of a prefill and a decode, or of a mixed member.

    Until the first byte of a stream, or the whole of another answer, a request goes to other
    members when one fails. After that a failure breaks the answer off.
    """

    def __init__(
        self,
        watch: Watch,
        session: ClientSession,
        protocol: Protocol,
        rules: Rules,
        figures: Figures,
    ) -> None:
        """Ask who serves of ``watch``."""
        self._watch = watch
        self._session = session
        self._protocol = protocol
        self._rules = rules
        self._figures = figures
        self._prefills = rules.policy()
        self._decodes = rules.policy()
        self._in_hand = 0

    async def watch(self, seconds: float) -> None:
        """Follow the members until cancelled."""
        await self._watch.watch(seconds)

    async def finish(self, seconds: float) -> None:
        """Wait for the requests that are being answered, at most so long."""
        until = time.monotonic() + seconds
        while self._in_hand and time.monotonic() < until:
            await asyncio.sleep(0.1)

    def state(self) -> dict[str, Any]:
        """Return who serves and what is in the way."""
        return {**self._watch.state(), "in_flight": self._in_hand}

    async def metrics(self) -> bytes:
        """Return Prometheus text."""
        return self._figures.text(self._watch.seats)

    def stop(self) -> None:
        """Nothing was started."""

    def open(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """Return the answer as it comes. Raises UnavailableError before its first byte."""
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Answer]:
        """Count what becomes of a request."""
        began = time.monotonic()
        self._in_hand += 1
        outcome = _Outcome()
        try:
            with outcome.told():
                async with self._tried(call) as answer:
                    if call.document is not None:
                        self._figures.first_byte_seconds.observe(time.monotonic() - began)
                    outcome.name = f"{answer.status // 100}xx"
                    yield replace(answer, chunks=outcome.of(answer.chunks))
        finally:
            self._in_hand -= 1
            self._figures.requests.labels(outcome.name).inc()

    @asynccontextmanager
    async def _tried(self, call: Call) -> AsyncIterator[Answer]:
        """Try members until one's answer has begun; each that fails is asked once."""
        failed: list[LegError] = []
        async with AsyncExitStack() as stack:
            while True:
                try:
                    answer = await stack.enter_async_context(
                        self._once(call, {error.seat for error in failed})
                    )
                    break
                except LegError as error:
                    log.warning("%s: %s", call.request_id, error)
                    failed.append(error)
                    self._figures.retries.labels(error.seat.member.id).inc()
                    if len(failed) < TRIES:
                        continue
                except UnavailableError:
                    if not failed:
                        raise
                answer = _last(failed)
                break
            yield answer

    @asynccontextmanager
    async def _once(self, call: Call, failed: set[Seat]) -> AsyncIterator[Answer]:
        """Choose members and ask them. Raises LegError, UnavailableError."""
        with ExitStack() as stack:

            def chosen(policy: Policy, *roles: str) -> Seat:
                seats = [seat for seat in self._watch.serving(*roles) if seat not in failed]
                if not seats:
                    raise UnavailableError(f"no {' or '.join(roles)} member answers now")
                seat = policy(seats)
                stack.enter_context(seat.reserved())
                return seat

            last = chosen(self._decodes, "decode", "mixed")
            if call.document is None or last.member.role == "mixed":
                async with self._direct(call, last) as answer:
                    yield answer
                return
            first = chosen(self._prefills, "prefill")
            order = Order(call.path, call.headers, call.body, call.document, call.request_id)
            least = self._rules.min_prompt_tokens
            if refused := await refusal(self._session, first, order, least):
                yield refused.answer()
                return
            began = time.monotonic()

            def prefilled() -> None:
                self._figures.prefill_seconds.observe(time.monotonic() - began)

            async with exchange(
                self._session, self._protocol, order, first, last, prefilled
            ) as answer:
                yield answer

    def _direct(self, call: Call, seat: Seat) -> AbstractAsyncContextManager[Answer]:
        """Ask one member as the client did."""
        headers = CIMultiDict(call.headers)
        headers[REQUEST_ID] = call.request_id
        return ask(self._session, seat, call.method, call.path, Message(headers, call.body))


def _last(failed: list[LegError]) -> Answer:
    """Return an engine's own error, if one had any. Raises UnavailableError."""
    answers = [error.answer for error in failed if error.answer]
    if not answers:
        raise UnavailableError("no member answered this request") from failed[-1]
    return answers[-1].answer()


class _Outcome:
    """What becomes of one request: an answer's class, or what ended it before."""

    def __init__(self) -> None:
        """Nobody answered yet."""
        self.name = "unavailable"

    @contextmanager
    def told(self) -> Iterator[None]:
        """Note a client that went away."""
        try:
            yield
        except (asyncio.CancelledError, ConnectionError):
            if self.name != "broken":
                self.name = "cancelled"
            raise

    async def of(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Note an answer that breaks off."""
        try:
            async for chunk in chunks:
                yield chunk
        except ClientError:
            self.name = "broken"
            raise
